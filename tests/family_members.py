"""One small model of each file of `models/families`, without its learned sampler: {file: model's name}."""

import torch

from models import create_model, list_models
from models.detector import Detector
from models.registry import MODELS, model_defaults

MEMBERS = {
    "double_threshold": "double_threshold_tiny",
    "eas_snn": "eas_snn_s",
    "ems_yolo": "ems_resnet10_ee",
    "spikeyolo": "spikeyolo_n",
    "spiking_yolo": "spiking_yolo",
    "spiking_yolov3": "spiking_yolov3",
    "spiking_yolox": "spiking_yolox_nano",
}
assert set(MEMBERS) == {MODELS[name].__module__.rpartition(".")[2] for name in list_models()}


def member(name: str, seed: int = 0, **kwargs) -> Detector:
    """In training mode, at an eighth of the width, where the model has a width."""
    torch.manual_seed(seed)
    small = {"width": 0.125} if "width" in model_defaults(name) else {}
    return create_model(name, **{"num_classes": 3, "T": 2, "in_channels": 3} | small | kwargs).train()


def targets() -> list[dict[str, torch.Tensor]]:
    boxes = torch.tensor([[4.0, 6.0, 40.0, 50.0], [30.0, 10.0, 60.0, 30.0]])
    nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    return [{"boxes": boxes, "labels": torch.tensor([0, 2])}, nothing]
