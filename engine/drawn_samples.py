"""Draw samples of a dataset: truth beside scored detections, when event frames close, the worst images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from analysis.closing import closing_bins, closing_image
from analysis.draw import side_by_side
from analysis.worst_image import draw_mistakes
from data import DetectionDataset
from data.sample import Sample, collate
from models import Detector
from models.contracts import ClosesFrames
from scoring.evaluator import Evaluator
from scoring.mistakes import Mistakes


def draw_samples(
    evaluator: Evaluator, dataset: DetectionDataset, count: int, draw: Callable[..., Tensor] = side_by_side
) -> dict[int, Tensor]:
    """{image id: uint8 [3, H, W]} of `count` samples spread evenly over the dataset, the same ones each time, drawn by
    `draw`, one of `analysis.draw.side_by_side` and `overlay`.

    The detections are those in `evaluator`: of a sequential dataset, those found with carried membranes. In place of an
    unlabelled sample the next labelled one is drawn.
    """
    images = {}
    for sample in chosen_samples(dataset, count):
        if (found := evaluator.found(sample.image_id)) is None:
            continue
        prediction = {**found, "boxes": sample.placement.to_sample(found["boxes"])}
        shown = dataset.view(sample.x)
        if shown.dim() == 4 and shown.shape[1] == 3:  # images over time: the last one
            shown = shown[-1]
        truth = {"boxes": sample.boxes, "labels": sample.labels}
        images[sample.image_id] = draw(shown, truth, prediction, dataset.class_names)
    return images


def draw_closing(model: Detector, dataset: DetectionDataset, count: int, device: torch.device) -> dict[int, Tensor]:
    """{image id: uint8 [3, H, W]} of the same samples: when the event frames of each window close, pixel by pixel, each
    window from rest. Empty for a model whose encoder closes no frames."""
    images: dict[int, Tensor] = {}
    if not isinstance(model.encoder, ClosesFrames):
        return images
    for sample in chosen_samples(dataset, count):
        x, _ = collate([sample], dataset.scale).to(device)
        if x.dim() != 6 or (found := closing_bins(model, x)) is None:
            break
        closed, bins = found
        images[sample.image_id] = closing_image(dataset.view(sample.x), closed.transpose(0, 1).flatten(0, 1), bins)
    return images


def draw_worst(worst: Sequence[Mistakes], truth: dict[str, Any], dataset: DetectionDataset) -> dict[int, Tensor]:
    """{image id: uint8 [3, H, W]} of the images `worst`, of the ground truth `truth`, with their mistakes."""
    index = dict(zip((image["id"] for image in truth["images"]), dataset.labelled(), strict=True))
    images = {}
    for mistakes in worst:
        sample = dataset[index[mistakes.image_id]]
        shown = dataset.view(sample.x)
        if shown.dim() == 4 and shown.shape[1] == 3:  # images over time: the last one
            shown = shown[-1]
        images[mistakes.image_id] = draw_mistakes(shown, mistakes, truth["categories"], sample.placement.to_sample)
    return images


def chosen_samples(dataset: DetectionDataset, count: int) -> Iterator[Sample]:
    """`count` labelled samples spread evenly over the dataset, the same ones each time."""
    for index in torch.linspace(0, len(dataset) - 1, max(0, min(count, len(dataset)))).long().tolist():
        sample = dataset[index]
        while not sample.labelled:  # every recording ends at a label; a damaged image has none
            sample = dataset[index := (index + 1) % len(dataset)]
        yield sample
