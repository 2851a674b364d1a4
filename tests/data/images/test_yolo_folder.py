"""YOLO folders of Darknet, CVAT, labelImg, Label Studio and Roboflow; and unrelated yaml files."""

import shutil

import pytest

from data import create_dataset
from data.dataset import MissingSplit
from data.files import read_yaml

BOX = "0 0.5 0.5 0.5 0.4\n"
SPLITS = {"train": 0.5, "val": 0.25, "test": 0.25}


def names(root, split="train", **options):
    dataset = create_dataset("yolo", split, root=root, size=80, **options)
    found = [image["file_name"] for image in dataset.ground_truth()["images"]]
    assert len(dataset.ground_truth()["annotations"]) == len(found)
    return found


@pytest.fixture
def photos(tmp_path, write_image):
    """photos(folder, stems): images, each with a label of one box beside it, or in `labels` where it is `images`."""

    def write(folder, stems, ending="png"):
        for stem in stems:
            image = write_image(tmp_path / folder / f"{stem}.{ending}", seed=len(list(tmp_path.rglob("*"))))
            label = tmp_path / f"{folder}/{stem}.txt".replace("images/", "labels/")
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text(BOX)
        return image

    return write


def test_cvat_yolo_1_1(tmp_path, photos):
    """Paths begin with `data/`, the folder that Darknet is started above."""
    photos("obj_train_data", "ab")
    photos("obj_valid_data/sub", "c")
    (tmp_path / "obj.data").write_text(
        "classes = 2\ntrain = data/train.txt\nvalid = data/valid.txt\nnames = data/obj.names\nbackup = backup/\n"
    )
    (tmp_path / "obj.names").write_text("cat\ndog\n")
    (tmp_path / "train.txt").write_text("data/obj_train_data/a.png\ndata/obj_train_data/b.png\n")
    (tmp_path / "valid.txt").write_text("data/obj_valid_data/sub/c.png\n")
    assert names(tmp_path) == names(tmp_path / "obj.data") == ["obj_train_data/a.png", "obj_train_data/b.png"]
    assert names(tmp_path, "val") == ["obj_valid_data/sub/c.png"]
    assert create_dataset("yolo", "train", root=tmp_path).class_names == ["cat", "dog"]
    with pytest.raises(MissingSplit, match="obj.data names no images for it.*data.splits="):
        names(tmp_path, "test")
    (tmp_path / "obj.names").unlink()
    with pytest.raises(ValueError, match=r"obj.data: names = data/obj.names: no such file below"):
        names(tmp_path)


def test_cvat_ultralytics(tmp_path, photos):
    photos("images/train", "ab")
    (tmp_path / "data.yaml").write_text("path: .\ntrain: train.txt\nnames:\n  0: cat\n")
    (tmp_path / "train.txt").write_text("data/images/train/gone.png\ndata/images/train/a.png\n")
    with pytest.raises(ValueError, match="1 of 2 listed images are missing: .*/images/train/gone.png"):
        names(tmp_path)
    assert names(tmp_path, allow_missing=True) == ["images/train/a.png"]


def test_roboflow_darknet(tmp_path, photos):
    for split, stems in (("train", "abc"), ("valid", "d"), ("test", "e")):
        photos(split, stems)
        (tmp_path / split / "_darknet.labels").write_text("cat\ndog\n")
    assert names(tmp_path) == ["train/a.png", "train/b.png", "train/c.png"]
    assert names(tmp_path, "val") == ["valid/d.png"] and names(tmp_path, "test") == ["test/e.png"]
    (tmp_path / "test" / "_darknet.labels").write_text("dog\ncat\n")
    with pytest.raises(ValueError, match="_darknet.labels: name different classes"):
        names(tmp_path)


@pytest.mark.parametrize("folder", ["images", "."])
def test_one_folder(tmp_path, photos, folder):
    """As Label Studio and labelImg write it, without splits."""
    photos(f"{folder}/", "abcdefgh")
    (tmp_path / "classes.txt").write_text("cat\n")
    (tmp_path / "notes.json").write_text("{}")
    with pytest.raises(MissingSplit, match=r"split 'train': .*data\.splits=\{train: 0\.8, val: 0\.1, test: 0\.1\}"):
        names(tmp_path)
    found = {split: names(tmp_path, split, splits=SPLITS) for split in SPLITS}
    assert {split: len(part) for split, part in found.items()} == {"train": 4, "val": 2, "test": 2}
    assert len({name for part in found.values() for name in part}) == 8


def test_splits_of_what_a_yaml_names(tmp_path, photos):
    photos("images/all", "abcd")
    photos("images/unused", "x")
    (tmp_path / "data.yaml").write_text("train: ../images/all\nval: ../valid/images\nnames: {'0': cat, '1': dog}\n")
    found = [name for split in SPLITS for name in names(tmp_path, split, splits=SPLITS)]
    assert sorted(found) == [f"images/all/{stem}.png" for stem in "abcd"]
    for kind in ("images", "labels"):
        shutil.rmtree(tmp_path / kind / "all")
    assert names(tmp_path, splits={"train": 1.0}) == ["images/unused/x.png"]


def test_lists_without_a_yaml(tmp_path, photos):
    photos("photos", "ab")
    (tmp_path / "train.txt").write_text("photos\\b.png\n")
    (tmp_path / "coco.names").write_text("cat\n")
    assert names(tmp_path) == ["photos/b.png"]


def test_hidden_yaml_files_are_no_candidates(tmp_path, photos):
    photos("images/train", "a")
    (tmp_path / ".pre-commit-config.yaml").write_text("repos: []\n")
    (tmp_path / "data.yaml").write_text("train: images/train\nnames: {'0': cat}\n")
    (tmp_path / "mine.yaml").write_text("data: {name: yolo}\n")  # a config of ours names no classes
    assert names(tmp_path) == ["images/train/a.png"]
    assert create_dataset("yolo", "train", root=tmp_path).class_names == ["cat"]


def test_bombs_are_refused(tmp_path):
    file = tmp_path / "data.yaml"
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]\n" for k in range(1, 10))
    for text, message in (
        (bomb + "names: *a9\n", r"line 2: alias \*a0. Write its value out"),
        ("base: &base {a: 1}\nnames:\n  <<: *base\n", "line 3: alias"),
        ("names: " + "[" * 10_000, "not a readable yaml file"),
        ("names: [" + "x, " * 500_000 + "]", "longer than 1 MiB"),
        ("day: 2020-13-45", "not a readable yaml file"),
    ):
        file.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_yaml(file)
    file.write_text("a: &anchor [1]\nnames: [cat]\n")  # an anchor that nothing refers to
    assert read_yaml(file) == {"a": [1], "names": ["cat"]}
