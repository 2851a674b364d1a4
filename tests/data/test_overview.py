"""The overview of the data at the start of a training, which refuses data without training boxes."""

import pytest

from data import create_dataset, overview
from data.check import check_dataset


def test_the_tables_and_what_is_wrong(coco_folder):
    root = coco_folder(images={"a.png": [(1, [2, 3, 10, 12])] * 2, "b.png": []})
    coco_folder("val", images={"c.png": [(1, [2, 3, 10, 12]), (2, [2, 3, 10, 12])]}, seed=9)
    text = overview({split: create_dataset("coco", split, root=root, size=80) for split in ("train", "val")})
    report = str(check_dataset("coco", ["train", "val"], root=root, size=80))
    assert text.split("1 x ")[0] == report.split("repaired")[0]  # the tables
    assert {line for line in text.splitlines() if " x " in line} == {
        "1 x same box again",
        "1 x class scored but not trained",
    }


def test_many_classes_are_cut(coco_folder):
    categories = {k: f"class{k:02d}" for k in range(1, 81)}
    boxes = [(k, [1, 1, 5 + k / 10, 5]) for k in range(1, 81) for _ in range(81 - k)]
    root = coco_folder(images={"a.png": boxes}, categories=categories, change=lambda c: c["annotations"].reverse())
    text = overview({"train": create_dataset("coco", "train", root=root)}, most=3)
    assert [line.split()[0] for line in text.splitlines() if line.startswith("class0")] == [
        "class01",
        "class02",
        "class03",
    ]
    assert "and 77 classes with fewer boxes; min, median" in text


@pytest.mark.parametrize(("boxes", "value"), [([], "none of 0 boxes"), ([(1, [1, 1, 9, 9])], "none of 1 boxes")])
def test_a_training_without_a_box_is_refused(coco_folder, boxes, value):
    def all_crowds(content):
        for annotation in content["annotations"]:
            annotation["iscrowd"] = 1

    root = coco_folder(images={"a.png": boxes, "b.png": []}, change=all_crowds)
    with pytest.raises(ValueError, match=rf"split 'train': no box to learn: {value} in 2 images.*data\.train_split"):
        overview({"train": create_dataset("coco", "train", root=root)})
    report = check_dataset("coco", ["train"], root=root)
    assert [p.kind for p in report.fatal] == ["no box to learn"]
