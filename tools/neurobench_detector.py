"""Detectors, datasets and protocols for the harness of NeuroBench 2.3."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from neurobench.metrics.abstract import AccumulatedMetric
from neurobench.models import NeuroBenchModel
from torch import Tensor
from torch.utils.data import DataLoader

from data import DetectionDataset, eval_loader
from data.sample import Batch
from models import Detector
from neurons import MultiStepNeuron
from scoring.evaluator import Evaluator
from scoring.protocols import get_protocol


class DetectorForNeuroBench(NeuroBenchModel):
    """A detector as NeuroBench measures it; a batch is x with the batch first, as `BatchesFirst` gives it.

    NeuroBench counts an input within -1, 0, 1 as additions and any other as multiply-accumulates, so that the integers
    of `ilif` are MACs: give `models.deploy.binary.to_binary(model)` in place of such a network.

    Args:
        model: in evaluation mode.
        head: whether its layers are counted; the rows of the leaderboard leave them out.
    """

    def __init__(self, model: Detector, head: bool = True):
        super().__init__()
        self.detector, self.head = model.eval(), head
        self.add_activation_module(MultiStepNeuron)

    @torch.no_grad()
    def __call__(self, batch: Tensor) -> list[dict[str, Tensor]]:
        return self.detector(batch.transpose(0, 1) if batch.dim() == 5 else batch)

    def __net__(self) -> Any:
        return self.detector if self.head else self.detector.network


class BatchesFirst:
    """The batches of a dataset in order, as NeuroBench takes them: (x float32, `Batch`). Event frames are
    [B, T, C, H, W] here, since it divides by the length of the first axis."""

    def __init__(self, dataset: DetectionDataset, batch_size: int = 8):
        self.dataset = dataset
        self.loader: DataLoader = eval_loader(dataset, batch_size)

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[tuple[Tensor, Batch]]:
        for batch in self.loader:
            x, _ = batch.to("cpu")
            yield (x.transpose(0, 1) if x.dim() == 5 else x), batch


def average_precision(dataset: DetectionDataset, protocol: str) -> type[AccumulatedMetric]:
    """A metric for `Benchmark`: AP of `dataset` under a protocol, as evaluate.py computes it.

    For 1Mpx, `prophesee_1mpx` in place of NeuroBench's CocoMap, which needs the proprietary metavision_ml, knows three
    classes at 360 x 640, and counts frames without labels: it asks whether an element of a tensor `is False`, which is
    never so.
    """
    get_protocol(protocol)

    class AP(AccumulatedMetric):
        def __init__(self) -> None:
            super().__init__(requires_hooks=False)
            self.reset()

        def reset(self) -> None:
            self.evaluator = Evaluator(dataset.ground_truth(), dataset.expected_images)
            self.left = len(dataset)

        def __call__(self, model: Any, preds: list[dict[str, Tensor]], data: tuple[Tensor, Batch]) -> float | None:
            self.evaluator.add(preds, data[1])
            self.left -= len(preds)
            return self.compute() if self.left == 0 else None

        def compute(self) -> float | None:
            return self.evaluator.score(protocol)["AP"]

    return AP
