"""The check of a dataset reports its statistics, and all problems at once."""

from pathlib import Path

import numpy as np
import pytest

from data.check import check_dataset
from data.recordings import write_boxes, write_dat
from data.recordings.boxes import BOX_DTYPE

REPOSITORY = Path(__file__).parents[2]
BOTH = {"a.png": [(1, [2, 3, 10, 12]), (2, [20, 3, 10, 12])]}  # a box of each class


def kinds(report, fatal=None):
    items = [p for p in report.problems.items if fatal is None or p.fatal == fatal]
    return {kind: sum(p.kind == kind for p in items) for kind in {p.kind for p in items}}


def test_what_a_split_holds(coco_folder):
    boxes = {"a.png": [(1, [1, 1, 3, 8]), (2, [5, 5, 10, 20]), (2, [9, 9, 12, 12])], "b.png": [], "c.png": []}
    root = coco_folder(images=boxes, change=lambda c: c["annotations"][2].update(iscrowd=1))
    coco_folder("val", images={"d.png": [(2, [1, 1, 20, 20]), (2, [1, 9, 20, 20])]}, seed=9)
    report = check_dataset("coco", ["train", "val"], root=root, size=80)
    split = report.splits["train"]
    assert (split.images, split.missing, split.negatives, split.image_sizes) == (3, 0, 2, {(40, 30): 3})
    assert split.boxes_per_image.tolist() == [3, 0, 0]
    cat, dog = split.classes["cat"], split.classes["dog"]
    assert (cat.boxes, cat.images, cat.crowd, dog.boxes, dog.images, dog.crowd) == (1, 1, 0, 2, 1, 1)
    assert cat.short_sides.tolist() == [6] and dog.short_sides.tolist() == [20]  # doubled; without the crowd
    assert not report.problems.items
    assert str(report).splitlines() == [
        "                                  train    val",
        "images                                3      1",
        "  without boxes                       2      0",
        "  listed, not usable                  0      0",
        "boxes in one image, median / max  0 / 3  2 / 2",
        "image sizes                       40x30  40x30",
        "",
        "      | train                                      | val",
        "class | boxes     % images crowd min median max <8 | boxes     % images crowd min median max <8",
        "all   |     3 100.0      1     1 6.0     13  20  1 |     2 100.0      1     0  40     40  40  0",
        "dog   |     2  66.7      1     1  20     20  20  0 |     2 100.0      1     0  40     40  40  0",
        "cat   |     1  33.3      1     0 6.0    6.0 6.0  1 |     0   0.0      0     0   -      -   -  0",
        "min, median, max, <8: the shorter side of the boxes to learn, in pixels of the network's input",
        "",
        "nothing wrong was found",
    ]


def test_classes_without_training_boxes(coco_folder):
    categories = dict(enumerate(["cat", "dog", "cow", "hen"], 1))
    crowd = {"a.png": [(1, [1, 1, 9, 9]), (4, [9, 9, 9, 9])]}
    root = coco_folder("train", crowd, categories, change=lambda c: c["annotations"][1].update(iscrowd=1))
    coco_folder("val", {"b.png": [(1, [1, 1, 9, 9]), (2, [9, 1, 9, 9]), (2, [9, 9, 9, 9])]}, categories, seed=9)
    report = check_dataset("coco", ["train", "val"], root=root)
    assert kinds(report, fatal=False) == {"class without training boxes": 2, "class scored but not trained": 1}
    for line in (
        "split 'train': dog: class scored but not trained: no box, but 2 in 'val'. The network cannot learn it",
        "split 'train': cow: class without training boxes: no box. ",
        "split 'train': hen: class without training boxes: 1 boxes, all of them crowd or difficult. ",
    ):
        assert line in str(report)
    assert not check_dataset("coco", ["val", "train"], root=root).problems.counts()["class scored but not trained"]


def test_eighty_classes_are_a_row_each(coco_folder):
    categories = {k: f"class{k}" for k in range(1, 81)}
    root = coco_folder("train", {"a.png": [(k, [1, 1, 5, 5]) for k in range(80, 0, -1)]}, categories)
    text = str(check_dataset("coco", ["train"], root=root))
    rows = [line for line in text.splitlines() if line.startswith("class") and "class " not in line[:6]]
    assert [row.split()[0] for row in rows] == list(categories.values())
    assert max(map(len, text.splitlines())) < 120


def test_everything_wrong_is_found_at_once(coco_folder, write_image):
    def spoil(content):
        content["annotations"][0]["category_id"] = 9
        content["images"].append({"id": 77, "file_name": "gone.png", "width": 40, "height": 30})

    images = {f"{k}.png": [(1, [1, 1, 4, 4]), (2, [5, 5, 0, 5]), (2, [7, 7, 3, 3]), (2, [7, 7, 3, 3])] for k in "abcd"}
    root = coco_folder(images=images, change=spoil)
    coco_folder("val", images={"x.png": []}, seed=100)
    (root / "train" / "b.png").write_bytes(b"no image")
    write_image(root / "train" / "c.png", 41, 30)
    (root / "val" / "x.png").write_bytes((root / "train" / "d.png").read_bytes())

    report = check_dataset("coco", ["train", "val", "test"], optional=["test"], root=root)
    fatal = {"unknown category": 1, "missing images": 1, "unreadable image": 2}
    assert kinds(report, fatal=True) == fatal and len(report.fatal) == 4
    assert kinds(report, fatal=False) == {"box without size": 4, "same box again": 2, "same file in two splits": 1}
    assert report.absent == ["test"] and report.splits["train"].missing == 3
    text = str(report)
    for line in (
        "annotation 1: unknown category: 9",
        "1 of 5 listed images are missing",
        "b.png: unreadable image: cannot be decoded",
        "c.png: unreadable image: the image is 41x30, its label says 40x30",
        "annotation 2 of a.png: box without size: x, y, w, h = [5, 5, 0, 5]",
        f"x.png: split 'val': same file in two splits: same content as {root / 'train' / 'd.png'}",
        "no split 'test'",
    ):
        assert line in text


def test_fast_reads_headers_only(coco_folder):
    root = coco_folder(images=BOTH)
    coco_folder("val", images={"other.png": []}, seed=100)
    whole = (root / "train" / "a.png").read_bytes()
    (root / "train" / "a.png").write_bytes(whole.replace(whole[900:920], bytes(20)))  # in the midst of the pixels
    assert check_dataset("coco", ["train", "val"], fast=True, root=root).problems.items == []
    assert kinds(check_dataset("coco", ["train"], root=root), fatal=True) == {"unreadable image": 1}
    (root / "train" / "a.png").write_bytes(b"no image")
    assert kinds(check_dataset("coco", ["train"], fast=True, root=root), fatal=True)["unreadable image"] == 1


def test_fast_compares_names_and_lengths(voc_folder):
    root = voc_folder({"train": {"a": [("cell", [3, 4, 20, 25], 0)], "b": []}, "val": {"b": [], "c": []}})
    report = check_dataset("voc", ["train", "val"], fast=True, root=root)
    assert kinds(report) == {"same file in two splits": 1} and "b.png" in str(report)


def test_absent_splits(coco_folder):
    report = check_dataset("coco", ["train", "val"], root=coco_folder(images=BOTH))
    assert kinds(report) == {"unreadable split": 1} and report.fatal and "split 'val'" in str(report)


def test_bad_options_are_said_once_for_all_splits(events):
    root, _ = events
    (root / "val").symlink_to(root / "train")
    (problem,) = check_dataset("gen1", ["train", "val"], root=root, pad=300).fatal
    said = "splits 'train', 'val': unreadable split: pad = 300: give a whole number from 0 to 255. The rest"
    assert str(problem).startswith(said)
    (problem,) = check_dataset("gen1", ["train", "val"], root=root, labels={"from_ms": 5000}).fatal
    assert str(problem).startswith("splits 'train', 'val': unreadable split: no label time is kept. Labels left out: 2")
    first, second = check_dataset("gen1", ["trian", "tset"], root=root).fatal  # each has its folder
    assert str(first).startswith("split 'trian': unreadable split: ") and "tset: no such folder" in str(second)


def test_the_split_is_named_once(voc_folder, coco_folder):
    (problem,) = check_dataset("voc", ["vall"], root=voc_folder({"val": {"a": []}})).fatal
    assert str(problem).startswith("split 'vall': unreadable split: no file ")
    (problem,) = check_dataset("coco", ["vall"], root=coco_folder()).fatal
    assert str(problem).count("split 'vall'") == 1


def test_misspelt_augmentation(coco_folder):
    report = check_dataset("coco", ["train"], root=coco_folder(), augment={"hflop": 1})
    assert report.fatal and "did you mean 'hflip'" in str(report)


def test_classes_differ(coco_folder):
    root = coco_folder(images=BOTH)
    coco_folder("val", categories={1: "cat", 2: "cow"}, seed=9)
    assert kinds(check_dataset("coco", ["train", "val"], root=root)) == {"classes differ between splits": 1}


@pytest.fixture
def events(tmp_path):
    """Two clips of one split; the times of the second run backwards where `spoil` is called."""
    (tmp_path / "train").mkdir()
    t = np.arange(0, 600_000, 1000)
    for name in ("one", "two"):
        stem = tmp_path / "train" / name
        write_dat(Path(f"{stem}_td.dat"), t, t // 1000 % 64, t // 1000 % 48, t // 1000 % 2, 64, 48)
        boxes = np.array([(499_999, 5, 5, 20, 20, 0, 1, 1), (499_999, 9, 9, 0, 20, 1, 2, 1)], BOX_DTYPE)
        write_boxes(Path(f"{stem}_bbox.npy"), boxes)

    def spoil():
        raw = bytearray((tmp_path / "train" / "two_td.dat").read_bytes())
        raw[-8:-4] = (5).to_bytes(4, "little")
        (tmp_path / "train" / "two_td.dat").write_bytes(raw)

    return tmp_path, spoil


def test_events_are_all_read(events):
    root, spoil = events
    report = check_dataset("gen1", ["train"], root=root)
    assert {name: found.boxes for name, found in report.splits["train"].classes.items()} == {"car": 2, "pedestrian": 0}
    unlearnt = {"class without training boxes": 1}
    assert kinds(report) == {"box without size": 2, "same file again in a split": 1, **unlearnt}
    spoil()
    report = check_dataset("gen1", ["train"], root=root)
    assert kinds(report, fatal=True) == {"time runs backwards": 1} and "two_td.dat: record 599" in str(report)
    assert not check_dataset("gen1", ["train"], fast=True, root=root).fatal


def test_what_recordings_hold(events):
    root, spoil = events
    (root / "val").mkdir()
    t = np.array([0, 200_000_000])
    write_dat(root / "val" / "dark_td.dat", t, 0 * t, 0 * t, 0 * t, 64, 48)
    t = np.arange(0, 10_001, 2)
    write_dat(root / "val" / "burst_td.dat", t, 0 * t, 0 * t, 0 * t + 1, 64, 48)
    write_dat(root / "val" / "none_td.dat", t[:0], t[:0], t[:0], t[:0], 64, 48)
    for name in ("dark", "burst", "none"):
        write_boxes(root / "val" / f"{name}_bbox.npy", np.array([(5000, 5, 5, 20, 20, 0, 1, 1)], BOX_DTYPE))
    report = check_dataset("gen1", ["train", "val"], root=root)
    assert str(report).splitlines()[6:12] == [
        "recordings                                            2                   3",
        "  duration                                        1.2 s             3.3 min",
        "  events [M]                                     0.0012               0.005",
        "  ON events                                      50.0 %             100.0 %",
        "  rate [M/s]                                      0.001             2.5e-05",
        "  of one, min / median / max      0.001 / 0.001 / 0.001  1e-08 / 0.25 / 0.5",
    ]
    assert "rate [M/s]" not in str(check_dataset("gen1", ["train", "val"], root=root, fast=True))
    spoil()
    assert len(check_dataset("gen1", ["train"], root=root).splits["train"].recordings) == 1  # of what can be trained on


def test_command(command, coco_folder, tmp_path):
    root = coco_folder(images=BOTH)
    coco_folder("val", images={"b.png": BOTH["a.png"]}, seed=50)
    config = tmp_path / "mine.yaml"
    config.write_text(f"data: {{name: coco, root: {root}, size: [64, 64], augment: {{hflip: 0.5}}}}\n")

    def check(*more):
        return command("-m", "data.check", str(config), *more)

    good = check()
    assert good.returncode == 0, good.stderr
    assert "nothing wrong was found" in good.stdout and "no split 'test'" in good.stdout
    (root / "val" / "b.png").write_bytes(b"")
    bad = check()
    assert bad.returncode == 1 and "b.png: unreadable image" in bad.stdout
    unknown = check("data.rooot=1", "--fast")
    assert unknown.returncode == 1 and "data.root" in unknown.stderr and "Traceback" not in unknown.stderr
