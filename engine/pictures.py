"""A model's detections beside the truth, on fixed samples of a dataset."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from analysis.draw import side_by_side
from data import DetectionDataset
from models import Detector


@torch.inference_mode()
def draw_samples(
    model: Detector,
    dataset: DetectionDataset,
    device: torch.device,
    count: int,
    draw: Callable[..., Tensor] = side_by_side,
) -> list[Tensor]:
    """`count` samples spread evenly over the dataset, the same ones each time: uint8 [3, H, W], drawn by `draw`, one of
    `analysis.draw.side_by_side` and `overlay`.

    Of samples that come in sequence the labelled ones are shown; the model sees each from rest.
    """
    pictures = []
    model.eval()
    for index in torch.linspace(0, len(dataset) - 1, max(0, min(count, len(dataset)))).long().tolist():
        sample = dataset[index]
        while not sample.labelled:  # every recording ends at a label
            sample = dataset[index := index + 1]
        x = sample.x.to(device).float() * dataset.scale
        output = model(x.unsqueeze(0 if x.dim() == 3 else 1))[0]
        truth = {"boxes": sample.boxes, "labels": sample.labels}
        shown = dataset.view(sample.x)
        if shown.dim() == 4 and shown.shape[1] == 3:  # pictures over time: the last one
            shown = shown[-1]
        pictures.append(draw(shown, truth, {k: v.cpu() for k, v in output.items()}, dataset.class_names))
    return pictures
