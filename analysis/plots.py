"""Plots of an evaluation: precision-recall curves per class, the confusion matrix, AP over T and over noise."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import LogLocator, NullFormatter
from torchvision.ops import box_iou

from scoring.voc_ap import is_ignored

from .draw import class_colours, legible


def plot_precision_recall(
    curves: Mapping[str, Any], path: str | Path, title: str, ap: Mapping[str, float | None], iou_threshold: float = 0.5
) -> None:
    """Write a png with one curve per class.

    curves: {class name: scoring.voc_ap.Curve} of all classes, in the order of their labels, matched at `iou_threshold`.
    title:  run, split and protocol of the evaluation.
    ap:     {class name: AP50 of the protocol}, for the legend; None for a class without truth, which has no curve.

    With more than 20 classes the ten best and the ten worst are named, each in the colour of its class, and the others
    are grey.
    """
    colours = dict(zip(curves, class_colours(len(curves)), strict=True))
    areas = {name: ap.get(name) or 0.0 for name, curve in curves.items() if curve.positives}
    by_area = sorted(areas, key=lambda name: -areas[name])
    named = by_area if len(by_area) <= 20 else by_area[:10] + by_area[-10:]
    figure = Figure(figsize=(7.5, 5), layout="constrained")
    axes = figure.add_subplot()
    lines = {}
    for name in [*(n for n in by_area if n not in named), *named]:  # grey ones below
        recall, precision = np.r_[0, curves[name].recall], np.r_[1, curves[name].precision]
        style: dict[str, Any] = {"color": "0.85", "linewidth": 0.8}
        if name in named:
            style = {"color": np.array(colours[name]) / 255, "linewidth": 1.6}
        (lines[name],) = axes.plot(recall, precision, **style)
    boxes = sum(curve.positives for curve in curves.values())
    kind = "class" if len(areas) == 1 else "classes"
    mean = f"mean AP50 {np.mean(list(areas.values())):.3f} of {len(areas)} {kind}" if areas else "no truth"
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.03))
    _title(axes, title, f"IoU ≥ {iou_threshold:g}, {boxes} boxes, {mean}")
    axes.grid(alpha=0.3)
    if areas:
        labels = [f"{areas[name]:.3f}  {legible(name)}" for name in named]
        legend = figure.legend([lines[n] for n in named], labels, loc="outside right upper", fontsize=8, frameon=False)
        verbatim(legend.get_texts())
    write_figure(figure, path)


def plot_confusion(
    ground_truth: dict[str, Any],
    detections: list[dict[str, Any]],
    path: str | Path,
    title: str,
    score_threshold: float = 0.3,
    iou_threshold: float = 0.5,
) -> None:
    """Write a png of `confusion_matrix`: counts in the cells, coloured by their share of the row.

    title: run, split and protocol of the evaluation.
    """
    names = [c["name"] for c in ground_truth["categories"]]
    counts = confusion_matrix(ground_truth, detections, score_threshold, iou_threshold)
    shares = counts / counts.sum(1, keepdims=True).clip(1)
    side = float(np.clip(1.6 + 0.55 * len(counts), 4, 22))
    figure = Figure(figsize=(side + 2, side + 0.5), layout="constrained")
    axes = figure.add_subplot()
    drawn = axes.imshow(shares, cmap="Greys", vmin=0, vmax=1)
    ticks = np.arange(len(counts))
    shown = [legible(name) for name in names]
    axes.set_xticks(ticks, [*shown, "not found"], rotation=90 if len(names) > 4 else 0)
    axes.set_yticks(ticks, [*shown, "background"])
    verbatim([*axes.get_xticklabels(), *axes.get_yticklabels()])
    for k, colour in enumerate(class_colours(len(names))):  # a bar of its class's colour at each row and column
        style: dict[str, Any] = {"color": np.array(colour) / 255, "linewidth": 5, "clip_on": False, "zorder": 3}
        axes.plot([k - 0.45, k + 0.45], [0, 0], transform=axes.get_xaxis_transform(), **style)
        axes.plot([0, 0], [k - 0.45, k + 0.45], transform=axes.get_yaxis_transform(), **style)
    axes.set(xlabel="detected as", ylabel="truth", xlim=(-0.5, len(counts) - 0.5), ylim=(len(counts) - 0.5, -0.5))
    boxes = int(counts[:-1].sum())
    _title(axes, title, f"score ≥ {score_threshold:g}, IoU ≥ {iou_threshold:g}, {boxes} boxes")
    if len(counts) <= 25:
        for (row, column), count in np.ndenumerate(counts):
            if count:
                dark = shares[row, column] > 0.5
                axes.text(column, row, str(count), ha="center", va="center", color="white" if dark else "black")
    figure.colorbar(drawn, ax=axes, label="share of the row", shrink=0.8)
    write_figure(figure, path)


def plot_curve(curve: Mapping[str, Any], path: str | Path, title: str) -> None:
    """Write a png of AP50 and AP over T, beside the ANN's, and of the spikes per neuron below.

    curve: what `engine.curve.Curve.summary` gives. title: run, split and protocol of the evaluation.
    """
    points = curve["points"]
    steps = [point["T"] for point in points]
    figure = Figure(figsize=(7.5, 6.5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    for key, colour in (("AP50", "tab:blue"), ("AP", "tab:orange")):
        if all(point[key] is None for point in points):
            continue
        values = [np.nan if point[key] is None else point[key] for point in points]
        above.plot(steps, values, "o-", color=colour, markersize=4, label=f"{key}: {values[-1]:.3f} at T = {steps[-1]}")
        if curve["ann"] and curve["ann"][key] is not None:
            ann = curve["ann"][key]
            above.axhline(ann, color=colour, linestyle="--", linewidth=1, label=f"{key} of the ANN: {ann:.3f}")
    near = curve.get("smallest_T_within_1_percent")
    if near is not None:
        above.axvline(near, color="0.5", linestyle=":", label=f"within 1 % of the ANN's AP50: T = {near}")
    above.set(ylabel="AP", ylim=(0, None))
    above.legend(fontsize=8, frameon=False)
    images = f"{curve['images']} of {curve['expected_images']} images"
    _title(above, title, images if curve["complete"] else f"{images}: unfinished")

    neurons = curve["neurons"]
    for layer, count in neurons.items():
        below.plot(steps, [point["spikes"][layer] / count for point in points], color="0.8", linewidth=0.8)
    below.plot([], [], color="0.8", linewidth=0.8, label="one layer")
    of_all = [point["spikes_per_neuron"] for point in points]
    below.plot(steps, of_all, "o-", color="tab:green", markersize=4, label=f"all {len(neurons)} layers")
    below.set(xlabel="T", ylabel="spikes per neuron", xscale="log")
    if any(of_all):
        below.set_yscale("log")
        below.yaxis.set(
            major_locator=LogLocator(subs=(1, 2, 5)), major_formatter="{x:g}", minor_formatter=NullFormatter()
        )
    below.set_xticks(steps, [str(T) for T in steps], minor=False)
    below.set_xticks([], minor=True)
    below.legend(fontsize=8, frameon=False)
    for axes in (above, below):
        axes.grid(alpha=0.3)
    write_figure(figure, path)


def plot_robustness(robustness: Mapping[str, Any], path: str | Path, title: str) -> None:
    """Write a png of AP50 over the density of noise, at each T, beside the ANN's.

    robustness: what robustness.json holds (`engine.robustness`). title: run, split and protocol of the evaluation.
    """
    rows = robustness["densities"]
    densities = [row["density"] for row in rows]
    steps = [point["T"] for point in rows[0]["points"]]
    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for k, T in enumerate(steps):
        values = [np.nan if row["points"][k]["AP50"] is None else row["points"][k]["AP50"] for row in rows]
        shade = colormaps["viridis"](0.85 * (1 - (k + 1) / len(steps)))
        axes.plot(densities, values, "o-", color=shade, markersize=4, label=f"T = {T}")
    if rows[0]["ann"]:
        values = [np.nan if row["ann"]["AP50"] is None else row["ann"]["AP50"] for row in rows]
        axes.plot(densities, values, "s--", color="black", markersize=4, linewidth=1, label="ANN")
    axes.set(xlabel="density of salt-and-pepper noise", ylabel="AP50", ylim=(0, None))
    axes.set_xticks(densities)
    figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    axes.grid(alpha=0.3)
    _title(axes, title, f"{robustness['images']} of {robustness['expected_images']} images")
    write_figure(figure, path)


def plot_history(history: Mapping[str, Any], path: str | Path, title: str) -> None:
    """Write a png of AP50 and AP over the windows of history.

    history: what history.json holds (`engine.history`). title: run, split and protocol of the evaluation.
    """
    points = sorted(history["points"], key=lambda point: point["mean_windows"])
    seen = [point["mean_windows"] for point in points]
    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for key, colour in (("AP50", "tab:blue"), ("AP", "tab:orange")):
        if all(point[key] is None for point in points):
            continue
        values = [np.nan if point[key] is None else point[key] for point in points]
        axes.plot(seen, values, "o-", color=colour, markersize=4, label=f"{key}: {values[-1]:.3f} with the most")
    axes.set(xlabel="windows since the state was reset, mean over the labels", ylabel="AP", ylim=(0, None))
    axes.set(xscale="log")
    names = [f"{point['windows']}\n{point['mean_ms']:.0f} ms" for point in points]
    axes.set_xticks(seen, names, minor=False)
    axes.set_xticks([], minor=True)
    axes.legend(fontsize=8, frameon=False)
    axes.grid(alpha=0.3)
    conditions = f"{points[-1]['labels']} label times, windows of {history['sampling']} sampling"
    _title(axes, title, conditions if history["complete"] else f"{conditions}: unfinished")
    write_figure(figure, path)


def confusion_matrix(
    ground_truth: dict[str, Any],
    detections: list[dict[str, Any]],
    score_threshold: float | Mapping[str, float | None] = 0.3,
    iou_threshold: float = 0.5,
) -> np.ndarray:
    """int64 [K + 1, K + 1]: rows truth, columns detections, K classes in the order of `categories`.

    Row K counts detections on background, column K truth that was not found. In descending order of score each
    detection is matched to the unmatched truth of any class with the largest IoU, if that is >= `iou_threshold`.
    Difficult and crowd boxes are matched like others, but neither they nor their detections are counted.

    score_threshold: of all classes, or {class name: its own}; None: no detection of that class.
    """
    of_classes = score_threshold if isinstance(score_threshold, Mapping) else None
    limits = {c["id"]: of_classes[c["name"]] if of_classes else score_threshold for c in ground_truth["categories"]}
    index = {c["id"]: k for k, c in enumerate(ground_truth["categories"])}
    matrix = np.zeros((len(index) + 1, len(index) + 1), dtype=np.int64)
    truth, found = defaultdict(list), defaultdict(list)
    for annotation in ground_truth["annotations"]:
        truth[annotation["image_id"]].append(annotation)
    for detection in sorted(detections, key=lambda d: -d["score"]):
        limit = limits[detection["category_id"]]
        if limit is not None and detection["score"] >= limit:
            found[detection["image_id"]].append(detection)
    for image in ground_truth["images"]:
        there, here = truth[image["id"]], found[image["id"]]
        overlap = box_iou(_xyxy(here), _xyxy(there)).numpy()
        free = np.ones(len(there), dtype=bool)
        for detection, row in zip(here, overlap, strict=True):
            candidates = np.where(free, row, -1)
            best = int(candidates.argmax()) if len(there) else 0
            if not len(there) or candidates[best] < iou_threshold:
                matrix[-1, index[detection["category_id"]]] += 1
                continue
            free[best] = False
            if not is_ignored(there[best]):
                matrix[index[there[best]["category_id"]], index[detection["category_id"]]] += 1
        for annotation, missed in zip(there, free, strict=True):
            if missed and not is_ignored(annotation):
                matrix[index[annotation["category_id"]], -1] += 1
    return matrix


def _xyxy(records: list[dict[str, Any]]) -> torch.Tensor:
    boxes = torch.tensor([r["bbox"] for r in records], dtype=torch.float64).reshape(-1, 4)
    return torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)


def _title(axes: Axes, title: str, conditions: str) -> None:
    axes.set_title(_lines(title, conditions), fontsize=10, parse_math=False)


def titled(figure: Figure, title: str, conditions: str) -> None:
    """A title above all axes."""
    figure.suptitle(_lines(title, conditions), fontsize=10, parse_math=False)


def _lines(title: str, conditions: str) -> str:
    return f"{legible(title, 90)}\n{conditions}"


def verbatim(texts: Iterable[Text]) -> None:
    """Disable mathtext, so that a "$" in a name is drawn as it is."""
    for text in texts:
        text.set_parse_math(False)


def write_figure(figure: Figure, path: str | Path) -> None:
    """Write a png with an Agg canvas: pyplot would keep the figure and choose a backend."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure).print_png(path)
