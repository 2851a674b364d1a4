"""Files of an evaluation: its plots and json, and the lines printed at its end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from analysis.plots import plot_confusion, plot_precision_recall
from scoring.evaluator import Evaluator
from scoring.protocols import get_protocol
from scoring.voc_ap import precision_recall

from ..metrics_table import table


def plot(evaluator: Evaluator, metrics: dict[str, Any], source: str, out: Path) -> None:
    """Plot precision-recall curves and the confusion matrix of the boxes that the protocol counts."""
    truth, found = get_protocol(metrics["protocol"]).counted(*evaluator.truth_and_detections())
    title = f"split {metrics['split']}, protocol {metrics['protocol']}: {source}"
    plot_precision_recall(
        precision_recall(truth, found), out / "precision_recall.png", title, metrics["per_class_AP50"]
    )
    plot_confusion(truth, found, out / "confusion.png", title)


def write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1 if path.name == "metrics.json" else None) + "\n")


def report(
    metrics: dict[str, Any], earlier: dict[str, Any] | None, out: Path, energy: dict[str, Any] | None = None
) -> None:
    """Print the table, and of an `earlier` evaluation that it was replaced. energy: content of energy.json."""
    if earlier and "provenance" in earlier:
        epochs = f" of epoch {earlier['epochs']}" if "epochs" in earlier else ""
        print(f"{out}: replaced the same evaluation{epochs}, of {earlier['provenance']['date']}")
    print(table(metrics, out, energy))
