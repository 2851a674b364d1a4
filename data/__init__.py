"""Detection datasets of images and event recordings, their loaders and checks.

`create_dataset(name, split, ...)` builds a registered dataset, `train_loader` and `eval_loader` batch it. Subpackages:
images (COCO, VOC, YOLO), events (Gen1, 1Mpx, N-Caltech101, RVT), recordings (readers of event files), representations
(events -> tensors), scenes (synthetic data). Modules in this package are imported automatically.
"""

from registry import import_modules

from .dataset import DetectionDataset, Input
from .images.image_file import read_image
from .input import input_from_plain
from .loader import eval_loader, train_loader
from .problems import Problem, Problems
from .registry import create_dataset, dataset_arguments, list_datasets, register_dataset
from .sample import Batch, Placement, Sample
from .statistics import overview

__all__ = [
    "Batch",
    "DetectionDataset",
    "Input",
    "Placement",
    "Problem",
    "Problems",
    "Sample",
    "create_dataset",
    "dataset_arguments",
    "eval_loader",
    "input_from_plain",
    "list_datasets",
    "overview",
    "read_image",
    "register_dataset",
    "train_loader",
]

import_modules(__name__, __path__, but=["check"])  # a command
