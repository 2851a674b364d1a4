"""A `Trainer` of a second: a network with dropout and BatchNorm on eight images, its score the mean output."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from data.loader import eval_loader, train_loader
from data.sample import Sample
from engine.ema import build_ema
from engine.generators import seed_everything
from engine.loop import Update
from engine.optim import Schedule, build_optimizer
from engine.trainer import Trainer
from engine.validation import Validation
from engine.wrap import Execution


class Images:
    """8 images of noise, one box each."""

    sequences, scale, class_names = None, 1.0, ["thing"]

    def __init__(self):
        self.x = torch.from_numpy(np.random.default_rng(0).random((8, 3, 8, 8), np.float32))
        self.boxes = torch.tensor([[1.0, 1.0, 5.0, 5.0]])

    def __len__(self):
        return len(self.x)

    def __getitem__(self, key):
        index = key[0] if isinstance(key, tuple) else key
        return Sample(self.x[index], self.boxes, torch.zeros(1, dtype=torch.int64), index, (8, 8))

    def shape_of(self, index):
        return (8, 8)

    def open_cache(self):
        pass


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.drop = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5)

    def forward(self, x, targets=None):
        y = self.drop(self.norm(self.conv(x)).relu()).flatten(1).mean(1)
        if self.training:
            return {"fit": ((y - 1) ** 2).sum()}
        return [{"boxes": torch.zeros(1, 4), "scores": v[None], "labels": torch.zeros(1)} for v in y]


class MeanScore:
    """In the place of an `Evaluator`."""

    def __init__(self):
        self.scores = []

    def add(self, outputs, batch):
        self.scores += [float(output["scores"]) for output in outputs]

    def truth_and_detections(self):
        return {"images": [], "annotations": [], "categories": []}, []

    def score(self, protocol):
        return {"AP": sum(self.scores) / len(self.scores)}


def tiny_trainer(folder: Path, epochs: int = 4, workers: int = 0, data: Images | None = None, **kwargs) -> Trainer:
    seed_everything(0)
    folder.mkdir(exist_ok=True)
    data = data or Images()
    model = Net()
    loader = train_loader(data, kwargs.pop("batch_size", 4), 0, workers)
    schedule = kwargs.pop("schedule", Schedule(0.01, 1.0, 0.9, epochs * len(loader), 0, 0.0, 0.9))

    def draw(model):
        return [torch.zeros(3, 8, 8, dtype=torch.uint8)]

    judged = {key: kwargs.pop(key) for key in ("new_evaluator", "protocol", "draw", "every", "both") if key in kwargs}
    judged = {"new_evaluator": MeanScore, "protocol": "coco", "draw": draw, **judged}
    return Trainer(
        **{
            "model": model,
            "update": Update(build_optimizer(model, "adamw", 0.01, 0.9, 0.0), schedule, build_ema(model, 0.9, 2.0)),
            "train_loader": loader,
            "validation": Validation(eval_loader(data, 4, workers), **judged),
            "folder": folder,
            "execution": Execution(torch.device("cpu")),
            "epochs": epochs,
            "identity": {
                "config": {"eval": {"protocol": "coco"}, "data": {"val_split": "val"}},
                "model_kwargs": {},
                "class_names": ["thing"],
                "judged_by": {"protocol": "coco"},
            },
            "log_every": 1,
            **kwargs,
        }
    )
