"""AP of an exported file: one function for export.py and for users."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from data import DetectionDataset, eval_loader
from models.contracts import Head
from registry import UserError
from scoring.evaluator import Evaluator

from ..evaluation import evaluate


def score_file(path: str | Path, head: Head, dataset: DetectionDataset, protocol: str = "coco") -> dict[str, Any]:
    """AP of an ONNX file on a dataset, in onnxruntime on the CPU; as `Evaluator.score`.

    head: of its detector (`open_run(CHECKPOINT).model.head`), for the selection of detections.
    """
    from models.deploy.onnx_graph.session import OnnxDetector, Session

    return score(OnnxDetector(Session(path), head), dataset, protocol)


def score(detector: nn.Module, dataset: DetectionDataset, protocol: str, batch_size: int = 1) -> dict[str, Any]:
    """AP of a detector, which is called with batches of `batch_size` and gives detections, in float32 on the CPU."""
    require_independent(dataset)
    evaluator = Evaluator(dataset.ground_truth(), dataset.expected_images)
    loader = eval_loader(dataset, batch_size)
    evaluate(lambda x, batch: [detector(x)], loader, [evaluator], torch.device("cpu"))
    return evaluator.score(protocol)


def require_independent(dataset: DetectionDataset) -> None:
    """UserError for windows that follow each other."""
    if dataset.sequences is not None:
        raise UserError(
            "data.args.sampling = sequential: an exported network begins every window in the reset state, and carries "
            "no membranes. Score it on independent windows: data.args.sampling=random"
        )
