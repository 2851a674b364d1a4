"""COCO labels: what is read and mapped, and which errors are refused."""

import json
import re

import numpy as np
import pytest
import torch

from data import Problems, create_dataset
from data.dataset import MissingSplit
from data.images.dataset import valid_boxes


def coco(root, split="train", **kwargs):
    return create_dataset("coco", split, root=root, size=80, **kwargs)


def test_sample(coco_folder):
    root = coco_folder(images={"a.png": [(2, [2, 3, 10, 12])], "empty.png": []})
    dataset = coco(root)
    sample = dataset[0]
    assert len(dataset) == dataset.expected_images == 2
    assert sample.x.shape == (3, 80, 80) and sample.x.dtype == torch.uint8
    # 40x30 doubles to 80x60, centred: 10 gray lines above
    assert sample.boxes.tolist() == [[4, 16, 24, 40]] and sample.labels.tolist() == [1]
    assert sample.original_size == (30, 40)
    assert sample.placement.to_original(sample.boxes).tolist() == [[2, 3, 12, 15]]
    assert dataset.box_sizes().tolist() == [[20, 24]]
    negative = dataset[1]
    assert negative.boxes.shape == (0, 4) and negative.labels.shape == (0,) and negative.labels.dtype == torch.int64


def test_sparse_categories_in_order_of_their_ids(coco_folder):
    root = coco_folder(images={"a.png": [(90, [0, 0, 4, 4]), (7, [1, 1, 4, 4])]}, categories={90: "z", 7: "b", 13: "a"})
    dataset = coco(root)
    assert dataset.class_names == ["b", "a", "z"]
    assert dataset[0].labels.tolist() == [2, 0]
    truth = dataset.ground_truth()
    assert [a["category_id"] for a in truth["annotations"]] == [90, 7]
    assert [c["id"] for c in truth["categories"]] == [7, 13, 90]


def test_crowds_are_truth_but_no_targets(coco_folder):
    def crowd(content):
        content["annotations"][1] |= {"iscrowd": 1, "area": 17.5}

    dataset = coco(coco_folder(images={"a.png": [(1, [0, 0, 4, 4]), (1, [5, 5, 20, 20])]}, change=crowd))
    assert len(dataset[0].boxes) == len(dataset.box_sizes()) == 1
    truth = dataset.ground_truth()["annotations"]
    assert [a["iscrowd"] for a in truth] == [0, 1]
    assert [a["area"] for a in truth] == [16, 17.5]  # the outline's area, not w * h
    json.dumps(truth)


def test_annotation_ids_are_renumbered_from_one(coco_folder):
    def renumber(content):
        for annotation, k in zip(content["annotations"], (0, 5, 5), strict=True):
            annotation["id"] = k

    problems = Problems()
    root = coco_folder(images={"a.png": [(1, [i, 0, 4, 4]) for i in range(3)]}, change=renumber)
    truth = coco(root, problems=problems).ground_truth()
    assert [a["id"] for a in truth["annotations"]] == [1, 2, 3]
    assert problems.counts() == {"repeated annotation id": 1}


@pytest.mark.parametrize(
    ("box", "kind", "kept"),
    [
        ([1, 2, float("nan"), 4], "box not finite", None),
        ([1, 2, float("inf"), 4], "box not finite", None),
        ([1, 2, 0, 4], "box without size", None),
        ([1, 2, 5, -4], "box without size", None),
        ([40, 2, 5, 4], "box outside the image", None),
        ([-9, 2, 5, 4], "box outside the image", None),
        ([-2, -3, 10, 10], "box partly outside the image", [0, 0, 8, 7]),
        ([35, 25, 10, 10], "box partly outside the image", [35, 25, 5, 5]),
        ([0, 0, 40.001, 30], None, [0, 0, 40, 30]),
    ],
)
def test_bad_boxes_are_counted_and_named(coco_folder, box, kind, kept):
    problems = Problems()
    dataset = coco(coco_folder(images={"a.png": [(1, [3, 3, 4, 4]), (2, box)]}), problems=problems)
    boxes = [a["bbox"] for a in dataset.ground_truth()["annotations"]]
    assert boxes == [[3, 3, 4, 4], *([kept] if kept else [])]
    assert problems.counts() == ({kind: 1} if kind else {})
    for problem in problems.items:
        assert "instances_train.json: annotation 2 of a.png" in str(problem) and "on 40x30" in str(problem)


@pytest.mark.parametrize(
    ("written", "read"), [("0", 0), ("1", 1), (True, 1), (None, 0), ("false", 0), ("True", 1), (1, 1), (0.0, 0)]
)
def test_flags_are_read_as_they_were_meant(coco_folder, written, read):
    root = coco_folder(change=lambda c: c["annotations"][0].update(iscrowd=written, difficult=written))
    (box,) = coco(root).ground_truth()["annotations"]
    assert (box["iscrowd"], box["difficult"]) == (read, read)


@pytest.mark.parametrize("area", [0, -3, "large", float("nan"), float("inf"), 10**400, True])
def test_areas_that_are_none_are_named(coco_folder, area):
    problems = Problems()
    dataset = coco(coco_folder(change=lambda c: c["annotations"][0].update(area=area)), problems=problems)
    assert [a["area"] for a in dataset.ground_truth()["annotations"]] == [120]
    assert problems.counts() == {"area is no positive number": 1}
    assert str(area)[:9] in str(problems.items[0]) and "annotation 1 of a.png" in str(problems.items[0])


@pytest.mark.parametrize("area", [None, 7])
def test_areas_may_be_left_out(coco_folder, area):
    problems = Problems()
    dataset = coco(coco_folder(change=lambda c: c["annotations"][0].update(area=area)), problems=problems)
    assert [a["area"] for a in dataset.ground_truth()["annotations"]] == [area or 120] and not problems.items


def test_objects_go_to_their_images_in_any_order(coco_folder):
    images = {"a.png": [(1, [1, 1, 4, 4]), (2, [2, 2, 4, 4])], "b.png": [], "c.png": [(1, [3, 3, 4, 4])]}

    ids = {1: 7, 2: 0, 3: 3}

    def shuffle(content):
        content["annotations"] = [content["annotations"][k] for k in (2, 1, 0)]
        for annotation in content["annotations"]:
            annotation["image_id"] = ids[annotation["image_id"]]
        for image in content["images"]:
            image["id"] = ids[image["id"]]

    truth = coco(coco_folder(images=images, change=shuffle)).ground_truth()
    assert [(a["image_id"], a["bbox"][0]) for a in truth["annotations"]] == [(7, 2), (7, 1), (3, 3)]


def test_strict_refuses_what_would_be_dropped(coco_folder):
    root = coco_folder(images={"a.png": [(1, [1, 2, 0, 4])]})
    with pytest.raises(ValueError, match="annotation 1 of a.png: box without size"):
        coco(root, problems=Problems(strict=True))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["annotations"][0].update(image_id=9), "annotation 1: unknown image: 9"),
        (lambda c: c["annotations"][0].update(image_id=[1]), r"annotation 1: unknown image: \[1\]"),
        (lambda c: c["annotations"][0].update(category_id=9), "annotation 1: unknown category: 9"),
        (lambda c: c["annotations"][0].update(bbox=[1, 2, 3]), r"annotation 1: bad bbox: \[1, 2, 3\]"),
        (lambda c: c["annotations"][0].update(bbox=[1, 2, 3, "four"]), "annotation 1: bad bbox"),
        (lambda c: c["annotations"][0].update(bbox=[1, 2, 3, "4,5"]), r"annotation 1: bad bbox: \[1, 2, 3, '4,5'\]"),
        (lambda c: c["annotations"][0].update(bbox="1 2 3 4"), "annotation 1: bad bbox: '1 2 3 4'"),
        (lambda c: c["annotations"][0].update(bbox=[1, 2, 3, 10**400]), "annotation 1: bad bbox: .*Give"),
        (lambda c: c["annotations"][0].update(bbox=[1, 2, 3, True]), "annotation 1: bad bbox"),
        (
            lambda c: c["annotations"][0].update(image_id="one"),
            "annotation 1: unknown image: 'one'. Give .*whole number",
        ),
        (lambda c: c["annotations"][0].update(category_id=True), "annotation 1: unknown category: True"),
        (lambda c: c["annotations"][0].update(iscrowd="maybe"), "annotation 1: bad flag: {'iscrowd': 'maybe'.*0 or 1"),
        (lambda c: c["annotations"][0].update(difficult=2), "annotation 1: bad flag: .*'difficult': 2"),
        (lambda c: c["annotations"][0].pop("bbox"), r"annotations\[0\]: incomplete entry"),
        (lambda c: c["images"].append(dict(c["images"][0])), "image a.png: bad image id: 1"),
        (lambda c: c["images"][0].update(file_name=5), "image 1: bad file name: 5. Give a valid file name"),
        (lambda c: c["images"][0].update(file_name=""), "image 1: bad file name: ''"),
        (lambda c: c["images"][0].update(file_name="."), "listed images are missing"),
        (lambda c: c["images"][0].update(id="1.5"), "image a.png: bad image id: '1.5'"),
        (lambda c: c["images"][0].update(id="a"), "image a.png: bad image id: 'a'"),
        (lambda c: c["images"][0].update(id=None), "image a.png: bad image id: None"),
        (lambda c: c["images"].append({**c["images"][0], "id": "1"}), "image a.png: bad image id: '1'"),
        (lambda c: c["images"][0].update(width=40.5), r"image a.png: bad image size: \(40.5, 30\)"),
        (lambda c: c["images"][0].update(width="wide"), r"image a.png: bad image size: \('wide', 30\)"),
        (lambda c: c["images"][0].update(width=None), r"image a.png: bad image size: \(None, 30\)"),
        (lambda c: c["images"][0].update(width=10**30), "image a.png: bad image size"),
        (lambda c: c["images"][0].update(width=True), r"image a.png: bad image size: \(True, 30\)"),
        (lambda c: c["images"][0].update(width=0), r"image a.png: bad image size: \(0, 30\)"),
        (lambda c: c["categories"].append({"id": 1, "name": "cow"}), "category 'cow': bad category id"),
        (
            lambda c: c["categories"].append({"id": 3, "name": "cat"}),
            "category 3: bad category name: 'cat'. Use",
        ),
        (lambda c: c["categories"][0].update(name=None), "category 1: bad category name: None"),
        (lambda c: c.pop("annotations"), "has no list 'annotations'"),
        (lambda c: c["categories"].clear(), "names no category"),
        (lambda c: (c["images"].clear(), c["annotations"].clear()), "lists no image"),
    ],
)
def test_bad_labels_are_fatal(coco_folder, change, message):
    with pytest.raises(ValueError, match=f"instances_train.json.*{message}"):
        coco(coco_folder(change=change))


def test_bad_records_can_be_collected(coco_folder):
    def spoil(content):
        content["annotations"][0]["image_id"] = 9
        content["annotations"][1]["category_id"] = 9

    problems = Problems(collect=True)
    root = coco_folder(images={"a.png": [(1, [i, 0, 4, 4]) for i in range(3)]}, change=spoil)
    assert len(coco(root, problems=problems).ground_truth()["annotations"]) == 1
    assert [p.fatal for p in problems.items] == [True, True]


def test_not_json(coco_folder):
    root = coco_folder()
    (root / "annotations" / "instances_train.json").write_text('{"images": [')
    with pytest.raises(ValueError, match="instances_train.json: not a json file"):
        coco(root)


def test_missing_images(coco_folder):
    root = coco_folder(images={f"{k}.png": [(1, [1, 1, 4, 4])] for k in "abcdef"})
    for k in "abcd":
        (root / "train" / f"{k}.png").unlink()
    with pytest.raises(
        ValueError, match=r"4 of 6 listed.*a\.png, .*b\.png, .*c\.png \.\.\.\. Copy.*allow_missing=true"
    ):
        coco(root)
    dataset = coco(root, allow_missing=True)
    assert (len(dataset), dataset.expected_images) == (2, 6)
    (problem,) = dataset.problems.items
    assert "4 of 6" in str(problem) and "left out" in str(problem) and not problem.fatal
    assert [i["id"] for i in dataset.ground_truth()["images"]] == [5, 6] == [dataset[0].image_id, dataset[1].image_id]
    assert len(dataset.ground_truth()["annotations"]) == 2


def test_layouts(coco_folder, tmp_path):
    root = coco_folder("val2017")
    assert len(coco(root, "val")) == 1
    for split in ("train", "test"):
        with pytest.raises(MissingSplit, match=f"split '{split}'.*instances_{split}.json"):
            coco(root, split)
    (root / "photos").mkdir()
    (root / "val2017" / "a.png").rename(root / "photos" / "a.png")
    (root / "annotations" / "instances_val2017.json").rename(root / "mine.json")
    dataset = coco(root, "test", annotations={"test": "mine.json"}, images={"test": "photos"})
    assert dataset.ground_truth()["images"][0]["file_name"] == "photos/a.png" and dataset[0].x.any()


@pytest.mark.parametrize("folder", ["val", "val2017", "valid", "validation"])
def test_other_names_of_a_split(coco_folder, folder):
    root = coco_folder(folder)
    (root / "annotations" / f"instances_{folder}.json").rename(root / folder / "_annotations.coco.json")
    assert coco(root, "val").ground_truth()["images"][0]["file_name"] == f"{folder}/a.png"


@pytest.mark.parametrize("argument", ["annotations", "images"])
@pytest.mark.parametrize("value", ["train", {"train": 5}, {"train": None}])
def test_places_are_named_for_each_split(coco_folder, argument, value):
    with pytest.raises(ValueError, match=f"{argument} = .*give a path for each split"):
        coco(coco_folder(), **{argument: value})


def test_what_is_no_file_is_missing(coco_folder):
    root = coco_folder(images={"a.png": [], "b.png": [], "c.png": []})
    for name in ("a.png", "b.png"):
        (root / "train" / name).unlink()
    (root / "train" / "a.png").symlink_to("nowhere")
    (root / "train" / "b.png").mkdir()
    with pytest.raises(ValueError, match=r"2 of 3 listed images are missing: .*a\.png"):
        coco(root)


def test_root_is_the_working_folder(coco_folder, monkeypatch):
    root = coco_folder()
    (root / "train" / "a.png").rename(root / "a.png")
    monkeypatch.chdir(root)
    assert coco(".")[0].x.any()


def test_image_of_another_size(coco_folder, write_image):
    root = coco_folder()
    write_image(root / "train" / "a.png", 30, 40)
    with pytest.raises(ValueError, match=r"a\.png: unreadable image: the image is 30x40, its label says 40x30"):
        coco(root)


@pytest.mark.parametrize(("size", "shape"), [(64, (64, 64)), ([48, 96], (48, 96))])
def test_size(coco_folder, size, shape):
    assert create_dataset("coco", "train", root=coco_folder(), size=size)[0].x.shape == (3, *shape)


@pytest.mark.parametrize(
    "size", [0, [3], [10, -1], "abc", "64", ["a", "b"], [None, 3], 64.5, [64.0, 64], True, {"h": 3}]
)
def test_bad_size(coco_folder, size):
    with pytest.raises(ValueError, match=f"size = {re.escape(repr(size))}: give one number of pixels"):
        create_dataset("coco", "train", root=coco_folder(), size=size)


def test_misspelt_arguments(coco_folder):
    root = coco_folder()
    with pytest.raises(ValueError, match="did you mean 'hflip'"):
        coco(root, augment={"hfilp": 0.5})
    with pytest.raises(ValueError, match="did you mean 'annotations'"):
        coco(root, anotations={})
    with pytest.raises(ValueError, match="no such folder"):
        coco(root / "nowhere")


def test_valid_boxes_of_nothing():
    boxes, keep = valid_boxes(np.zeros((0, 4)), np.zeros((0, 2)), lambda i: ("", "", ""), Problems())
    assert boxes.shape == (0, 4) and keep.shape == (0,)


def test_one_json_is_split(coco_folder, write_image):
    images = {f"{k}.png": [(1, [2, 3, 10, 12])] for k in range(10)}
    root = coco_folder("default", images=images)
    (root / "default").rename(root / "images")
    splits = {"train": 0.8, "val": 0.1, "test": 0.1}
    with pytest.raises(MissingSplit, match=r"split 'train': .*data\.splits=\{train: 0\.8.*from one label file"):
        create_dataset("coco", "train", root=root)
    datasets = [create_dataset("coco", split, root=root, splits=splits) for split in splits]
    assert [len(dataset) for dataset in datasets] == [dataset.expected_images for dataset in datasets] == [8, 1, 1]
    truths = [dataset.ground_truth() for dataset in datasets]
    assert [len(truth["annotations"]) for truth in truths] == [8, 1, 1]
    assert sorted(image["id"] for truth in truths for image in truth["images"]) == list(range(1, 11))
    (root / "notes.json").write_text('{"categories": []}')  # as Label Studio writes
    assert len(create_dataset("coco", "val", root=root, splits=splits)) == 1
    (root / "b.json").write_text((root / "annotations" / "instances_default.json").read_text())
    with pytest.raises(ValueError, match=r"holds annotations/instances_default\.json, b\.json\. Name the one to split"):
        create_dataset("coco", "val", root=root, splits=splits)
    assert len(create_dataset("coco", "val", root=root, splits=splits, annotations="b.json")) == 1
    (root / "b.json").unlink()
    (root / "annotations" / "instances_default.json").rename(root / "images" / "_annotations.coco.json")
    (root / "images").rename(root / "train")  # as Roboflow exports one split
    assert len(create_dataset("coco", "val", root=root, splits=splits)) == 1
