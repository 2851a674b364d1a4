"""Trained detectors in other forms: fused, on binary spikes, and ANNs converted to spiking networks."""

from .bias import calibrate_bias
from .calibrate import calibrate
from .convert import convert
from .converted import ConvertedDetector
from .fold import fold_bn
from .normalise import normalise
from .scales import ScaleTable
from .simulate import Simulation, simulate

__all__ = [
    "ConvertedDetector",
    "ScaleTable",
    "Simulation",
    "calibrate",
    "calibrate_bias",
    "convert",
    "fold_bn",
    "normalise",
    "simulate",
]
