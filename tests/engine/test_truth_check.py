"""A protocol under which no box counts raises before any work; classes without boxes are reported."""

import json
import re

import numpy as np
import pytest

import evaluate
import train
from data.check import check_dataset
from scoring.evaluator import Evaluator
from scoring.protocols import PROTOCOLS
from scoring.truth_check import check_truth


def truth_of(*boxes, times=(600_000,), categories=("car", "pedestrian")):
    """boxes: (image from 0, category from 0, w, h, more)."""
    return {
        "images": [
            {"id": k, "width": 304, "height": 240, "file_name": "a", "clip": "a", "t_us": t, "start_us": 0}
            for k, t in enumerate(times, 1)
        ],
        "annotations": [
            {"id": k, "image_id": image + 1, "category_id": c + 1, "bbox": [1.0, 1.0, w, h], "iscrowd": 0} | more
            for k, (image, c, w, h, more) in enumerate(boxes, 1)
        ],
        "categories": [{"id": k, "name": name} for k, name in enumerate(categories, 1)],
    }


def test_boxes_that_all_fall_to_the_rules_are_refused_with_the_reason():
    small, early = (0, 0, 28.0, 9.0, {}), (1, 1, 60.0, 60.0, {})
    truth = truth_of(small, small, early, times=(600_000, 500_000))
    said = (
        "split 'val': the protocol prophesee leaves none of its 3 boxes in 2 images to be found: 1 come at t <= 0.5 s"
    )
    with pytest.raises(ValueError, match=re.escape(said) + ".* 2 are too small, the largest 28 x 9 px.*eval.protocol"):
        check_truth("prophesee", truth, "val")
    with pytest.raises(ValueError, match="toolbox leaves none of its 2 boxes.*: 2 are too small"):
        check_truth("toolbox", truth_of(small, small), "val")
    assert check_truth("raw", truth, "val") == check_truth("coco", truth, "val") == []


@pytest.mark.parametrize(("protocol", "flag"), [("coco", "iscrowd"), ("voc07", "difficult"), ("voc10", "iscrowd")])
def test_flagged_boxes_alone_are_refused(protocol, flag):
    truth = truth_of((0, 0, 50.0, 50.0, {flag: 1}), (0, 1, 50.0, 50.0, {flag: 1}))
    with pytest.raises(ValueError, match=f"the protocol {protocol} leaves none of its 2 boxes"):
        check_truth(protocol, truth, "val")
    assert check_truth("raw", truth, "val") == []


@pytest.mark.parametrize("protocol", ["coco", "voc07", "prophesee", "raw"])
def test_a_class_without_truth_and_a_split_without_boxes_are_said(protocol):
    large = (0, 0, 50.0, 50.0, {})
    (line,) = check_truth(protocol, truth_of(large), "test")
    assert line == (
        f"split 'test': no box counts under {protocol} of 'pedestrian': AP of it is undefined, and left out of the mean"
    )
    (line,) = check_truth(protocol, truth_of(large, categories=["car", *map(str, range(9))]), "test")
    assert "of '0', '1', '2', '3', '4' and 4 more: AP of these" in line
    (line,) = check_truth(protocol, truth_of(), "test")
    assert line == "split 'test': none of its 1 images has a box: nothing can be found, and AP is undefined"


@pytest.mark.parametrize("protocol", [name for name in PROTOCOLS if name != "prophesee_1mpx"])
def test_no_number_stands_where_nothing_was_to_be_found(protocol):
    evaluator = Evaluator(truth_of())
    evaluator.add_results([])
    scores = evaluator.score(protocol)
    assert scores["boxes"] == 0 and scores["AP50"] is scores["AP"] is None


def tiny_boxes(scenes, root):
    """The scenes with boxes of 8 pixels."""
    for split in ("train", "val", "test"):
        (root / split).mkdir(parents=True)
        for path in (scenes / split).glob("*_td.dat"):
            (root / split / path.name).symlink_to(path)
            boxes = np.load(scenes / split / path.name.replace("_td.dat", "_bbox.npy"))
            boxes["w"] = boxes["h"] = 8
            np.save(root / split / path.name.replace("_td.dat", "_bbox.npy"), boxes)
    return root


def test_commands_refuse_before_the_work(tiny, scenes, tmp_path, capsys):
    root = tiny_boxes(scenes, tmp_path / "small")
    with pytest.raises(ValueError, match="split 'val': the protocol prophesee leaves none of its .* boxes"):
        train.main([tiny, f"data.root={root}", "eval.protocol=prophesee"])
    assert not (tmp_path / "runs").exists()
    run = train.main([tiny, f"data.root={root}", "train.epochs=1"])
    with pytest.raises(ValueError, match="split 'test': the protocol prophesee leaves none of its .* boxes"):
        evaluate.main([str(run / "checkpoint_last.pt"), "--protocol", "prophesee"])
    (tmp_path / "found.json").write_text(json.dumps([]))
    with pytest.raises(ValueError, match="split 'test': the protocol prophesee leaves none of its .* boxes"):
        evaluate.main(
            [tiny, f"data.root={root}", "--detections", str(tmp_path / "found.json"), "--protocol", "prophesee"]
        )


def test_the_check_finds_it_before(scenes, tmp_path):
    root = tiny_boxes(scenes, tmp_path / "small")

    def judge(truth, split):
        return check_truth("prophesee", truth, split)

    report = check_dataset("gen1", ["train", "val"], root=root, fast=True, judge=judge)
    (problem,) = report.fatal
    assert str(problem).startswith(
        "split 'val': protocol that fits no truth: the protocol prophesee leaves none of its "
    )
    large = check_dataset(
        "gen1", ["train", "val"], root=scenes, fast=True, judge=lambda truth, split: ["split 'val': a."]
    )
    assert any(str(p).startswith("split 'val': nothing to score: a.. Add labels") for p in large.problems.items)
