"""Make report.html of the folder of an evaluation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .conditions import conditions
from .cost import cost, firing
from .evaluated import evaluated, headline
from .page import Section, page
from .scores import ap_table, confusion, curves, sizes, worst


def report(folder: Path) -> str:
    """HTML from `metrics.json` and `breakdown.json` of an evaluation with --report or --plots, `energy.json` and
    `pictures/worst_*.png` where they are there. Every figure is one of these files.

    Text in them, such as names of classes and files, is escaped. The page has no scripts and loads nothing.
    """
    metrics, breakdown = _read(folder / "metrics.json"), _read(folder / "breakdown.json")
    energy = _read(folder / "energy.json") if (folder / "energy.json").exists() else None
    sections = [
        Section("what", "What was evaluated", evaluated(metrics)),
        Section("ap-section", "AP", ap_table(metrics)),
        Section("curves", "Precision, recall and F1", curves(metrics, breakdown)),
        Section("sizes", "Size of boxes", sizes(metrics)),
        Section("confusion-section", "Confusion", confusion(breakdown)),
        Section("conditions", "AP against time, energy, noise, history, windows", conditions(metrics)),
        Section("worst-section", "Worst images", worst(metrics, folder / "pictures")),
        Section("firing-section", "Firing rates", firing(metrics)),
        Section("cost", "Operations and energy", cost(metrics, energy)),
    ]
    name = metrics.get("model", "Detections")
    return page(f"{name} on {metrics['split']}, protocol {metrics['protocol']}", headline(metrics), sections)


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())
