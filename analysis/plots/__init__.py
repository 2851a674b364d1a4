"""Plots as png files, one of them in each module."""
