"""Files of a run: their names, the marker that identifies a run folder, and their removal. No other file is removed."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from .lock import LOCK

MARKER = ".spikesight_run"
# Checkpoints: the newest and the one before it, that of the best score, those of `train.keep_every`; and the name that
# a damaged one is given.
LAST, PREVIOUS, BEST = "checkpoint_last.pt", "checkpoint_previous.pt", "checkpoint_best.pt"
KEPT, DAMAGED = "checkpoint_epoch{}.pt", ".damaged.pt"
# What a training and convert.py write. Overwriting a run removes these and `EVALUATED`, and nothing else.
WRITTEN = (
    MARKER,
    "config.yaml",
    "provenance.jsonl",
    "metrics.jsonl",
    LAST,
    PREVIOUS,
    BEST,
    KEPT.format("[0-9]*"),
    f"checkpoint_*{DAMAGED}",
    "converted*.pt",
    "events.out.tfevents.*",
    "nonfinite_rank[0-9]*.pt",
    ".*.partial",
)
# What an evaluation writes into its folder beside METRICS, which is written last, and <kind>_<id>.png into PICTURES, a
# kind of DRAWN.
METRICS, PICTURES, DRAWN = "metrics.json", "pictures", ("image", "closing", "worst")
FIGURES = (
    "precision_recall.png", "confusion.png", "confidence.png", "firing_rates.png", "curve.png", "robustness.png",
    "history.png", "windows.png", "ap_over_energy.png",
)  # fmt: skip
SCORED = (
    "detections.json", "annotations.json", "curve.json", "robustness.json", "history.json", "windows.json",
    "energy.json", "breakdown.json", "firing_rates.csv", "report.html", *FIGURES,
)  # fmt: skip
# All of it, in the run's folder (earlier evaluations) or in any below it that has a metrics.json of ours.
EVALUATED = (METRICS, *SCORED, f"{PICTURES}/*_[0-9]*.png")


def remove_written(folder: Path) -> None:
    """Remove what a run and its evaluations wrote, and folders that are empty then. Links are removed, not followed."""
    found = folder.rglob(METRICS)  # links are not followed
    for metrics in sorted(found, key=lambda path: -len(path.parts)):  # deepest first
        if metrics.parent != folder and _is_evaluation(metrics.parent):
            _remove(metrics.parent, EVALUATED)
            _remove_empty(metrics.parent)
    _remove_empty(folder / "eval")
    _remove(folder, (*WRITTEN, *EVALUATED))


def _remove(folder: Path, patterns: tuple[str, ...]) -> None:
    for pattern in patterns:
        for path in folder.glob(pattern):
            if (path.is_symlink() or path.is_file()) and (path.parent == folder or not path.parent.is_symlink()):
                path.unlink()
    _remove_empty(folder / PICTURES)


def _remove_empty(folder: Path) -> None:
    if folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir()):
        folder.rmdir()


def _is_evaluation(folder: Path) -> bool:
    """Whether its metrics.json is one of evaluate.py, which has the entry `request`."""
    try:
        return "request" in json.loads((folder / METRICS).read_text())
    except (OSError, ValueError, TypeError):
        return False


def discard(folder: Path) -> bool | None:
    """Remove a run that has no checkpoint, so that nothing can be resumed from it. True: its folder is gone too; False:
    it holds other files; None: there is a checkpoint, and nothing was removed."""
    if any((folder / name).exists() for name in (LAST, PREVIOUS, BEST)):
        return None
    remove_written(folder)
    left = [path for path in folder.iterdir() if path.name != LOCK]
    if not left:
        (folder / LOCK).unlink(missing_ok=True)
        folder.rmdir()
    return not left


def run_name(folder: Path) -> str | None:
    """The `name` of the run in `folder`, which may be called <name>-2; None if it is not a run folder.

    Runs of versions without a marker are recognised by the sections of their config.yaml and by their logs.
    """
    try:
        if (folder / MARKER).is_file():
            return str(json.loads((folder / MARKER).read_text())["name"])
        if not any(any(folder.glob(mark)) for mark in ("metrics.jsonl", "checkpoint_*.pt", "events.out.tfevents.*")):
            return None
        config = yaml.safe_load((folder / "config.yaml").read_text())
        sections = {"name", "out", "seed", "model", "data", "optim", "train", "eval"}
        return str(config["name"]) if isinstance(config, dict) and sections <= config.keys() else None
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        return None
