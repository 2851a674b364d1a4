"""Checkpoints as they are read: checked files of tensors and plain values, and the detector that one holds."""

from .load import load_detector

__all__ = ["load_detector"]
