"""Image names in label files: which folder they resolve to, and no path traversal."""

import shutil

import pytest

from data import Problems, create_dataset
from data.check import check_dataset
from data.images.label_paths import path_below
from registry import UserError


def coco(root, split="train", **kwargs):
    return create_dataset("coco", split, root=root, size=80, **kwargs)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("a.jpg", "/set/images/a.jpg"),
        ("x/a.jpg", "/set/images/x/a.jpg"),
        ("./x/../a.jpg", "/set/images/a.jpg"),
        ("..a.jpg", "/set/images/..a.jpg"),
        ("/set/images/x/a.jpg", "/set/images/x/a.jpg"),
        ("../a.jpg", None),
        ("../../etc/a.jpg", None),
        ("x/../../a.jpg", None),
        ("..", None),
        ("/etc/a.jpg", None),
        ("/set/images2/a.jpg", None),
        ("/set/images/../a.jpg", None),
    ],
)
def test_names_lead_to_the_folder_or_below(name, path):
    assert path_below("/set/images", name) == path
    if name.startswith("/"):
        assert path_below("/", name)


@pytest.mark.parametrize("name", ["../../secret.png", "{outside}/secret.png", "../secret.png", "x/../../../secret.png"])
def test_names_that_lead_out_are_refused(coco_folder, tmp_path_factory, write_image, name):
    root = coco_folder(change=lambda c: c["images"][0].update(file_name=name.format(outside=root_outside)))
    write_image(root.parent / "secret.png")
    write_image(root / "secret.png")
    with pytest.raises(ValueError, match=r"instances_train\.json: image 1: image outside the image folder: .*secret"):
        coco(root)
    assert check_dataset("coco", ["train"], root=root).problems.counts()["image outside the image folder"] == 1


root_outside = "/nowhere/else"


def test_absolute_names_below_a_folder_that_the_user_gives(coco_folder, tmp_path):
    names = {}

    def absolute(content):
        content["images"][0]["file_name"] = names["a"]

    root = coco_folder()
    elsewhere = root.parent / f"{root.name}-photos"
    elsewhere.mkdir()
    shutil.copy(root / "train" / "a.png", elsewhere / "a.png")
    names["a"] = str(root / "train" / "a.png")
    assert len(coco(coco_folder(change=absolute))) == 1
    names["a"] = str(elsewhere / "a.png")
    with pytest.raises(ValueError, match=r"outside the image folder.*data\.args\.images=\{train: folder\}"):
        coco(coco_folder(change=absolute))
    assert coco(root, images={"train": str(elsewhere)})[0].x.any()


def test_links_that_the_owner_of_the_folder_made_are_followed(coco_folder):
    root = coco_folder()
    moved = root / "disk"
    (root / "train").rename(moved)
    (root / "train").symlink_to(moved)
    assert coco(root)[0].x.any()


@pytest.mark.parametrize("name", ["\ud800.png", "a\udcff.png", "a\0.png"])
def test_names_that_no_file_can_have(coco_folder, name):
    root = coco_folder(change=lambda c: c["images"][0].update(file_name=name))
    for problems in (Problems(), Problems(collect=True)):
        try:
            coco(root, problems=problems)
        except ValueError as error:
            message = str(error)
            assert type(error) is UserError and message.encode()
            assert problems.collect or "image 1: bad file name: " in message
    assert [p.kind for p in problems.items][:1] == ["bad file name"]
    str(check_dataset("coco", ["train"], root=root)).encode()


def test_class_names_that_cannot_be_printed(coco_folder):
    root = coco_folder(change=lambda c: c["categories"][0].update(name="\ud800"))
    with pytest.raises(ValueError, match=r"category 1: bad category name: '\\ud800'"):
        coco(root)


def test_the_folder_that_holds_most_images_is_chosen(coco_folder):
    """Not that of the first listed image alone, of which a copy lies elsewhere."""
    root = coco_folder(images={f"{k}.png": [] for k in "abc"})
    (root / "images").mkdir()
    for k in "abc":
        shutil.move(root / "train" / f"{k}.png", root / "images" / f"{k}.png")
    shutil.copy(root / "images" / "a.png", root / "train" / "a.png")
    assert [i["file_name"] for i in coco(root).ground_truth()["images"]] == [f"images/{k}.png" for k in "abc"]
    (root / "images" / "a.png").unlink()
    with pytest.raises(ValueError, match=r"1 of 3 listed images are missing: \S*images/a\.png"):
        coco(root)


def test_names_with_the_separators_of_windows(coco_folder):
    images = {f"day/{k}.png": [] for k in "ab"}
    root = coco_folder(images=images, change=lambda c: [i.update(file_name=f"day\\{i['id']}.png") for i in c["images"]])
    for i, k in enumerate("ab", 1):
        (root / "train" / "day" / f"{k}.png").rename(root / "train" / "day" / f"{i}.png")
    assert [i["file_name"] for i in coco(root).ground_truth()["images"]] == ["train/day/1.png", "train/day/2.png"]


def test_all_images_missing_names_the_folders_and_the_keys(coco_folder, voc_folder, tmp_path):
    root = coco_folder(images={"a.png": [], "b.png": []})
    shutil.rmtree(root / "train")
    tried = ", ".join(str(root / place) for place in ("train", "train2017", "images/train", "images/train2017"))
    for arguments in ({}, {"allow_missing": True}):
        with pytest.raises(ValueError) as caught:
            coco(root, **arguments)
        assert "2 of 2 listed images are missing" in str(caught.value)
        assert f"They were looked for in {tried}, {root / 'images'}, {root}." in str(caught.value)
        assert "data.root, or data.args.images={train: folder}" in str(caught.value)
    root = voc_folder({"train": {"a": []}})
    shutil.rmtree(root / "JPEGImages")
    with pytest.raises(ValueError, match=rf"looked for in {root}/JPEGImages\. Name the folder .*: data\.root"):
        create_dataset("voc", "train", root=root)


@pytest.mark.parametrize("allow", [False, True])
def test_the_check_says_one_thing_of_missing_images(coco_folder, caplog, allow):
    """Left out, or the end of a training: as a training does."""
    root = coco_folder(images={"a.png": [(1, [1, 1, 5, 5])], "b.png": []})
    (root / "train" / "b.png").unlink()
    report = check_dataset("coco", ["train"], root=root, allow_missing=allow)
    (problem,) = [p for p in report.problems.items if p.kind == "missing images"]
    assert problem.fatal == (not allow)
    said = str(report) + caplog.text
    assert ("left out" in said.replace("to leave them out", "")) == allow
    assert ("WOULD STOP A TRAINING" in said) == (not allow)


@pytest.mark.parametrize("line", ["../../secret.png", "/etc/secret.png", "images/../../secret.png", "a\0.png"])
def test_lists_of_yolo_that_lead_out(yolo_folder, write_image, line):
    root = yolo_folder({"train": {"a": ""}}, "train: list.txt\nnames: [cat]")
    write_image(root.parent / "secret.png")
    (root / "list.txt").write_text(f"images/train/a.png\n{line}\n")
    with pytest.raises(ValueError, match=r"list\.txt: '.*' leads out of .*`path` in the yaml file"):
        create_dataset("yolo", "train", root=root)


def test_absolute_lists_of_yolo(yolo_folder):
    """Below the folder of the data set, or below the `path` that the user's yaml names."""
    root = yolo_folder({"train": {"a": ""}}, "train: list.txt\nnames: [cat]")
    (root / "list.txt").write_text(f"{root}/images/train/a.png\n")
    assert len(create_dataset("yolo", "train", root=root)) == 1
    config = root.parent / f"{root.name}-config"
    config.mkdir()
    (config / "mine.yaml").write_text(f"path: {root}\ntrain: list.txt\nnames: [cat]\n")
    assert len(create_dataset("yolo", "train", root=config)) == 1


def test_file_names_that_are_no_text(yolo_folder):
    """A name in another encoding, as archives of other systems leave it."""
    root = yolo_folder({"train": {"a": "", "b": ""}})
    (root / "images" / "train" / "b.png").rename(root / "images" / "train" / "b\udcfc.png")
    with pytest.raises(ValueError, match=r"bad file name: .*Rename the file in UTF-8") as caught:
        create_dataset("yolo", "train", root=root)
    str(caught.value).encode()
