"""Scores broken down by confidence, size and image, beside counts by hand and the AP by area of COCO."""

import numpy as np
import pytest

from analysis.plots.confusion import confusion_matrix
from scoring.confidence import best_threshold, by_confidence, by_recall
from scoring.mistakes import worst_images
from scoring.protocols import get_protocol
from scoring.voc_ap import precision_recall

A, B, C = [0.0, 0.0, 10.0, 10.0], [20.0, 0.0, 10.0, 10.0], [40.0, 0.0, 10.0, 10.0]


def truth_of(*boxes, images=3, names=("car", "tram"), **more):
    annotations = [
        {"id": k, "image_id": i, "category_id": c, "bbox": box, "difficult": d, "iscrowd": 0}
        for k, (i, c, box, d) in enumerate(boxes, 1)
    ]
    return {
        "images": [{"id": i, **{k: v(i) for k, v in more.items()}} for i in range(1, images + 1)],
        "annotations": annotations,
        "categories": [{"id": k, "name": name} for k, name in enumerate(names, 1)],
    }


def found_of(*boxes):
    return [{"image_id": i, "category_id": c, "bbox": box, "score": s} for i, c, box, s in boxes]


def problem():
    """Of the car: true .9, false .8, true .6, and one of two equal scores .4 true; tram 1 is difficult, 2 not found."""
    truth = truth_of((1, 1, A, 0), (1, 1, B, 0), (2, 1, A, 0), (3, 1, C, 0), (1, 2, C, 1), (2, 2, C, 0))
    found = found_of(
        (1, 1, A, 0.9), (1, 1, A, 0.8), (1, 1, B, 0.6), (2, 1, A, 0.4), (2, 1, B, 0.4), (1, 2, C, 0.7), (3, 2, A, 0.3)
    )  # fmt: skip
    return truth, found


def test_confidence_by_hand():
    curves = precision_recall(*problem())
    result = by_confidence(curves)
    car = {
        key: dict(zip(result["thresholds"], values, strict=True)) for key, values in result["classes"]["car"].items()
    }
    for threshold, true, found in ((0.0, 3, 5), (0.4, 3, 5), (0.5, 2, 3), (0.6, 2, 3), (0.8, 1, 2), (0.9, 1, 1)):
        assert car["precision"][threshold] == pytest.approx(true / found), threshold
        assert car["recall"][threshold] == true / 4 and car["f1"][threshold] == pytest.approx(2 * true / (found + 4))
    assert car["precision"][1.0] is None and car["recall"][1.0] == 0 == car["f1"][1.0]
    best = {"threshold": 0.4, "precision": 0.6, "recall": 0.75, "f1": pytest.approx(2 / 3)}
    assert best_threshold(curves["car"]) == {**best, "true": 3, "detections": 5, "boxes": 4}  # equal scores together
    assert result["best"]["tram"] == dict.fromkeys(best) | {"true": None, "detections": None, "boxes": 1}
    assert result["mean"]["recall"][40] == pytest.approx(0.375) and result["best_mean"]["threshold"] == 0.4


def test_of_equal_f1_the_highest_threshold_is_the_best():
    truth = truth_of((1, 1, A, 0), (2, 1, A, 0))
    curves = precision_recall(truth, found_of((1, 1, A, 0.9), (3, 1, A, 0.8), (3, 1, B, 0.7), (2, 1, A, 0.6)))
    assert best_threshold(curves["car"])["threshold"] == 0.9  # 2 1 / (1 + 2) = 2 2 / (4 + 2)


def test_without_truth_or_detections_nothing_is_the_best():
    for truth, found in ((truth_of(), found_of((1, 1, A, 0.9))), (truth_of((1, 1, A, 0)), []), (truth_of(), [])):
        result = by_confidence(precision_recall(truth, found))
        assert all(best["threshold"] is None for best in [*result["best"].values(), result["best_mean"]])
        assert all(len(values) == 101 for values in result["mean"].values())
        assert worst_images(truth, found, dict.fromkeys(("car", "tram")), 5) == [] or truth["annotations"]


def test_precision_over_recall_averages_to_the_AP50():
    rng = np.random.default_rng(0)
    boxes = [(i, 1 + i % 2, [*rng.uniform(0, 50, 2), *rng.uniform(20, 60, 2)], 0) for i in range(1, 41)]
    found = [(i, c, [x + rng.normal(0, 4), y, w, h], float(rng.uniform())) for i, c, (x, y, w, h), _ in boxes]
    truth = truth_of(*boxes, images=40)
    of = by_recall(precision_recall(truth, found_of(*found)))
    scores = get_protocol("coco").score(truth, found_of(*found))
    for name, ap in scores["per_class_AP50"].items():
        assert np.mean(of["classes"][name]) == pytest.approx(ap, abs=1e-9)
    assert np.mean(of["mean"]) == pytest.approx(scores["AP50"], abs=1e-9)


@pytest.mark.parametrize("protocol", ["coco", "raw"])
def test_by_area_is_the_AP_of_small_medium_and_large(protocol):
    rng = np.random.default_rng(1)
    boxes = [(i, 1 + i % 2, [*rng.uniform(0, 50, 2), *rng.uniform(8, 150, 2)], 0) for i in range(1, 61)]
    boxes.append((1, 1, [0.0, 0.0, 32.0, 32.0], 0))  # at the limit: in both
    found = [(i, c, [x + rng.normal(0, 9), y, w, h], float(rng.uniform())) for i, c, (x, y, w, h), _ in boxes]
    found += [(i, 1, [*rng.uniform(0, 90, 2), *rng.uniform(8, 150, 2)], float(rng.uniform())) for i in range(1, 61)]
    truth, found = truth_of(*boxes, images=60), found_of(*found)
    scores, sizes = (getattr(get_protocol(protocol), name)(truth, found) for name in ("score", "by_size"))
    assert {f"AP_{name}": of["AP"] for name, of in sizes.items()} == {k: scores[f"AP_{k[3:]}"] for k in scores if k in
        ("AP_small", "AP_medium", "AP_large")}  # fmt: skip
    assert len({of["AP"] for of in sizes.values()}) == 3
    assert sum(of["boxes"] for of in sizes.values()) == len(boxes) + 1
    assert sizes["medium"]["range"] == "root of the area 32 to 96 px"


def event_problem(width):
    """Of each of three diagonals two boxes, the larger the fewer found; and boxes too small to count."""
    sides = [30, 30, 60, 60, 120, 120, 8]
    boxes = [(i, 1, [0.0, 0.0, float(side), float(side)], 0) for i, side in enumerate(sides, 1)]
    found = [(i, 1, box, 0.9) for i, _, box, _ in boxes if i not in (4, 5, 6)]
    more = {"clip": lambda i: "a", "t_us": lambda i: i * 1_000_000, "start_us": lambda i: 0, "width": lambda i: width}
    return truth_of(*boxes, images=7, names=("car",), **more), found_of(*found)


def test_of_recordings_by_the_diagonal_from_that_of_the_protocol():
    sizes = get_protocol("prophesee").by_size(*event_problem(304))
    assert [of["range"] for of in sizes.values()] == [
        "diagonal 30 to 60 px", "diagonal 60 to 120 px", "diagonal from 120 px"
    ]  # fmt: skip
    assert [(of["boxes"], round(of["AP50"], 2)) for of in sizes.values()] == [(2, 1.0), (2, 0.5), (2, 0.0)]
    assert get_protocol("prophesee_1mpx").by_size(*event_problem(1280))["small"]["boxes"] == 2  # from 60 px
    assert get_protocol("prophesee_1mpx").by_size(*event_problem(640))["small"]["boxes"] == 2  # from 30 px
    assert [of["boxes"] for of in get_protocol("prophesee_1mpx").by_size(*event_problem(1280)).values()] == [2, 2, 0]


def test_voc_by_size_ignores_other_sizes_and_difficult_boxes():
    large = [0.0, 0.0, 100.0, 100.0]
    truth = truth_of((1, 1, A, 0), (1, 1, large, 0), (2, 1, A, 1), (2, 1, B, 0))
    found = found_of((1, 1, large, 0.9), (3, 1, large, 0.85), (1, 1, A, 0.8), (2, 1, A, 0.7), (3, 1, A, 0.6))
    sizes = get_protocol("voc10").by_size(truth, found)
    assert {name: (of["boxes"], of["AP50"]) for name, of in sizes.items()} == {
        "small": (2, pytest.approx(0.5)), "medium": (0, None), "large": (1, pytest.approx(1))
    }  # fmt: skip
    assert sizes["large"]["AP"] is None


def test_mistakes_by_hand():
    """Of image 1 car A is found twice, once falsely; of image 2 the tram is missed; image 3 has a missed car."""
    truth, found = problem()
    first, second, third = worst_images(truth, found, {"car": 0.4, "tram": 0.3}, 9)
    rows = [(m.image_id, len(m.found), len(m.missed), len(m.true), len(m.false)) for m in (first, second, third)]
    assert rows == [(2, 1, 1, 1, 1), (3, 0, 1, 0, 1), (1, 2, 0, 2, 1)]
    assert second.missed == [truth["annotations"][3]] and third.false == [found[1]]
    assert [m.image_id for m in worst_images(truth, found, {"car": 0.4, "tram": 0.3}, 1)] == [2]
    none = worst_images(truth, found, {"car": None, "tram": None}, 9)
    assert [(m.image_id, len(m.missed)) for m in none] == [(1, 2), (2, 2), (3, 1)]


def test_confusion_at_the_threshold_of_each_class():
    truth, found = problem()
    assert confusion_matrix(truth, found, {"car": 0.85, "tram": None}).tolist() == [[1, 0, 3], [0, 0, 1], [0, 0, 0]]
    assert confusion_matrix(truth, found, {"car": 0.4, "tram": 0.4}).tolist() == [[3, 0, 1], [0, 0, 1], [2, 0, 0]]
