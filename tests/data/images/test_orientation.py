"""EXIF orientations: the labels of a whole set decide how each image is read."""

import json

import numpy as np
import pytest
from PIL import Image

from data import Problems, create_dataset
from data.check import check_dataset
from data.images.orientation import decide

SCENE = np.zeros((48, 96, 3), np.uint8)
SCENE[4:20, 8:32] = 255
BOX = [8, 4, 24, 16]
T = Image.Transpose
UNDO = {
    2: T.FLIP_LEFT_RIGHT,
    3: T.ROTATE_180,
    4: T.FLIP_TOP_BOTTOM,
    5: T.TRANSPOSE,
    6: T.ROTATE_90,
    7: T.TRANSVERSE,
    8: T.ROTATE_270,
}


def write_scene(path, orientation, scene=SCENE):
    """A file whose pixels are `scene` once they are turned as its EXIF orientation says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(scene)
    exif = Image.Exif()
    exif[0x0112] = orientation
    (image.transpose(UNDO[orientation]) if orientation in UNDO else image).save(path, exif=exif)


@pytest.fixture
def labelled(tmp_path):
    """labelled([(orientation, labelled size or None, box), ...]) -> root of a COCO set."""

    def write(images, scene=SCENE):
        content = {"categories": [{"id": 1, "name": "pen"}], "images": [], "annotations": []}
        for i, (orientation, size, box) in enumerate(images, 1):
            write_scene(tmp_path / "train" / f"{i}.png", orientation, scene)
            sides = {} if size is None else {"width": size[0], "height": size[1]}
            content["images"].append({"id": i, "file_name": f"{i}.png", **sides})
            content["annotations"].append({"id": i, "image_id": i, "category_id": 1, "bbox": box})
        (tmp_path / "annotations").mkdir(exist_ok=True)
        (tmp_path / "annotations" / "instances_train.json").write_text(json.dumps(content))
        return tmp_path

    return write


def read(root, **kwargs):
    """(problems by kind, is the box of each image on the bright patch?)"""
    problems = Problems()
    dataset = create_dataset("coco", "train", root=root, size=96, problems=problems, **kwargs)
    means = []
    for i in range(len(dataset)):
        sample = dataset[i]
        x1, y1, x2, y2 = sample.boxes[0].int().tolist()
        means.append(float(sample.x[:, y1:y2, x1:x2].float().mean()))
    return {problem.kind: str(problem) for problem in problems.items}, [mean > 250 for mean in means]


def test_a_quarter_turn_that_was_labelled_upright_decides_for_the_others(labelled):
    kinds, right = read(labelled([(orientation, (96, 48), BOX) for orientation in range(1, 9)]))
    assert all(right)
    assert set(kinds) == {"EXIF orientation"}
    said = kinds["EXIF orientation"]
    assert "instances_train.json: EXIF orientation: 7 of 8 images have one (1 x 2, 1 x 3, " in said
    assert "4 were labelled turned, 0 as stored. All are turned" in said and "data.args.orientation" in said


def test_a_quarter_turn_that_was_labelled_as_stored_decides_for_the_others(labelled):
    """Orientation 3 keeps its size; 6 and 8 state that of the pixels, on which the boxes lie."""
    images = [(3, (96, 48), [64, 28, 24, 16]), (6, (48, 96), [4, 64, 16, 24]), (8, (48, 96), [28, 8, 16, 24])]
    kinds, right = read(labelled(images))
    assert all(right) and "0 were labelled turned, 2 as stored. All are taken as stored" in kinds["EXIF orientation"]


def test_boxes_that_fit_one_way_only_beat_a_size_from_elsewhere(labelled):
    """Sizes that a script took from the file's header, boxes that were drawn on what a browser shows."""
    scene = SCENE.copy()
    scene[4:20, 70:90] = 255
    far = [70, 4, 20, 16]
    kinds, right = read(labelled([(6, (48, 96), far), (6, (48, 96), BOX), (3, (96, 48), far)], scene))
    assert all(right) and "2 were labelled turned, 0 as stored" in kinds["EXIF orientation"]


@pytest.mark.parametrize("orientation", [3, 6])
def test_labels_without_sizes_are_decided_by_boxes(labelled, orientation):
    scene = SCENE.copy()
    scene[4:20, 70:90] = 255
    far = [70, 4, 20, 16]
    kinds, right = read(labelled([(8, None, far), (orientation, None, BOX)], scene))
    assert all(right) and set(kinds) == {"EXIF orientation", "label without image size"}


def test_without_evidence_images_are_as_stored_and_it_is_said(labelled):
    images = [(3, (96, 48), [64, 28, 24, 16])]
    kinds, right = read(labelled(images))
    assert all(right) and "though there is no evidence" in kinds["EXIF orientation"]
    with pytest.raises(ValueError, match="EXIF orientation: 1 of 1 images.*data.args.orientation=turned or stored"):
        create_dataset("coco", "train", root=labelled(images), problems=Problems(strict=True))


def test_labels_that_disagree_are_each_read_as_they_show(labelled):
    images = [(6, (96, 48), BOX), (6, (48, 96), [4, 64, 16, 24]), (3, (96, 48), [64, 28, 24, 16])]
    kinds, right = read(labelled(images))
    assert all(right) and "labels disagree" in kinds["EXIF orientation"]


def test_the_argument_decides(labelled):
    root = labelled([(3, (96, 48), BOX), (6, (48, 96), BOX)])  # nothing but a wrong size
    assert read(root, orientation="turned") == ({}, [True, True])
    root = labelled([(3, (96, 48), [64, 28, 24, 16]), (6, (96, 48), [4, 64, 16, 24])])
    kinds, right = read(root, orientation="stored")
    assert kinds == {} and right == [True, True]
    with pytest.raises(ValueError, match="orientation = 'turn', did you mean 'turned'"):
        read(root, orientation="turn")


def test_images_without_an_orientation_say_nothing(labelled):
    assert read(labelled([(1, (96, 48), BOX)])) == ({}, [True])


def test_the_check_says_what_the_training_says(labelled):
    root = labelled([(6, (96, 48), BOX), (3, (96, 48), BOX)])
    kinds, _ = read(root)
    for fast in (False, True):
        found = [str(p) for p in check_dataset("coco", ["train"], root=root, fast=fast).problems.items]
        assert found == [kinds["EXIF orientation"]]


def test_size_that_fits_neither_way(labelled):
    for orientation in (1, 3):
        with pytest.raises(ValueError, match="the image is 96x48, its label says 48x96. It was labelled rotated by"):
            read(labelled([(orientation, (48, 96), BOX)]))
    with pytest.raises(ValueError, match=r"1\.png: unreadable image: .* is 48x96, its label says 95x48"):
        read(labelled([(6, (95, 48), BOX)]))


def test_a_few_sloppy_boxes_do_not_turn_a_set():
    """One of 30 sizes is contradicted by a box: it alone is read the other way."""
    stored, labelled = np.tile([48, 96], (30, 1)), np.tile([48, 96], (30, 1))
    far = np.tile([40.0, 40.0], (30, 1))
    far[7] = 90, 40
    upright = decide(stored, np.full(30, 6), labelled, far, "auto", "stored").upright
    assert np.flatnonzero(upright).tolist() == [7]
    far[:4] = 90, 40
    assert decide(stored, np.full(30, 6), labelled, far, "auto", "stored").upright.all()
