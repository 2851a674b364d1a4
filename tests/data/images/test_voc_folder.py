"""Layouts of VOC exports: which xml file belongs to which image, and to which split."""

import pytest

from data import Problems, create_dataset
from data.check import check_dataset
from data.dataset import MissingSplit

SPLITS = {"train": 0.6, "val": 0.2, "test": 0.2}


@pytest.fixture
def write(tmp_path, write_image):
    """write(image path, xml path, class): an image of 40x30 and a label of one box; an empty path: no such file."""

    def pair(image, label, name="cell", filename="other.jpg"):
        if image:
            write_image(tmp_path / image, seed=len(list(tmp_path.rglob("*"))))
        if label:
            (tmp_path / label).parent.mkdir(parents=True, exist_ok=True)
            box = "<bndbox><xmin>2</xmin><ymin>3</ymin><xmax>10</xmax><ymax>12</ymax></bndbox>"
            size = "<size><width>40</width><height>30</height></size>"
            (tmp_path / label).write_text(
                f"<annotation><filename>{filename}</filename>{size}<object><name>{name}</name>{box}</object></annotation>"
            )

    return pair


def voc(root, split="train", **options):
    return create_dataset("voc", split, root=root, size=80, **options)


def names(root, split="train", **options):
    truth = voc(root, split, **options).ground_truth()
    assert len(truth["annotations"]) == len(truth["images"])
    return [image["file_name"] for image in truth["images"]]


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("{}.png", "{}.xml"),  # labelImg
        ("images/{}.png", "annotations/{}.xml"),
        ("JPEGImages/{}.png", "Annotations/{}.xml"),
        ("images/sub/{}.png", "annotations/sub/{}.xml"),
        ("photos/{}.png", "boxes/{}.xml"),  # names that occur once
    ],
)
def test_one_folder_without_lists(tmp_path, write, image, label):
    for stem in "abcde":
        write(image.format(stem), label.format(stem), name=f"class {stem}")
    with pytest.raises(MissingSplit, match=r"split 'train': no file .*train.txt.*data\.splits=\{train: 0\.8"):
        voc(tmp_path)
    found = {split: names(tmp_path, split, splits=SPLITS) for split in SPLITS}
    assert [len(part) for part in found.values()] == [3, 1, 1]
    assert sorted(sum(found.values(), [])) == [image.format(stem) for stem in "abcde"]
    assert voc(tmp_path, "val", splits=SPLITS).class_names == [f"class {stem}" for stem in "abcde"]  # of all splits


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("{split}/{stem}.png", "{split}/{stem}.xml"),  # Roboflow
        ("{split}/images/{stem}.png", "{split}/annotations/{stem}.xml"),
        ("images/{split}/{stem}.png", "annotations/{split}/{stem}.xml"),
        ("images/{split}/{stem}.png", "annotations/{stem}{split}.xml"),
    ],
)
def test_a_folder_for_each_split(tmp_path, write, image, label):
    for split, stems in (("train", "abc"), ("valid", "ad"), ("test", "ae")):
        for stem in stems:
            if "{stem}{split}" in label:
                stem += split
                write(image.format(split=split, stem=stem), f"annotations/{stem}.xml", name=split)
            else:
                write(image.format(split=split, stem=stem), label.format(split=split, stem=stem), name=split)
    assert [len(voc(tmp_path, split)) for split in ("train", "val", "test", "train+val")] == [3, 2, 2, 5]
    assert voc(tmp_path, "val").class_names == ["test", "train", "valid"]
    assert set(voc(tmp_path, "val")[0].labels.tolist()) == {2}
    with pytest.raises(
        MissingSplit, match="No folder nope holds images with xml files, either, but other folders hold 7"
    ):
        voc(tmp_path, "nope")


def test_lists_of_images_in_sub_folders(tmp_path, write):
    write("JPEGImages/one/a.png", "Annotations/one/a.xml")
    write("JPEGImages/two/a.png", "Annotations/two/a.xml")
    write("JPEGImages/two/b.png", "Annotations/b.xml")
    (tmp_path / "ImageSets").mkdir()
    (tmp_path / "ImageSets" / "train.txt").write_text("one/a\ntwo/a.png\nb\n")
    assert names(tmp_path) == [f"JPEGImages/{name}.png" for name in ("one/a", "two/a", "two/b")]
    with pytest.raises(MissingSplit, match="split 'val': .*There are train.*data.splits="):
        voc(tmp_path, "val")
    assert len(voc(tmp_path, splits={"train": 1})) == 3


def test_a_file_name_in_the_label_decides_last(tmp_path, write):
    write("images/photo 1.png", "labels/000001.xml", filename="C:\\data\\photo 1.png")
    write("images/b.png", "labels/b.xml", filename="photo 1.png")
    assert names(tmp_path, splits={"train": 1.0}) == ["images/b.png", "images/photo 1.png"]


def test_what_else_lies_there(tmp_path, write):
    write("a.png", "a.xml")
    write("b.png", "")
    write("", "gone.xml")
    (tmp_path / "settings.xml").write_text("<project/>")
    (tmp_path / ".hidden.xml").write_text("")
    problems = Problems()
    whole = {"splits": {"train": 1.0}}
    with pytest.raises(ValueError, match=r"1 of 2 listed images are missing: \S*/gone.jpg"):
        voc(tmp_path, **whole)
    assert len(voc(tmp_path, problems=problems, allow_missing=True, **whole)) == 1
    assert problems.counts()["images without label file"] == 1
    assert "1 of 3 images, the first is " in str(problems.items[0]) and "b.png" in str(problems.items[0])
    (tmp_path / "b.xml").write_text("")
    with pytest.raises(ValueError, match="b.xml: unreadable label file"):
        voc(tmp_path, allow_missing=True, **whole)
    write("", "b.xml")
    write("", "labels/b.xml")
    report = check_dataset("voc", ["train"], root=tmp_path, **whole)
    assert [p.kind for p in report.fatal] == ["image with two label files", "missing images"]
