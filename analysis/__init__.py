"""Firing rates and other statistics of layers, drawings of detections, plots of evaluations."""
