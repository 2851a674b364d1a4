"""Precision, recall and F1 over the confidence, and the threshold of best F1, of each class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .voc_ap import Curve

THRESHOLDS = np.linspace(0, 1, 101)
FIGURES = ("precision", "recall", "f1")


def by_confidence(curves: Mapping[str, Curve]) -> dict[str, Any]:
    """Precision TP / (TP + FP), recall TP / (TP + FN) and F1 = 2 TP / (2 TP + FP + FN) of the detections whose score is
    a threshold or more.

    curves: {class name: `voc_ap.precision_recall`}. Returns plain values:
        thresholds  0, 0.01 .. 1
        classes     {name: {"precision", "recall", "f1"}} at each; None: of nothing detected, or without truth
        best        {name: `best_threshold`}
        mean        of all classes with truth, at each threshold; precision of those that have one
        best_mean   the highest of `thresholds` with the largest mean F1, and all three there
    """
    classes = {name: _at(curve, THRESHOLDS) for name, curve in curves.items()}
    with_truth = [of for name, of in classes.items() if curves[name].positives]
    mean = {figure: _mean([of[figure] for of in with_truth]) for figure in FIGURES}
    best_mean: dict[str, float | None] = {"threshold": None, **dict.fromkeys(FIGURES)}
    f1 = np.array([np.nan if v is None else v for v in mean["f1"]])
    if np.nan_to_num(f1).max(initial=0) > 0:
        k = int(np.flatnonzero(f1 == np.nanmax(f1))[-1])  # the highest of equal ones
        best_mean = {"threshold": float(THRESHOLDS[k]), **{figure: mean[figure][k] for figure in FIGURES}}
    return {
        "thresholds": THRESHOLDS.tolist(),
        "classes": classes,
        "best": {name: best_threshold(curve) for name, curve in curves.items()},
        "mean": mean,
        "best_mean": best_mean,
    }


def best_threshold(curve: Curve) -> dict[str, float | int | None]:
    """The score of largest F1, the highest of equal ones, with precision, recall and F1 of detections from that score
    on, and the number of true and of all of them; None where nothing true is detected. boxes: of the truth."""
    if not curve.positives or not curve.is_true.any():
        none = dict.fromkeys(("threshold", *FIGURES, "true", "detections"))
        return {**none, "boxes": curve.positives}
    last = np.r_[np.diff(curve.scores) != 0, True]  # of equal scores: a threshold takes all or none
    ends = np.flatnonzero(last)
    true, found = np.cumsum(curve.is_true)[ends], ends + 1
    f1 = 2 * true / (found + curve.positives)
    k = int(f1.argmax())
    return {
        "threshold": float(curve.scores[ends[k]]),
        "precision": float(true[k] / found[k]),
        "recall": float(true[k] / curve.positives),
        "f1": float(f1[k]),
        "true": int(true[k]),
        "detections": int(found[k]),
        "boxes": curve.positives,
    }


def _at(curve: Curve, thresholds: np.ndarray) -> dict[str, list[float | None]]:
    true, false = curve.counts(thresholds)
    found = true + false
    unknown: list[float | None] = [None] * len(thresholds)
    precision = [float(t / n) if n else None for t, n in zip(true, found, strict=True)]
    if not curve.positives:
        return {"precision": precision, "recall": unknown, "f1": unknown}
    recall, f1 = true / curve.positives, 2 * true / (found + curve.positives)
    return {"precision": precision, "recall": recall.tolist(), "f1": f1.tolist()}


def _mean(rows: list[list[float | None]]) -> list[float | None]:
    defined = [[v for v in column if v is not None] for column in zip(*rows, strict=True)]
    means = [float(np.mean(column)) if column else None for column in defined]
    return means or [None] * len(THRESHOLDS)


RECALLS = THRESHOLDS


def by_recall(curves: Mapping[str, Curve]) -> dict[str, Any]:
    """{"recall": 0, 0.01 .. 1, "classes": {name: the largest precision at that recall or more, 0 where it is not
    reached; None without truth}, "mean": of all classes with truth}. Arguments as of `by_confidence`."""
    classes = {name: _over_recall(curve) for name, curve in curves.items()}
    mean = _mean([values for name, values in classes.items() if curves[name].positives])
    return {"recall": RECALLS.tolist(), "classes": classes, "mean": mean}


def _over_recall(curve: Curve) -> list[float | None]:
    if not curve.positives:
        return [None] * len(RECALLS)
    best = np.maximum.accumulate(curve.precision[::-1])[::-1]
    return np.r_[best, 0.0][np.searchsorted(curve.recall, RECALLS - 1e-9)].tolist()
