"""Files of an evaluation: its plots, its report and json, and the lines printed at its end."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from torch import Tensor
from torchvision.io import write_png

from analysis.plots.confidence import plot_confidence
from analysis.plots.confusion import plot_confusion
from analysis.plots.firing_rates import plot_firing_rates
from analysis.plots.precision_recall import plot_precision_recall
from analysis.report import report
from scoring.evaluator import Evaluator
from scoring.protocols import get_protocol
from scoring.voc_ap import precision_recall

from ..metrics_table import table
from .breakdown import Breakdown


def plot(evaluator: Evaluator, breakdown: Breakdown, metrics: dict[str, Any], source: str, out: Path) -> None:
    """Plot precision, recall, F1 and the confusion matrix of the boxes that the protocol counts, and firing rates."""
    truth, found = get_protocol(metrics["protocol"]).counted(*evaluator.truth_and_detections())
    title = f"split {metrics['split']}, protocol {metrics['protocol']}: {source}"
    plot_precision_recall(
        precision_recall(truth, found), out / "precision_recall.png", title, metrics["per_class_AP50"]
    )
    plot_confusion(truth, found, out / "confusion.png", title)
    plot_confidence(breakdown.content["confidence"], out / "confidence.png", title, breakdown.content["iou_threshold"])
    if metrics.get("firing_rates"):
        plot_firing_rates(metrics["firing_rates"], out / "firing_rates.png", title)


def write_images(kind: str, images: dict[int, Tensor], out: Path) -> None:
    """pictures/<kind>_<image id>.png of images uint8 [3, H, W]."""
    (out / "pictures").mkdir(exist_ok=True)
    for image_id, image in images.items():
        write_png(image, str(out / "pictures" / f"{kind}_{image_id}.png"))


def write_firing_rates(metrics: dict[str, Any], out: Path) -> None:
    """firing_rates.csv: a row per layer in the order of the network, with the shares of signs where there are any."""
    if not (rates := metrics.get("firing_rates")):
        return
    shares = metrics.get("spike_shares", {})
    signs = ["+1", "0", "-1"] if shares else []
    with open(out / "firing_rates.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["layer", "firing_rate", *(f"share_of_{sign}" for sign in signs)])
        for layer, rate in rates.items():
            rows.writerow([layer, rate, *(shares.get(layer, {}).get(sign, "") for sign in signs)])


def write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1 if path.name == "metrics.json" else None) + "\n")


def write_report(folder: Path) -> None:
    """report.html, from the files that are in `folder` already."""
    (folder / "report.html").write_text(report(folder), encoding="utf-8")


def print_table(
    metrics: dict[str, Any], earlier: dict[str, Any] | None, out: Path, energy: dict[str, Any] | None = None
) -> None:
    """Print the table, and of an `earlier` evaluation that it was replaced. energy: content of energy.json."""
    if earlier and "provenance" in earlier:
        epochs = f" of epoch {earlier['epochs']}" if "epochs" in earlier else ""
        print(f"{out}: replaced the same evaluation{epochs}, of {earlier['provenance']['date']}")
    print(table(metrics, out, energy))
