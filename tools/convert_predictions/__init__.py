"""Predictions for other tools: Label Studio, CVAT, FiftyOne."""
