"""Datasets of pictures and event recordings. Every file here that registers a dataset is found by itself."""

import importlib
import pkgutil

from .dataset import DetectionDataset
from .loader import eval_loader, train_loader
from .problems import Problem, Problems
from .registry import create_dataset, list_datasets, register_dataset
from .sample import Batch, Placement, Sample
from .statistics import overview

__all__ = [
    "Batch",
    "DetectionDataset",
    "Placement",
    "Problem",
    "Problems",
    "Sample",
    "create_dataset",
    "eval_loader",
    "list_datasets",
    "overview",
    "register_dataset",
    "train_loader",
]

for _module in pkgutil.iter_modules(__path__):
    if _module.name != "check":  # a command, not a part
        importlib.import_module(f"{__name__}.{_module.name}")
