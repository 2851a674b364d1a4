"""YOLO folders: how images, labels and names are found, what a line means, and what is refused."""

import numpy as np
import pytest
from PIL import Image

from data import Problems, create_dataset
from data.check import check_dataset
from data.dataset import MissingSplit
from data.images.yolo_folder import label_file

BOX = "0 0.5 0.5 0.5 0.4\n"


def yolo(root, split="train", **kwargs):
    return create_dataset("yolo", split, root=root, size=80, **kwargs)


def boxes(dataset):
    return [a["bbox"] for a in dataset.ground_truth()["annotations"]]


def names(dataset):
    return [i["file_name"] for i in dataset.ground_truth()["images"]]


def test_sample(yolo_folder):
    root = yolo_folder({"train": {"b": "", "a": f"1 0.25 0.5 0.5 0.4\n\n{BOX}", "c": None}})
    problems = Problems()
    dataset = yolo(root, problems=problems)
    assert names(dataset) == [f"images/train/{k}.png" for k in "abc"] and dataset.class_names == ["cat", "dog"]
    truth = dataset.ground_truth()
    assert [c["id"] for c in truth["categories"]] == [1, 2] and [i["id"] for i in truth["images"]] == [1, 2, 3]
    assert boxes(dataset) == [[0, 9, 20, 12], [10, 9, 20, 12]]
    assert [(a["category_id"], a["area"], a["image_id"]) for a in truth["annotations"]] == [(2, 240, 1), (1, 240, 1)]
    sample = dataset[0]  # 40x30 doubled, 10 gray lines above
    assert sample.boxes.tolist() == [[0, 28, 40, 52], [20, 28, 60, 52]] and sample.labels.tolist() == [1, 0]
    assert dataset[1].boxes.shape == dataset[2].boxes.shape == (0, 4)  # an empty label file, and none
    assert not problems.items


def test_outline_gives_its_bounding_box(yolo_folder):
    outline = "1 0.5 0.1 0.75 0.5 0.25 0.9 0.5 0.2\n"
    corners = "0 0.1 0.2 0.5 0.2 0.5 0.6 0.1 0.6\n"  # as oriented boxes are written, too
    dataset = yolo(yolo_folder({"train": {"a": outline + corners + BOX}}))
    np.testing.assert_allclose(boxes(dataset), [[10, 3, 20, 24], [4, 6, 16, 12], [10, 9, 20, 12]], atol=1e-9)


@pytest.mark.parametrize(
    ("line", "kind", "kept"),
    [
        ("1 nan 0.5 0.1 0.1", "box not finite", None),
        ("1 0.5 0.5 0.1 inf", "box not finite", None),
        ("1 0.1 0.1 nan 0.2 0.3 0.3", "box not finite", None),
        ("1 0.5 0.5 0 0.1", "box without size", None),
        ("1 0.5 0.5 -0.1 0.1", "box without size", None),
        ("1 1.5 0.5 0.5 0.1", "box outside the image", None),
        ("1 -0.5 0.5 0.5 0.1", "box outside the image", None),
        ("1 0 0.5 0.5 0.2", "box partly outside the image", [0, 12, 10, 6]),
        ("1.0 1e-1 .5 +0.1 0.2", None, [2, 12, 4, 6]),
        ("1 0.041667 0.5 0.083335 1.000001", None, [0, 0, 3.33338, 30]),  # rounding of the sixth digit
    ],
)
def test_bad_boxes_are_counted_and_named(yolo_folder, line, kind, kept):
    problems = Problems()
    dataset = yolo(yolo_folder({"train": {"a": f"{BOX}\n{line}\n"}}), problems=problems)
    np.testing.assert_allclose(boxes(dataset), [[10, 9, 20, 12], *([kept] if kept else [])], atol=1e-4)
    assert problems.counts() == ({kind: 1} if kind else {})
    for problem in problems.items:
        assert "labels/train/a.txt: line 3: " in str(problem) and "x, y, w, h = " in str(problem)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("2 0.5 0.5 0.1 0.1", "unknown class: 2 0.5 0.5 0.1 0.1. Correct it, or name it: classes are 0 to 1"),
        ("-1 0.5 0.5 0.1 0.1", "unknown class: -1"),
        ("0.5 0.5 0.5 0.1 0.1", "malformed line: 0.5"),
        ("nan 0.5 0.5 0.1 0.1", "malformed line: nan"),
        ("cat 0.5 0.5 0.1 0.1", "malformed line: cat"),
        ("0 0.5 0.5 0.1", "malformed line"),
        ("0 0.5 0.5 0.1 0.1 90", "malformed line: .*and nothing else"),
        ("0 0.1 0.1 0.2 0.2 0.3 0.3 0.4", "malformed line"),
        ("0,0.5,0.5,0.1,0.1", "malformed line"),
        ("0", "malformed line"),
        ("0 20 15 10 10", "coordinates not normalised: 0 20 15 10 10. Divide by the image's width"),
    ],
)
def test_bad_lines_are_fatal(yolo_folder, line, message):
    root = yolo_folder({"train": {"a": f"{BOX}\n{line}\n{BOX}"}})
    with pytest.raises(ValueError, match=f"labels/train/a.txt: line 3: {message}"):
        yolo(root)
    problems = Problems(collect=True)
    assert len(boxes(yolo(root, problems=problems))) == 2 and [p.fatal for p in problems.items] == [True]


def test_labels_lie_where_the_last_images_folder_is_called_labels():
    assert label_file("/x/images/y/images/z/a.b.jpg") == "/x/images/y/labels/z/a.b.txt"
    assert label_file("/x/my_images/a.jpg") == "/x/my_images/a.txt"
    assert label_file("/images/a.jpeg") == "/labels/a.txt"


def test_labels_beside_the_images(tmp_path, write_image):
    write_image(tmp_path / "photos" / "a.png")
    (tmp_path / "photos" / "a.txt").write_text(BOX)
    (tmp_path / "photos" / "classes.txt").write_text("cat\n")
    (tmp_path / "mine.yml").write_text("train: photos\nnames: [cat]\n")
    assert boxes(yolo(tmp_path)) == [[10, 9, 20, 12]]


@pytest.mark.parametrize(
    ("yaml", "expected"),
    [
        ("train: images/train", "ab"),
        ("train: ./images/train/", "ab"),
        ("train: [images/train, images/val]", "abc"),
        ("train: images", "abc"),
        ("train: ../images/train", "ab"),  # as Roboflow exports it
        ("train: train.txt", "ba"),
        ("train: [lists/there.txt, images/val]", "ac"),
        ("path: .\ntrain: images/train\nnc: 2", "ab"),
        ("path: ../{folder}\ntrain: images/train", "ab"),
        ("path: {root}\ntrain: images/train", "ab"),
        ("path: lists\ntrain: there.txt", "a"),
    ],
)
def test_entries_of_the_yaml(yolo_folder, yaml, expected):
    root = yolo_folder({"train": {"a": BOX, "b": ""}, "val": {"c": BOX}})
    (root / "images" / "train" / ".hidden.png").write_bytes(b"")
    (root / "data.yaml").write_text(yaml.format(root=root, folder=root.name) + "\nnames: [cat, dog]\n")
    (root / "train.txt").write_text("images/train/b.png\n\nimages/train/a.png\n")
    (root / "lists").mkdir()
    (root / "lists" / "there.txt").write_text(f"{root}/images/train/a.png\n")
    dataset = yolo(root)
    assert [name[-5] for name in names(dataset)] == list(expected)
    assert len(boxes(dataset)) == len(set(expected) & set("ac"))


def test_list_beside_its_images(yolo_folder):
    """`./` begins at the list's own folder."""
    root = yolo_folder({"train": {"a": BOX}}, "path: .\ntrain: images/train/list.txt\nnames: [cat]\n")
    (root / "images" / "train" / "list.txt").write_text("./a.png\n")
    assert names(yolo(root)) == ["images/train/a.png"] and len(boxes(yolo(root))) == 1


def test_root_may_be_the_yaml(yolo_folder):
    root = yolo_folder({"train": {"a": BOX}})
    assert names(yolo(root / "data.yaml")) == ["images/train/a.png"]
    (root / "other.yaml").write_text("train: images/train\nnames: [bird]\n")
    with pytest.raises(ValueError, match=r"holds data\.yaml, other\.yaml\. Name the one.*yaml: data\.yaml"):
        yolo(root)
    assert yolo(root, yaml="other.yaml").class_names == yolo(root / "other.yaml").class_names == ["bird"]
    with pytest.raises(ValueError, match=r"absent\.yaml: no such file"):
        yolo(root, yaml="absent.yaml")


@pytest.mark.parametrize("place", ["images/{}", "{}/images"])
def test_folders_without_a_yaml(tmp_path, write_image, place):
    for split in ("train", "valid"):
        image = write_image(tmp_path / place.format(split) / "a.png")
        label = tmp_path / place.replace("images", "labels").format(split) / "a.txt"
        label.parent.mkdir(parents=True)
        label.write_text(BOX)
    with pytest.raises(ValueError, match="names no class, and there is no .*classes.txt.*class_names"):
        yolo(tmp_path)
    assert yolo(tmp_path, class_names=["cat"]).class_names == ["cat"]
    (tmp_path / "classes.txt").write_text("cow\nhen\n")
    dataset = yolo(tmp_path, "val")
    assert dataset.class_names == ["cow", "hen"] and boxes(dataset) == [[10, 9, 20, 12]]
    assert dataset.records[0].path == str(image)
    with pytest.raises(MissingSplit, match=f"split 'test': .* holds no yaml file, and no {tmp_path}/images/test"):
        yolo(tmp_path, "test")


@pytest.mark.parametrize(
    ("yaml", "error", "message"),
    [
        (
            "val: images/val\ntest:\nNAMES",
            MissingSplit,
            "split 'train': .*data.yaml names no images for it. It holds val",
        ),
        (
            "train: images/gone\nNAMES",
            MissingSplit,
            "data.yaml: split 'train': no .*images/gone. Name a folder, or a .txt list",
        ),
        (
            "path: gone\ntrain: images/train\nNAMES",
            ValueError,
            "data.yaml: path = gone: no folder .*Correct it, or remove it",
        ),
        ("train: images/train\nnc: 3\nNAMES", ValueError, "data.yaml: nc is 3, but there are 2 names"),
        ("train: images/train\nnames: {1: cat, 2: dog}", ValueError, "data.yaml: names = .*one name for each of 0, 1"),
        ("train: images/train\nnames: cat", ValueError, "data.yaml: names = cat. Give a list"),
        ("train: images/train\nnames: [yes, no]", ValueError, "name 0 is True. .*quote"),
        ("train: images/train\nnames: [cat, cat]", ValueError, "name 1 is 'cat'. Use a different name"),
        ("train: images/train\nnames:", ValueError, "data.yaml: names no class"),
        ("train: images/train\nkpt_shape: 17\nNAMES", ValueError, "data.yaml: kpt_shape = 17. Give .number of points"),
        (
            "train: images/train\nnames: {'0': cat, 0: dog}",
            ValueError,
            "data.yaml: names = .*one name for each of 0, 1",
        ),
        ("train: [", ValueError, "data.yaml: not a readable yaml file"),
        ("train: !!python/object/apply:os.getcwd []", ValueError, "data.yaml: not a readable yaml file"),
        ("- train", ValueError, "data.yaml: expected keys such as train, val and names"),
    ],
)
def test_bad_yaml(yolo_folder, yaml, error, message):
    root = yolo_folder({"train": {"a": BOX}}, yaml.replace("NAMES", "names: [cat, dog]"))
    with pytest.raises(error, match=message):
        yolo(root)


@pytest.mark.parametrize("nc", ['"2"', "", "2"])
def test_number_of_classes(yolo_folder, nc):
    root = yolo_folder({"train": {"a": BOX}}, f"train: images/train\nnames: [cat, dog]\nnc: {nc}")
    assert yolo(root).class_names == ["cat", "dog"]


def test_bad_class_names(yolo_folder):
    root = yolo_folder({"train": {"a": BOX}})
    with pytest.raises(ValueError, match=r"class_names = cat. Give a list"):
        yolo(root, class_names="cat")


def test_links_that_lead_back(yolo_folder):
    root = yolo_folder({"train": {"a": BOX, "b": BOX}})
    (root / "images" / "train" / "up").symlink_to("..")
    (root / "images" / "train" / "self").symlink_to(".")
    (root / "elsewhere").mkdir()
    (root / "images" / "train" / "a.png").rename(root / "elsewhere" / "c.png")
    (root / "labels" / "train" / "a.txt").unlink()
    (root / "images" / "train" / "linked").symlink_to("../../elsewhere")
    assert names(yolo(root)) == ["images/train/b.png", "images/train/linked/c.png"]


@pytest.mark.parametrize("entry", ["images/train/a.png", "list.txt"])
def test_list_that_is_no_text(yolo_folder, entry):
    root = yolo_folder({"train": {"a": BOX}}, f"train: {entry}\nnames: [cat, dog]")
    (root / "list.txt").write_bytes(b"images/bl\xfct.jpg")
    with pytest.raises(ValueError, match=f"{entry}: not a text file in UTF-8"):
        yolo(root)


def test_label_that_cannot_be_read(yolo_folder):
    root = yolo_folder({"train": {"a": None}})
    (root / "labels" / "train" / "a.txt").mkdir()
    with pytest.raises(ValueError, match=r"labels/train/a\.txt: cannot be read"):
        yolo(root)


def test_no_label_file_at_all(yolo_folder, caplog):
    root = yolo_folder({"train": {"a": None, "b": None}})
    with pytest.raises(ValueError, match="no label files: none of 2 images has one; the first .*labels/train/a.txt"):
        yolo(root)
    (root / "labels" / "train" / "a.txt").write_text("")
    assert len(yolo(root)) == 2 and "1 of 2 images have no label file" in caplog.text


def test_images_that_are_not_there(yolo_folder):
    root = yolo_folder({"train": {"a": BOX, "b": BOX}})
    (root / "images" / "train" / "a.png").unlink()
    (root / "labels" / "train" / "classes.txt").write_text("cat\ndog\n")
    with pytest.raises(ValueError, match=r"missing images: 1 of 2 .*images/train/a\.jpg.*allow_missing"):
        yolo(root)
    dataset = yolo(root, allow_missing=True)
    assert (len(dataset), dataset.expected_images, dataset[0].image_id, len(boxes(dataset))) == (1, 2, 2, 1)
    (root / "list.txt").write_text("images/train/b.png\nimages/train/gone.png\nimages/train/b.png\n")
    (root / "data.yaml").write_text("train: list.txt\nnames: [cat, dog]\n")
    problems = Problems()
    with pytest.raises(ValueError, match=r"list\.txt: missing images: 1 of 2 .*gone\.png"):
        yolo(root, problems=problems)
    assert problems.counts() == {"image listed again": 1}
    (root / "list.txt").write_text("\n")
    with pytest.raises(ValueError, match=r"list\.txt: lists no image"):
        yolo(root)


def test_images_without_a_readable_header(yolo_folder):
    root = yolo_folder({"train": {"a": BOX, "b": BOX}})
    for name, left in (("a", 1), ("b", 0)):
        (root / "images" / "train" / f"{name}.png").write_bytes(b"")
        with pytest.raises(ValueError, match=r"images/train/a\.png: unreadable image: cannot be decoded"):
            yolo(root)
        assert len(yolo(root, problems=Problems(collect=True))) == left


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_upright(yolo_folder, orientation):
    """As labelling tools show them: the box lies on the bright patch of the turned image."""
    root = yolo_folder({"train": {"a": ""}})
    upright = np.zeros((30, 40, 3), np.uint8)
    upright[6:12, 4:20] = 255
    undo = {2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}.get(orientation)
    methods = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_270"}
    methods |= {7: "TRANSVERSE", 8: "ROTATE_90"}
    image = Image.fromarray(upright)
    image = image.transpose(Image.Transpose[methods[undo]]) if undo else image
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(root / "images" / "train" / "a.png", exif=exif)
    (root / "labels" / "train" / "a.txt").write_text("0 0.3 0.3 0.4 0.2\n")
    dataset = create_dataset("yolo", "train", root=root, size=(30, 40))
    sample = dataset[0]
    assert sample.original_size == (30, 40) and (sample.x.permute(1, 2, 0).numpy() == upright).all()
    np.testing.assert_allclose(sample.boxes, [[4, 6, 20, 12]], atol=1e-5)


def test_orientations_are_said_and_may_be_ignored(yolo_folder):
    """Shares fit both ways, so nothing but the argument tells labels that were drawn on the stored pixels."""
    root = yolo_folder({"train": {"a": BOX, "b": BOX}})
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 30)).save(root / "images" / "train" / "a.png", exif=exif)
    problems = Problems()
    assert yolo(root, problems=problems)[0].original_size == (40, 30)
    assert [p.kind for p in problems.items] == ["EXIF orientation"] and "All are turned" in str(problems.items[0])
    for orientation, size in (("turned", (40, 30)), ("stored", (30, 40))):
        problems = Problems()
        dataset = yolo(root, problems=problems, orientation=orientation)
        assert dataset[0].original_size == size and not problems.items


def test_same_line_twice_is_kept_and_reported(yolo_folder):
    root = yolo_folder({"train": {"a": BOX + BOX}})
    assert len(boxes(yolo(root))) == 2
    report = check_dataset("yolo", ["train", "val"], root=root, optional=["val"])
    assert report.problems.counts()["same box again"] == 1 and report.absent == ["val"]


def test_nothing_is_written(yolo_folder):
    root = yolo_folder({"train": {"a": BOX, "b": None}})
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    dataset = yolo(root)
    dataset[0], dataset[1], dataset.ground_truth()
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before
