"""Evaluator: mapping boxes back to original pixels, merging ranks, and errors for bad or missing outputs."""

import json

import pytest
import torch

from data.sample import Batch, Placement
from engine.evaluation import write_detections
from scoring.coco_ap import coco_ap
from scoring.evaluator import Evaluator

SIZE = (200, 100)  # height, width of the images


def ground_truth(images=3):
    """One tram (label 1, category 20) per image."""
    return {
        "images": [{"id": 10 * i, "width": 100, "height": 200, "file_name": f"{i}.jpg"} for i in range(1, images + 1)],
        "annotations": [
            {"id": i, "image_id": 10 * i, "category_id": 20, "bbox": [10.0, 20.0, 30.0, 40.0], "area": 1200.0}
            for i in range(1, images + 1)
        ],
        "categories": [{"id": 7, "name": "car"}, {"id": 20, "name": "tram"}],
    }


def batch(*image_ids, placement=None):
    n = len(image_ids)
    return Batch(
        x=torch.zeros(n, 3, 64, 64, dtype=torch.uint8),
        targets=[{}] * n,
        image_ids=list(image_ids),
        original_sizes=[SIZE] * n,
        placements=[placement or Placement()] * n,
        scale=1 / 255,
        starts=torch.ones(n, dtype=torch.bool),
    )


def output(*boxes, scores=None, labels=None):
    n = len(boxes)
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(n, 4),
        "scores": torch.tensor(scores if scores is not None else [0.5] * n),
        "labels": torch.tensor(labels if labels is not None else [1] * n, dtype=torch.int64),
    }


TRAM = [10.0, 20.0, 40.0, 60.0]


def test_a_perfect_pass_scores_one():
    evaluator = Evaluator(ground_truth())
    evaluator.add([output(TRAM), output(TRAM)], batch(10, 20))
    evaluator.add([output(TRAM)], batch(30))
    scores = evaluator.score("coco")
    assert scores["AP"] == pytest.approx(1.0)
    assert scores["protocol"] == "coco" and scores["rule"].startswith("COCO:")
    assert scores["images"] == scores["evaluated_images"] == scores["expected_images"] == 3


def test_boxes_are_mapped_back_clipped_and_labels_become_category_ids():
    evaluator = Evaluator(ground_truth())
    placement = Placement(scale_x=0.5, scale_y=0.25, left=4, top=6)
    # x: (14 - 4) / .5 = 20, (64 - 4) / .5 = 120 -> 100;  y: (1 - 6) / .25 = -20 -> 0, (16 - 6) / .25 = 40
    evaluator.add([output([14, 1, 64, 16], scores=[0.25], labels=[0])], batch(20, placement=placement))
    assert evaluator.detections() == [
        {"image_id": 20, "category_id": 7, "bbox": [20.0, 0.0, 80.0, 40.0], "score": 0.25}
    ]


def test_a_box_beside_the_image_stays_as_a_false_positive():
    evaluator = Evaluator(ground_truth(1))
    evaluator.add([output([120, 20, 140, 60], TRAM, scores=[0.9, 0.8])], batch(10))
    assert evaluator.detections()[0]["bbox"] == [100.0, 20.0, 0.0, 40.0]
    assert evaluator.score("coco")["AP"] == pytest.approx(0.5)


def test_images_without_detections_are_seen():
    evaluator = Evaluator(ground_truth(2))
    evaluator.add([output(), output()], batch(10, 20))
    assert evaluator.seen_images == 2 and evaluator.detections() == []
    assert evaluator.score("coco")["AP"] == 0


def test_an_image_seen_twice_counts_once():
    evaluator = Evaluator(ground_truth(1))
    evaluator.add([output(TRAM), output(TRAM, TRAM)], batch(10, 10))
    evaluator.add([output()], batch(10))
    assert len(evaluator.detections()) == 1


def test_ranks_give_what_one_process_gives():
    """Ties in score are broken by order, so the order must not depend on who saw what."""
    gt = ground_truth(5)
    shifted = [[10.0 + k, 20.0, 40.0 + k, 60.0] for k in range(0, 25, 5)]
    outputs = [output(box, TRAM) for box in shifted]
    whole = Evaluator(gt)
    whole.add(outputs, batch(10, 20, 30, 40, 50))

    ranks = [Evaluator(gt) for _ in range(2)]
    ranks[1].add(outputs[3:] + outputs[:1], batch(40, 50, 10))  # 10 is the sampler's padding
    ranks[0].add(outputs[:3], batch(10, 20, 30))
    merged = Evaluator(gt)
    merged.merge([ranks[1].state(), ranks[0].state()])
    assert merged.detections() == whole.detections()
    assert merged.score("coco") == whole.score("coco")


def test_of_two_ranks_that_saw_an_image_the_first_counts():
    first, second, merged = (Evaluator(ground_truth(1)) for _ in range(3))
    first.add([output(TRAM)], batch(10))
    second.add([output()], batch(10))
    merged.merge([first.state(), second.state()])
    assert merged.detections() == first.detections() != []


def test_missing_images_raise_and_are_named():
    evaluator = Evaluator(ground_truth(6))
    evaluator.add([output(TRAM)], batch(20))
    with pytest.raises(ValueError, match=r"seen 1 of 6 images.*1\.jpg, 3\.jpg, 4\.jpg \.\.\.\. .*--allow-missing"):
        evaluator.score("coco")


def test_allow_missing_scores_what_was_seen_and_says_so():
    evaluator = Evaluator(ground_truth(6), allow_missing=True)
    evaluator.add([output(TRAM), output()], batch(20, 30))
    scores = evaluator.score("coco")
    assert (scores["images"], scores["evaluated_images"], scores["expected_images"]) == (2, 2, 6)
    assert scores["AP"] == pytest.approx(51 / 101)


def test_files_that_the_labels_list_are_expected_too():
    """The truth holds the images present; the labels listed one more."""
    evaluator = Evaluator(ground_truth(1), expected_images=2)
    evaluator.add([output(TRAM)], batch(10))
    with pytest.raises(ValueError, match="seen 1 of 2 images"):
        evaluator.score("coco")
    allowed = Evaluator(ground_truth(1), expected_images=2, allow_missing=True)
    allowed.add([output(TRAM)], batch(10))
    assert allowed.score("coco")["AP"] == pytest.approx(1.0) and allowed.score("coco")["expected_images"] == 2


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (output([0.0, 0.0, float("nan"), 1.0]), "2.jpg: detection 0 is box"),
        (output([0.0, 0.0, float("inf"), 1.0]), "1 of 1 are not finite"),
        (output(TRAM, TRAM, scores=[0.5, float("nan")]), "2.jpg: detection 1 .* with score nan"),
        (output([5.0, 0.0, 4.0, 1.0]), "end before they begin"),
        (output(TRAM, labels=[2]), r"2.jpg: the model gave labels 2\.\.2, the dataset has 2 classes"),
        (output(TRAM, labels=[-1]), "num_classes=2"),
    ],
)
def test_bad_outputs_raise_and_name_the_image(bad, says):
    with pytest.raises(ValueError, match=says):
        Evaluator(ground_truth()).add([bad], batch(20))


def test_a_foreign_batch_raises():
    with pytest.raises(ValueError, match="no image 99"):
        Evaluator(ground_truth()).add([output(TRAM)], batch(99))
    with pytest.raises(ValueError, match="1 outputs for a batch of 2"):
        Evaluator(ground_truth()).add([output(TRAM)], batch(10, 20))
    with pytest.raises(ValueError, match="unknown protocol"):
        Evaluator(ground_truth()).score("cocoo")


def test_written_detections_score_the_same_and_leave_no_scraps(tmp_path):
    evaluator = Evaluator(ground_truth())
    third = [10.0 + 1 / 3, 20.0, 40.0, 60.0 - 1 / 7]
    evaluator.add([output(third), output(TRAM, third, scores=[0.1, 1 / 3]), output()], batch(10, 20, 30))
    path = tmp_path / "run" / "detections.json"
    write_detections(path, evaluator)
    write_detections(path, evaluator)
    assert [p.name for p in path.parent.iterdir()] == ["detections.json"]
    read = json.loads(path.read_text())
    assert read == evaluator.detections()
    assert coco_ap(ground_truth(), read)["AP"] == evaluator.score("coco")["AP"]


def test_results_taken_back_are_the_run_that_wrote_them():
    gt, run = ground_truth(), Evaluator(ground_truth())
    third = [10.0 + 1 / 3, 20.0, 40.0, 60.0 - 1 / 7]
    run.add([output(third, TRAM, scores=[0.3, 0.3]), output(TRAM, labels=[0]), output()], batch(10, 20, 30))
    again = Evaluator(gt)
    again.add_results(run.detections())
    assert again.detections() == run.detections() and again.score("voc10") == run.score("voc10")
    assert again.seen_images == 3
    with pytest.raises(ValueError, match="no such image"):
        again.add_results([{"image_id": 99, "category_id": 7, "bbox": [0, 0, 1, 1], "score": 0.5}])


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "detections.json"
    path.write_text("old")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk")))
    with pytest.raises(OSError, match="disk"):
        write_detections(path, Evaluator(ground_truth()))
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["detections.json"]
