"""VOC labels: 1-based boxes, difficult objects, class names, lists; and flaws of real datasets."""

from pathlib import Path

import pytest

from data import Problems, create_dataset
from data.dataset import MissingSplit
from data.images.voc import VOC_CLASSES


def voc(root, split="train", **kwargs):
    return create_dataset("voc", split, root=root, size=80, **kwargs)


def test_boxes_count_from_one(voc_folder):
    dataset = voc(voc_folder({"train": {"a": [("cell", (1, 1, 10, 20), 0), ("cell", (5, 6, 40, 30), 1)], "b": []}}))
    truth = dataset.ground_truth()
    assert [a["bbox"] for a in truth["annotations"]] == [[0, 0, 10, 20], [4, 5, 36, 25]]
    assert [a["area"] for a in truth["annotations"]] == [200, 900]
    assert [a["difficult"] for a in truth["annotations"]] == [0, 1]
    assert dataset[0].boxes.tolist() == [[0, 10, 20, 50]]  # doubled, 10 gray lines above, the difficult one left out
    assert dataset[1].boxes.shape == (0, 4)
    assert [i["file_name"] for i in truth["images"]] == ["JPEGImages/a.png", "JPEGImages/b.png"]


def test_flaws_are_counted_and_named(voc_folder, caplog):
    boxes = [(5, 5, 5, 5), (9, 5, 8, 9), (0, 0, 9, 9), (50, 5, 60, 9), (30, 5, 45, 9), ("nan", 5, 45, 9)]
    problems = Problems()
    dataset = voc(voc_folder({"train": {"a": [("cell", box, 0) for box in boxes]}}), problems=problems)
    assert problems.counts() == {
        "box without size": 2,
        "box outside the image": 1,
        "box partly outside the image": 1,
        "box not finite": 1,
    }
    assert str(problems.items[1]).endswith(
        "a.xml: object 0 (cell): box without size: xmin, ymin, xmax, ymax = 5, 5, 5, 5 on 40x30. The box is dropped"
    )
    assert [a["bbox"] for a in dataset.ground_truth()["annotations"]] == [[0, 0, 9, 9], [29, 4, 11, 5]]
    assert "1 boxes begin at pixel 0" in caplog.text


def test_class_names(voc_folder):
    splits = {"train": {"a": [("dog", (1, 1, 9, 9), 0)]}, "val": {"b": [("cat", (1, 1, 9, 9), 0)]}}
    root = voc_folder(splits)
    assert voc(root).class_names == list(VOC_CLASSES)
    assert voc(root)[0].labels.tolist() == [VOC_CLASSES.index("dog")]
    given = voc(root, class_names=["dog", "cat"])
    assert given.class_names == ["dog", "cat"] and given[0].labels.tolist() == [0]
    with pytest.raises(ValueError, match=r"a\.xml: object 0: unknown class: 'dog'.*class_names"):
        voc(root, class_names=["cat"])


@pytest.mark.parametrize("names", ["dog", {0: "dog"}, 5, [], ["dog", "dog"], ["dog", True], ["dog", None], ["dog", ""]])
def test_bad_class_names(voc_folder, names):
    root = voc_folder({"train": {"a": [("dog", (1, 1, 9, 9), 0)]}})
    with pytest.raises(ValueError, match="class_names( =|: name 1 is ).*([Gg]ive|Use)"):
        voc(root, class_names=names)


@pytest.mark.parametrize(
    ("written", "read"),
    [("true", 1), ("True", 1), ("yes", 1), (" 1 ", 1), ("false", 0), ("", 0), ("Unspecified", 0), ("2", None)],
)
def test_difficult_is_read_as_it_was_meant(voc_folder, written, read):
    root = voc_folder({"train": {"a": [("cell", (1, 1, 9, 9), written)]}})
    if read is None:
        with pytest.raises(ValueError, match=r"a\.xml: object 0 \(cell\): bad difficult: 2. Give 0 or 1"):
            voc(root)
    else:
        assert [a["difficult"] for a in voc(root).ground_truth()["annotations"]] == [read]


def test_object_without_a_name_makes_no_class(voc_folder):
    root = voc_folder({"train": {"a": [("cell", (1, 1, 9, 9), 0)], "b": [("", (1, 1, 9, 9), 0)]}})
    with pytest.raises(ValueError, match=r"b\.xml: object 0: unknown class: ''.*\['cell'\]"):
        voc(root)


def test_own_classes_come_from_all_labels(voc_folder):
    splits = {"train": {"a": [("zebra", (1, 1, 9, 9), 0)]}, "val": {"b": [("cat", (1, 1, 9, 9), 0)]}}
    root = voc_folder(splits)
    assert voc(root).class_names == voc(root, "val").class_names == ["cat", "zebra"]


def test_missing_and_broken_labels(voc_folder):
    root = voc_folder({"train": {"a": [], "b": []}})
    (root / "Annotations" / "b.xml").write_text("<annotation>")
    with pytest.raises(ValueError, match=r"b\.xml: unreadable label file"):
        voc(root)
    (root / "Annotations" / "b.xml").unlink()
    with pytest.raises(ValueError, match=r"b\.xml: unreadable label file: .*No such file.*Repair"):
        voc(root)
    (root / "Annotations" / "b.xml").write_text(
        "<annotation><size><width>40</width><height>30</height></size><object><name>cat</name></object></annotation>"
    )
    with pytest.raises(ValueError, match=r"b\.xml: object 0 \(cat\): bad bndbox: none"):
        voc(root)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<html/>", "its outermost tag is <html>, not <annotation>"),
        ('<?xml version="1.0" encoding="nope"?><annotation/>', "unknown encoding: nope"),
    ],
)
def test_labels_of_another_kind(voc_folder, text, message):
    root = voc_folder({"train": {"a": [("cell", (1, 1, 9, 9), 0)]}})
    (root / "Annotations" / "a.xml").write_text(text)
    with pytest.raises(ValueError, match=rf"a\.xml: unreadable label file: {message}"):
        voc(root)
    problems = Problems(collect=True)
    voc(root, problems=problems)
    assert problems.counts() == {"unreadable label file": 1}  # once, although classes and boxes are read from it


def test_label_without_size_takes_the_images(voc_folder):
    problems = Problems()
    root = voc_folder({"train": {"a": [("cat", (1, 1, 9, 9), 0)]}}, width=0, height=0)
    assert voc(root, problems=problems)[0].original_size == (30, 40)
    assert problems.counts() == {"label without image size": 1}


def test_missing_images(voc_folder):
    root = voc_folder({"train": {"a": [], "b": []}})
    (root / "JPEGImages" / "a.png").unlink()
    with pytest.raises(ValueError, match=r"train\.txt: missing images: 1 of 2 .*JPEGImages/a\.jpg"):
        voc(root)
    dataset = voc(root, allow_missing=True)
    assert (len(dataset), dataset.expected_images, dataset[0].image_id) == (1, 2, 2)


def test_lists(voc_folder):
    root = voc_folder({"train": {"a": [], "b": []}, "val": {"c": []}})
    main = root / "ImageSets" / "Main"
    (main / "again.txt").write_text("a  1\nb -1\n\na  1\n")
    problems = Problems()
    assert len(voc(root, "again", problems=problems)) == 2
    assert problems.counts() == {"image listed again": 1}
    with pytest.raises(MissingSplit, match="split 'test'.*There are again, train, val"):
        voc(root, "test")
    (main / "none.txt").write_text("\n")
    with pytest.raises(ValueError, match=r"none\.txt: lists no image"):
        voc(root, "none")


def test_names_in_lists(voc_folder):
    """A mark of order, lines of Windows, spaces in names, and the second column of lists of one class."""
    stems = ["bl\u00fct", "my photo", "photo 1", "plain"]
    root = voc_folder({"train": {stem: [] for stem in stems}})
    file = root / "ImageSets" / "Main" / "train.txt"
    file.write_bytes("\r\n".join(["bl\u00fct  1", "my photo  -1", "photo 1", "plain"]).encode("utf-8-sig"))
    assert [Path(record.path).stem for record in voc(root).records] == stems
    file.write_bytes(b"bl\xfct\n")
    with pytest.raises(ValueError, match=r"train\.txt: not a text file in UTF-8"):
        voc(root)


def test_lists_with_endings(voc_folder):
    root = voc_folder({"train": {"a": [], "b.jpg": [], "photo 1": []}})
    (root / "JPEGImages" / "a.jpg").write_bytes((root / "JPEGImages" / "a.png").read_bytes())
    file = root / "ImageSets" / "Main" / "train.txt"
    problems = Problems()
    for text in ("a.png\nb.jpg\nphoto 1.png", "a.png  1\nb.jpg  -1\nphoto 1.png  0", "a.png\na\nb.jpg\nphoto 1.png\n"):
        file.write_text(text)
        dataset = voc(root, problems=problems)
        assert [Path(record.path).name for record in dataset.records] == ["a.png", "b.jpg.png", "photo 1.png"]
    assert [f"{p.kind}: {p.record}" for p in problems.items] == ["image listed again: a"]
    file.write_text("c.jpg\nb.jpg.JPG\n")
    with pytest.raises(ValueError, match=r"2 of 2 listed images are missing: \S*/c\.jpg, \S*/b\.jpg\.JPG\."):
        voc(root)


def test_notes_beside_images(voc_folder):
    root = voc_folder({"train": {"a": []}})
    for ending in ("json", "a", "zip"):
        (root / "JPEGImages" / f"a.{ending}").write_text("no image")
    assert voc(root)[0].x.any()


def test_joined_lists(voc_folder, tmp_path):
    root = voc_folder({"train": {"a": [], "b": []}, "val": {"c": []}})
    assert len(voc(root, "train+val")) == 3
    outer = tmp_path.parent
    dataset = voc(outer, f"{root.name}/train+{root.name}/val")
    assert [i["file_name"] for i in dataset.ground_truth()["images"]][2] == f"{root.name}/JPEGImages/c.png"


def test_blood_cells(shared):
    found = []
    boxes = 0
    for split, images in (("train", 205), ("val", 87), ("test", 72)):
        problems = Problems()
        dataset = voc(shared("datasets/bccd"), split, problems=problems)
        assert len(dataset) == images and dataset.class_names == ["Platelets", "RBC", "WBC"]
        assert set(problems.counts()) <= {"box without size"}
        found += [f"{Path(p.file).name} {p.record}" for p in problems.items]
        boxes += len(dataset.ground_truth()["annotations"])
    assert found == ["BloodImage_00343.xml object 3 (RBC)", "BloodImage_00338.xml object 12 (RBC)"]
    assert boxes == 4886
