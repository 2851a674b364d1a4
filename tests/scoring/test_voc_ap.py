"""VOC AP against cases worked out by hand and a published worked example."""

from pathlib import Path

import numpy as np
import pytest

from scoring.voc_ap import iou, precision_recall, voc_ap

TOY = Path(__file__).parents[1] / "golden" / "ap" / "test_case_1"


def problem(truth, detections):
    """truth [(image, bbox, difficult)], detections [(image, bbox, score)], one class "cat"."""
    images = sorted({t[0] for t in truth} | {d[0] for d in detections})
    return {
        "images": [{"id": i} for i in images],
        "annotations": [
            {"id": k, "image_id": i, "category_id": 4, "bbox": box, "difficult": difficult}
            for k, (i, box, difficult) in enumerate(truth, 1)
        ],
        "categories": [{"id": 4, "name": "cat"}],
    }, [{"image_id": i, "category_id": 4, "bbox": box, "score": score} for i, box, score in detections]


A, B, C, D = [0, 0, 10, 10], [20, 0, 10, 10], [40, 0, 10, 10], [60, 0, 10, 10]
NOWHERE = [200, 200, 10, 10]


def test_both_averages_by_hand():
    """4 boxes; by score: true, false, true. Recall .25 .25 .5, precision 1, 1/2, 2/3."""
    inputs = problem(
        [(1, A, 0), (1, B, 0), (1, C, 0), (1, D, 0)],
        [(1, A, 0.9), (1, NOWHERE, 0.8), (1, B, 0.7)],
    )
    # r = 0, .1, .2: best precision 1;  r = .3, .4, .5: 2/3;  above: 0
    assert voc_ap(*inputs, eleven_points=True)["AP50"] == pytest.approx((3 * 1 + 3 * 2 / 3) / 11)
    # area: .25 * 1 + .25 * 2/3
    assert voc_ap(*inputs, eleven_points=False)["AP50"] == pytest.approx(0.25 + 0.25 * 2 / 3)


def test_precision_is_made_monotone():
    """2 boxes; false, true, true: precision 0, 1/2, 2/3, so the envelope is 2/3 everywhere."""
    inputs = problem([(1, A, 0), (1, B, 0)], [(1, NOWHERE, 0.9), (1, A, 0.8), (1, B, 0.7)])
    assert voc_ap(*inputs, eleven_points=True)["AP50"] == pytest.approx(2 / 3)
    assert voc_ap(*inputs, eleven_points=False)["AP50"] == pytest.approx(2 / 3)


def test_a_recall_of_exactly_three_tenths_counts():
    """10 boxes, 3 found: recall reaches 0, .1, .2 and .3, so 4 of 11 points."""
    truth = [(k, A, 0) for k in range(10)]
    inputs = problem(truth, [(k, A, 0.9 - k / 100) for k in range(3)])
    assert voc_ap(*inputs, eleven_points=True)["AP50"] == pytest.approx(4 / 11)
    assert voc_ap(*inputs, eleven_points=False)["AP50"] == pytest.approx(3 / 10)


def test_a_duplicate_is_false():
    inputs = problem([(1, A, 0)], [(1, A, 0.9), (1, [0, 0, 10, 9], 0.8)])
    assert precision_recall(*inputs)["cat"].is_true.tolist() == [True, False]
    lower_first = problem([(1, A, 0), (1, B, 0)], [(1, A, 0.9), (1, A, 0.8), (1, B, 0.7)])
    assert voc_ap(*lower_first, eleven_points=False)["AP50"] == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


def test_difficult_truth_is_neither_found_nor_missed():
    inputs = problem([(1, A, 0), (1, B, 1)], [(1, B, 0.9), (1, B, 0.85), (1, A, 0.8)])
    curve = precision_recall(*inputs)["cat"]
    assert curve.is_true.tolist() == [True] and curve.positives == 1
    assert voc_ap(*inputs, eleven_points=False)["AP50"] == 1


def test_a_detection_takes_the_truth_it_overlaps_most_even_if_taken():
    """As in the devkit: the second detection overlaps A more than `near`, and A is taken."""
    near = [0, 4, 10, 10]  # IoU with A 6/14; with `near` itself 1
    inputs = problem([(1, A, 0), (1, near, 0)], [(1, A, 0.9), (1, [0, 1, 10, 10], 0.8)])
    overlap = iou([0, 1, 10, 10], np.array([A, near], dtype=float))
    assert overlap == pytest.approx([9 / 11, 7 / 13])  # both above 0.5
    assert precision_recall(*inputs)["cat"].is_true.tolist() == [True, False]


def test_iou_threshold_is_inclusive_and_widths_hold_the_devkits_one():
    """Devkit: boxes 1..10 and 1..5 (inclusive) overlap by 5 * 10 of 10 * 10 pixels, exactly 0.5."""
    inputs = problem([(1, [0, 0, 10, 10], 0)], [(1, [0, 0, 5, 10], 0.9)])
    assert voc_ap(*inputs, eleven_points=False)["AP50"] == 1
    inputs = problem([(1, [0, 0, 10, 10], 0)], [(1, [0, 0, 4.99, 10], 0.9)])
    assert voc_ap(*inputs, eleven_points=False)["AP50"] == 0


def test_images_and_classes_are_kept_apart():
    truth, detections = problem([(1, A, 0)], [(2, A, 0.9)])
    truth["categories"].append({"id": 9, "name": "dog"})
    scores = voc_ap(truth, detections, eleven_points=True)
    assert scores["per_class_AP50"] == {"cat": 0.0, "dog": None} and scores["AP50"] == 0
    detections.append({"image_id": 1, "category_id": 9, "bbox": A, "score": 0.95})
    assert voc_ap(truth, detections, eleven_points=True)["AP50"] == 0


def test_the_mean_is_over_classes_with_truth():
    truth, detections = problem([(1, A, 0)], [(1, A, 0.9)])
    truth["categories"] += [{"id": 9, "name": "dog"}, {"id": 11, "name": "emu"}]
    truth["annotations"].append({"id": 2, "image_id": 1, "category_id": 9, "bbox": B})
    assert voc_ap(truth, detections, eleven_points=False)["AP50"] == 0.5


def test_empty_inputs():
    truth, _ = problem([(1, A, 0)], [])
    assert voc_ap(truth, [], eleven_points=True)["AP50"] == 0
    assert voc_ap(truth | {"annotations": []}, [], eleven_points=True) == {"AP50": 0.0, "per_class_AP50": {"cat": None}}


def test_bad_detections_raise():
    truth, detections = problem([(1, A, 0)], [(1, A, float("nan"))])
    with pytest.raises(ValueError, match="detection 0 on image 1"):
        voc_ap(truth, detections, eleven_points=True)


@pytest.mark.parametrize(
    ("threshold", "eleven", "area"),
    [
        (0.1, 0.3333333333 + 9 / 23 / 11, 0.3371980676),
        (0.3, 0.2683982683, 0.2456866804),
        (0.5, 0.0303030303, 0.0222222222),
        (0.75, 0, 0),
    ],
)
def test_equals_the_published_worked_example(threshold, eleven, area):
    """7 images, 15 boxes, 24 detections. The example's corners are inclusive, so its widths gain 1.

    At IoU 0.1 recall ends at 9/15. The published 0.3333 compares that with 6 * 0.1 = 0.6000000000000001 and so misses
    the point r = 0.6, where precision is 9/23.
    """

    def boxes(folder):
        for path in sorted((TOY / folder).iterdir()):
            for line in path.read_text().split("\n"):
                if line:
                    *score, x, y, w, h = map(float, line.split()[1:])
                    yield int(path.stem), [x, y, w + 1, h + 1], (score or [0])[0]

    inputs = problem([(i, box, 0) for i, box, _ in boxes("gts")], list(boxes("dets")))
    assert len(inputs[0]["annotations"]) == 15 and len(inputs[1]) == 24
    assert voc_ap(*inputs, True, threshold)["AP50"] == pytest.approx(eleven, abs=1e-9)
    assert voc_ap(*inputs, False, threshold)["AP50"] == pytest.approx(area, abs=1e-9)
