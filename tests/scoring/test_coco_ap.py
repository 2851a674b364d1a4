"""COCO AP: equal to pycocotools in every digit, defined on empty input, with errors for bad input."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from scoring.coco_ap import coco_ap

TOY = Path(__file__).parents[1] / "golden" / "ap" / "test_coco_eval"
STATS = """AP AP50 AP75 AP_small AP_medium AP_large AR_1 AR_10 AR AR_small AR_medium AR_large""".split()
ROUNDING = 5e-16  # precision is tp / (tp + fp + 2^-52) in one and tp / (tp + fp) in the other


def random_problem(seed, images=12, classes=3, crowd=0.15):
    """Truth of all areas, some of it crowd, and detections near it and far from it, with tied scores."""
    rng = np.random.default_rng(seed)
    ids = [int(i) for i in rng.choice(1000, images, replace=False)]
    categories = [{"id": int(i), "name": f"class {i}"} for i in rng.choice(90, classes, replace=False) + 1]
    annotations, detections = [], []
    for image in ids:
        for _ in range(rng.integers(0, 8)):
            w, h = np.exp(rng.uniform(np.log(8), np.log(300), 2))
            x, y = rng.uniform(0, 300, 2)
            category = int(rng.choice([c["id"] for c in categories]))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": category,
                    "bbox": [float(x), float(y), float(w), float(h)],
                    "area": float(w * h * rng.uniform(0.5, 1)),
                    "iscrowd": int(rng.random() < crowd),
                }
            )
            for _ in range(rng.integers(0, 4)):
                shift = rng.normal(0, 0.12, 4) * [w, h, w, h]
                box = np.maximum([x, y, w, h] + shift, 0.5)
                detections.append(_detection(image, category, box, round(float(rng.random()), 1)))
        for _ in range(rng.integers(0, 5)):
            category = int(rng.choice([c["id"] for c in categories]))
            detections.append(_detection(image, category, rng.uniform(5, 200, 4), float(rng.random())))
    images = [{"id": i, "width": 640, "height": 640, "file_name": f"{i}.jpg"} for i in ids]
    return {"images": images, "annotations": annotations, "categories": categories}, detections


def _detection(image, category, box, score):
    return {"image_id": image, "category_id": category, "bbox": [float(v) for v in box], "score": score}


def pycocotools_stats(truth, detections, capsys):
    coco = COCO()
    coco.dataset = copy.deepcopy({"info": {}, **truth})
    coco.createIndex()
    evaluation = COCOeval(coco, coco.loadRes(copy.deepcopy(detections)), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    capsys.readouterr()
    return evaluation


def assert_equal(scores, stats):
    for key, expected in zip(STATS, stats, strict=True):
        assert scores[key] == (None if expected == -1 else pytest.approx(expected, rel=0, abs=ROUNDING)), key


@pytest.mark.parametrize("seed", range(8))
def test_equals_pycocotools_to_the_last_digit(seed, capsys):
    truth, detections = random_problem(seed)
    oracle = pycocotools_stats(truth, detections, capsys)
    scores = coco_ap(truth, detections)
    assert_equal(scores, oracle.stats)
    names = [c["name"] for c in sorted(truth["categories"], key=lambda c: c["id"])]
    for k, name in enumerate(names):
        precision = oracle.eval["precision"][:, :, k, 0, 2]
        expected = precision[precision > -1].mean() if (precision > -1).any() else None
        assert scores["per_class"][name] == (None if expected is None else pytest.approx(expected, rel=0, abs=ROUNDING))
    assert 0.05 < scores["AP"] < 0.95  # the problem is neither solved nor hopeless, so the digits say something


def test_equals_pycocotools_beyond_the_detection_limit(capsys):
    truth, detections = random_problem(3, images=2, classes=1)
    rng = np.random.default_rng(0)
    image, category = truth["images"][0]["id"], truth["categories"][0]["id"]
    noise = [_detection(image, category, rng.uniform(5, 200, 4), float(rng.uniform(0.5, 1))) for _ in range(150)]
    oracle = pycocotools_stats(truth, detections + noise, capsys)
    scores = coco_ap(truth, detections + noise)
    assert_equal(scores, oracle.stats)
    assert scores["AR"] < coco_ap(truth, detections + noise, max_dets=300)["AR"]


def test_equals_the_published_reference_on_a_coco_sample():
    truth = json.loads((TOY / "sampled_gts_bbox_area.json").read_text())
    detections = json.loads((TOY / "sampled_bbox_results.json").read_text())["annotations"]
    scores = coco_ap(truth, detections)
    published = [0.503647, 0.696973, 0.571667, 0.593252, 0.557991, 0.489363, 0.386813, 0.593680, 0.595353, 0.654764]
    published += [0.603130, 0.553744]
    np.testing.assert_allclose([scores[k] for k in STATS], published, atol=5e-7, rtol=0)


def test_prints_nothing_and_changes_nothing(capsys):
    truth, detections = random_problem(0)
    before = copy.deepcopy((truth, detections))
    coco_ap(truth, detections)
    assert (truth, detections) == before
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_annotation_ids_play_no_role():
    """The reference evaluators lose the match of an annotation with id 0."""
    truth, detections = perfect()
    assert coco_ap(truth, detections)["AP"] == pytest.approx(1.0)
    truth["annotations"][0]["id"] = 0
    assert coco_ap(truth, detections)["AP"] == pytest.approx(1.0)
    truth["annotations"][1]["id"] = 0
    assert coco_ap(truth, detections)["AP"] == pytest.approx(1.0)


def test_a_box_listed_twice_is_to_be_found_twice(capsys):
    """As in pycocotools: the copy that nothing matches costs recall."""
    truth, detections = perfect()
    truth["annotations"].append({**truth["annotations"][0], "id": 3})
    scores = coco_ap(truth, detections)
    assert scores["AP"] == pytest.approx(67 / 101)  # recall ends at 2/3
    assert_equal(scores, pycocotools_stats(truth, detections, capsys).stats)


def test_truth_beyond_the_frame_counts(capsys):
    truth, detections = perfect()
    truth["annotations"][0]["bbox"] = [150.0, 10.0, 20.0, 20.0]  # beside the image, which is 100 wide
    truth["annotations"][1]["bbox"][2] = 120.0  # and across its border
    detections[1]["bbox"][2] = 95.0
    scores = coco_ap(truth, detections)
    assert scores["AP50"] == pytest.approx(51 / 101 * 0.5)  # one false positive before the true one
    assert_equal(scores, pycocotools_stats(truth, detections, capsys).stats)


def test_area_and_crowd_have_defaults():
    truth, detections = perfect()
    for annotation in truth["annotations"]:
        del annotation["area"], annotation["iscrowd"]
    scores = coco_ap(truth, detections)
    assert scores["AP_small"] == pytest.approx(1.0)  # 20 x 20
    assert scores["AP_medium"] == pytest.approx(1.0)  # 50 x 50
    assert scores["AP_large"] is None


def test_no_detections_is_zero():
    truth, _ = perfect()
    scores = coco_ap(truth, [])
    assert scores["AP"] == scores["AP50"] == scores["AP75"] == scores["AR"] == 0
    assert scores["per_class"] == {"car": 0.0, "tram": None}


@pytest.mark.parametrize("with_images", [True, False])
def test_no_truth_is_zero(with_images):
    truth, detections = perfect()
    truth["annotations"] = []
    if not with_images:
        truth["images"], detections = [], []
    for found in (detections, []):
        scores = coco_ap(truth, found)
        assert scores["AP"] == scores["AP50"] == scores["AP75"] == scores["AR"] == 0
        assert scores["AP_small"] is None and scores["per_class"] == {"car": None, "tram": None}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"bbox": [1.0, float("nan"), 5, 5]}, "detection 1 on image 2"),
        ({"bbox": [1.0, 2, float("inf"), 5]}, "finite"),
        ({"bbox": [1.0, 2, -3, 5]}, "w, h >= 0"),
        ({"score": float("nan")}, "score nan"),
        ({"image_id": 3}, "detection 1 on image 3: the ground truth has no such image"),
        ({"category_id": 0}, r"category 0 is not in the ground truth, which has \[1, 7\]"),
    ],
)
def test_bad_detections_raise(change, says):
    truth, detections = perfect()
    detections[1] |= change
    with pytest.raises(ValueError, match=says):
        coco_ap(truth, detections)


@pytest.mark.parametrize(
    ("bbox", "says"),
    [
        ([0.0, 0.0, float("nan"), 1.0], "must be finite xywh"),  # pycocotools: an object nothing can match
        ([5.0, 5.0, 0.0, 50.0], "has no area"),  # the same
        ([5.0, 5.0, 50.0, 0.0], "has no area"),
        ([5.0, 5.0, -50.0, 50.0], "w, h >= 0"),  # pycocotools: no object at all
    ],
)
def test_truth_that_is_no_box_raises(bbox, says):
    truth, detections = perfect()
    truth["annotations"][1]["bbox"] = bbox
    with pytest.raises(ValueError, match=f"annotation 1 on image 2: .*{says}"):
        coco_ap(truth, detections)


def test_bad_truth_raises():
    truth, detections = perfect()
    truth["images"].append(truth["images"][0])
    with pytest.raises(ValueError, match="3 images under 2 ids"):
        coco_ap(truth, detections)
    with pytest.raises(ValueError, match="max_dets"):
        coco_ap(*perfect(), max_dets=0)


def perfect():
    """Two images with a car each, both found exactly."""
    boxes = {1: [10.0, 10.0, 20.0, 20.0], 2: [5.0, 5.0, 50.0, 50.0]}
    truth = {
        "images": [{"id": i, "width": 100, "height": 100} for i in boxes],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 1, "bbox": b, "area": b[2] * b[3], "iscrowd": 0}
            for i, b in boxes.items()
        ],
        "categories": [{"id": 1, "name": "car"}, {"id": 7, "name": "tram"}],
    }
    return truth, [{"image_id": i, "category_id": 1, "bbox": list(b), "score": 0.9} for i, b in boxes.items()]
