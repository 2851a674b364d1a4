"""Plots: curves and counts by hand, any name of a class, one colour for it, no figure left open."""

import numpy as np
import pytest
from PIL import Image

from analysis.draw import class_colours
from analysis.plots.confusion import confusion_matrix, plot_confusion
from analysis.plots.precision_recall import plot_precision_recall
from scoring.voc_ap import precision_recall


def problem():
    a, b, c = [0.0, 0.0, 10.0, 10.0], [20.0, 0.0, 10.0, 10.0], [40.0, 0.0, 10.0, 10.0]
    truth = [(1, 3, a, 0), (1, 3, b, 0), (1, 5, c, 1), (2, 5, a, 0)]
    found = [(1, 3, a, 0.9), (1, 5, b, 0.8), (1, 3, b, 0.7), (1, 5, c, 0.6), (2, 5, c, 0.5), (2, 5, a, 0.2)]
    return {
        "images": [{"id": 1}, {"id": 2}, {"id": 3}],
        "annotations": [
            {"id": k, "image_id": i, "category_id": c, "bbox": box, "difficult": d}
            for k, (i, c, box, d) in enumerate(truth, 1)
        ],
        "categories": [{"id": 3, "name": "car"}, {"id": 5, "name": "tram"}],
    }, [{"image_id": i, "category_id": c, "bbox": box, "score": s} for i, c, box, s in found]


def test_confusion_by_hand():
    """a is found as a car; b as a tram, then once more (background); c is difficult; tram 2 is below the threshold."""
    assert confusion_matrix(*problem()).tolist() == [[1, 1, 0], [0, 0, 1], [1, 1, 0]]
    assert confusion_matrix(*problem(), score_threshold=0.1).tolist() == [[1, 1, 0], [0, 1, 0], [1, 1, 0]]
    assert confusion_matrix(problem()[0], []).tolist() == [[0, 0, 2], [0, 0, 1], [0, 0, 0]]


@pytest.mark.parametrize("empty", [False, True])
def test_plots_are_written_as_png(tmp_path, empty):
    truth, detections = problem()
    if empty:
        truth["annotations"], detections = [], []
    plot_precision_recall(precision_recall(truth, detections), tmp_path / "plots" / "pr.png", "run", {"car": 0.5})
    plot_confusion(truth, detections, tmp_path / "plots" / "confusion.png", "run")
    for name in ("pr", "confusion"):
        with Image.open(tmp_path / "plots" / f"{name}.png") as image:
            assert image.format == "PNG" and np.asarray(image.convert("L")).std() > 5


def figures_of(truth, detections, monkeypatch, title="run", ap=None):
    """The two figures before they are written."""
    figures = []
    for module in ("confusion", "precision_recall"):
        monkeypatch.setattr(f"analysis.plots.{module}.write_figure", lambda figure, path: figures.append(figure))
    plot_precision_recall(precision_recall(truth, detections), "", title, ap or {})
    plot_confusion(truth, detections, "", title)
    return figures


def test_plots_name_what_was_evaluated_and_how_many_boxes(monkeypatch):
    curves, confusion = figures_of(*problem(), monkeypatch, "demo, split test, protocol coco", {"car": 0.5, "tram": 0})
    assert (
        curves.axes[0].get_title()
        == "demo, split test, protocol coco\nIoU ≥ 0.5, 3 boxes, mean AP50 0.250 of 2 classes"
    )
    assert confusion.axes[0].get_title() == "demo, split test, protocol coco\nscore ≥ 0.3, IoU ≥ 0.5, 3 boxes"


def test_a_class_has_one_colour_in_every_figure(monkeypatch):
    """That of its label, whichever class is found best."""
    expected = [tuple(np.array(colour) / 255) for colour in class_colours(2)]
    for best, worst in (("car", "tram"), ("tram", "car")):
        curves, confusion = figures_of(*problem(), monkeypatch, ap={best: 0.9, worst: 0.1})
        legend = curves.legends[0]
        names = [text.get_text().split()[-1] for text in legend.get_texts()]
        assert names == [best, worst]
        shown = {name: tuple(line.get_color()) for name, line in zip(names, legend.get_lines(), strict=True)}
        assert [shown["car"], shown["tram"]] == expected
        bars = [tuple(line.get_color()) for line in confusion.axes[0].lines]
        assert bars == [expected[0], expected[0], expected[1], expected[1]]


@pytest.mark.parametrize(
    "name", ["$", "$x_{", "a$b^$c", "_hidden", "two\nlines", "\ud800", "\x00\x1b[31m", "", "x" * 5000, r"\frac{"]
)
def test_any_class_name_stands_in_a_plot(name, tmp_path):
    truth, detections = problem()
    truth["categories"][0]["name"] = name
    curves = precision_recall(truth, detections)
    plot_precision_recall(curves, tmp_path / "pr.png", f"run {name}", {name: 0.5, "tram": 0.2})
    plot_confusion(truth, detections, tmp_path / "confusion.png", f"run {name}")
    for file in ("pr.png", "confusion.png"):
        with Image.open(tmp_path / file) as image:
            assert max(image.size) < 2000


def test_plots_open_no_pyplot_figures(tmp_path):
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    plot_confusion(*problem(), tmp_path / "confusion.png", "run")
    assert plt.get_fignums() == before
