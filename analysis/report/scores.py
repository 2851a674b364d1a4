"""AP per class, curves over recall and confidence with the best thresholds, AP by size, confusion, worst images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..draw import Colour, class_colours
from .chart import Line, chart
from .markup import Markup, join, number, picture, swatch, table, tag

FIGURES = ("precision", "recall", "f1")
NAMED = 20  # classes in colour; of more only the mean
CELLS = 20  # classes of a confusion matrix with numbers
HEADER = 90  # characters of the names of columns that fit across a page
OTHER = ("AR", "AR_1", "AR_10", "AP_small", "AP_medium", "AP_large", "AR_small", "AR_medium", "AR_large")


def ap_table(metrics: dict[str, Any]) -> Markup:
    """AP of each class, with its best threshold, and of all; other averages of the protocol below."""
    best, per_class = metrics["best_thresholds"], metrics.get("per_class") or {}
    colours = _colours(best["classes"])
    header = ["class", "boxes", "AP", "AP50", "best threshold", "precision", "recall", "F1"]
    mean = best["mean"]
    rows: list[Sequence[Any]] = [
        ["all classes", number(metrics["boxes"]), number(metrics["AP"]), number(metrics["AP50"]),
         *(number(mean[key]) for key in ("threshold", *FIGURES))]
    ]  # fmt: skip
    for name, of in best["classes"].items():
        scores = number(per_class.get(name)), number(metrics["per_class_AP50"][name])
        figures = (number(of[key]) for key in ("threshold", *FIGURES))
        rows.append(
            [(swatch(colours[name]) if name in colours else Markup()) + name, number(of["boxes"]), *scores, *figures]
        )
    note = (
        "Best threshold: the score from which detections should count for the largest F1, 2PR / (P + R), at IoU 0.5; "
        "the row of all classes has one threshold for all, with the means of precision, recall and F1."
    )
    others = [(key, number(metrics[key])) for key in OTHER if metrics.get(key) is not None]
    more = table([key for key, _ in others], [[value for _, value in others]], "averages", 0) if others else Markup()
    return table(header, rows, "ap") + tag("p", note, class_="note") + more


def curves(metrics: dict[str, Any], breakdown: dict[str, Any]) -> Markup:
    """Precision over recall; precision, recall and F1 over the confidence."""
    confidence, over_recall = breakdown["confidence"], breakdown["precision_recall"]
    with_truth = [name for name, best in confidence["best"].items() if best["boxes"]]
    colours = _colours(confidence["best"])
    iou = f"IoU ≥ {breakdown['iou_threshold']:g}"

    def lines(x: Sequence[float], of: dict[str, Any], mean: Sequence[float | None]) -> list[Line]:
        shown = [Line(name, x, of[name], colours.get(name)) for name in with_truth]
        return [*shown, *([Line("mean", x, mean, mean=True)] if len(shown) > 1 else [])]

    recall = over_recall["recall"]
    figures = [
        chart(
            lines(recall, over_recall["classes"], over_recall["mean"]), "recall", "precision",
            f"Precision over recall, {iou}: the largest precision at this recall or more.",
        )
    ]  # fmt: skip
    for key, words in zip(FIGURES, ("Precision", "Recall", "F1"), strict=True):
        of = {name: confidence["classes"][name][key] for name in with_truth}
        marks = [
            (best["threshold"], best[key], colours[name])
            for name, best in confidence["best"].items()
            if best["threshold"] is not None and name in colours
        ]
        caption = f"{words} over the score, {iou}{'; points: largest F1' * bool(marks)}."
        shown = lines(confidence["thresholds"], of, confidence["mean"][key])
        label = words if key == "f1" else key
        figures.append(chart(shown, "score from which detections count", label, caption, marks))
    if not with_truth:
        return tag("p", "No box of the truth counts, so there are no curves.")
    if all(value in (None, 0) for value in confidence["mean"]["recall"]):
        return tag("p", f"No detection finds a box at {iou}, so there are no curves.")
    key = join((tag("span", swatch(colours[name]) + name) for name in with_truth if name in colours), " ")
    grey = "" if colours else f"Grey: the {len(with_truth)} classes; the table above has their numbers. "
    mean = tag("p", grey + ("Dashed: mean of the classes." if len(with_truth) > 1 else ""), class_="note")
    return tag("p", key) + mean + tag("div", join(figures), class_="charts")


def sizes(metrics: dict[str, Any]) -> Markup:
    found = metrics["sizes"]
    rows = [[name, of["range"], *(number(of[key]) for key in ("boxes", "AP", "AP50"))] for name, of in found.items()]
    note = "Boxes of another size are ignored: neither missed, nor are detections of them false."
    return table(["size", "boxes with", "boxes", "AP", "AP50"], rows, "size", 2) + tag("p", note, class_="note")


def confusion(breakdown: dict[str, Any]) -> Markup:
    """Counts, coloured by their share of the row; of many classes a map, and the largest counts beside the diagonal."""
    matrix, names = breakdown["confusion"], list(breakdown["confidence"]["best"])
    rows, columns = [*names, "background"], [*names, "not found"]
    note = (
        f"Rows: truth; columns: what it was detected as; at the best threshold of each class, IoU ≥ "
        f"{breakdown['iou_threshold']:g}, matched whatever the class. Background: detections of nothing."
    )
    if len(names) <= CELLS:
        if sum(map(len, names)) > HEADER:
            rows = [*(f"{k}. {name}" for k, name in enumerate(names, 1)), "background"]
            columns = [*(f"{k}." for k in range(1, len(rows))), "not found"]
        shown: list[Sequence[Any]] = [
            [
                name,
                *("" if i == j == len(names) else _cell(count, sum(row)) for j, count in enumerate(row)),
            ]
            for i, (name, row) in enumerate(zip(rows, matrix, strict=True))
        ]
        return table(["truth", *columns], shown, "confusion") + tag("p", note, class_="note")
    mixed = [
        (count, rows[i], columns[j])
        for i, row in enumerate(matrix)
        for j, count in enumerate(row)
        if count and i != j and i < len(names) and j < len(names)
    ]
    top = sorted(mixed, key=lambda item: -item[0])[:15]
    listed = table(["truth", "detected as", "boxes"], ([a, b, number(n)] for n, a, b in top), "confusion", 2)
    return _map(matrix) + tag("p", note, class_="note") + (tag("h3", "Most confused") + listed if top else Markup())


def worst(metrics: dict[str, Any], pictures: Path) -> Markup:
    """A table of the worst images, and those of them that were drawn."""
    found = metrics["worst_images"]
    if not found:
        return tag("p", "No image with a mistake was asked for, or there is none.")
    rows = [[_which(row), *(number(row[key]) for key in ("found", "missed", "true", "false"))] for row in found]
    drawn = [
        picture(file, f"{_which(row)}: {row['missed']} missed, {row['false']} false")
        for row in found
        if (file := pictures / f"worst_{row['image_id']}.png").exists()
    ]
    note = (
        "Most boxes missed and false detections, at the best threshold of each class. Drawn: missed boxes left, false "
        "detections right, each in the colour of its class; white: what is right."
    )
    header = ["image", "boxes found", "missed", "detections true", "false"]
    images = tag("div", join(drawn), class_="images") if drawn else Markup()
    return tag("p", note, class_="note") + table(header, rows, "worst") + images


def _which(row: dict[str, Any]) -> str:
    if "t_us" in row:
        return f"{row.get('clip', row.get('file_name'))}, {row['t_us'] / 1e3:g} ms (image {row['image_id']})"
    return f"{row.get('file_name', '')} (image {row['image_id']})".strip()


def _colours(best: Mapping[str, dict[str, Any]]) -> dict[str, Colour]:
    """{class: its colour in all figures of a run}, if few classes have truth."""
    few = sum(of["boxes"] > 0 for of in best.values()) <= NAMED
    return dict(zip(best, class_colours(len(best)), strict=True)) if few else {}


def _cell(count: int, row: int) -> Markup:
    share = round(0.75 * count / row, 3) if row else 0
    return tag("span", number(count), class_="cell", style=f"--share:{share}")


def _map(matrix: Sequence[Sequence[int]]) -> Markup:
    cells = [
        f'<rect class="cell" style="--share:{count / sum(row):.3f}" x="{j}" y="{i}" width="1" height="1"/>'
        for i, row in enumerate(matrix)
        for j, count in enumerate(row)
        if count
    ]
    side = len(matrix)
    frame = f'<path class="line faint" style="stroke-width:.1" d="M0 0H{side}V{side}H0Z"/>'
    label = "Confusion matrix: darker cells are larger shares of their row."
    return tag(
        "figure", tag("svg", Markup(frame + "".join(cells)), viewBox=f"0 0 {side} {side}", role="img", aria_label=label)
        + tag("figcaption", label), class_="chart",
    )  # fmt: skip
