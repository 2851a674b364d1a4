"""Prediction: run a checkpoint on images, videos, cameras and recordings, draw what it finds, and write it down."""
