"""VOC coordinates from 1 or from 0, detected from the whole set; EXIF orientations; unusual numbers."""

import numpy as np
import pytest
from PIL import Image

from data import Problems, create_dataset
from data.check import check_dataset
from data.images.voc_coordinates import from_zero


def voc(root, split="train", **kwargs):
    return create_dataset("voc", split, root=root, size=80, **kwargs)


def boxes(dataset):
    return [a["bbox"] for a in dataset.ground_truth()["annotations"]]


def test_a_set_with_fractions_and_boxes_below_1_is_continuous_from_0(voc_folder):
    """Also the boxes of the other image, whose numbers tell nothing."""
    root = voc_folder({"train": {"a": [("cell", ("0.0", 2.5, 10.25, 20), 0)], "b": [("cell", (3, 4, 13, 24), 0)]}})
    problems = Problems()
    assert boxes(voc(root, problems=problems)) == [[0, 2.5, 10.25, 17.5], [3, 4, 10, 20]]
    (problem,) = problems.items
    assert "train.txt: VOC coordinates from 0: 1 of 2 boxes begin below pixel 1, 1 have fractions" in str(problem)
    assert "data.args.coordinates=from_1" in str(problem)
    assert [str(p) for p in check_dataset("voc", ["train"], root=root).problems.items if p.kind == problem.kind] == [
        str(problem)
    ]
    problems = Problems()
    assert boxes(voc(root, problems=problems, coordinates="from_1"))[1] == [2, 3, 11, 21] and not problems.items
    assert boxes(voc(root, problems=problems, coordinates="from_0"))[1] == [3, 4, 10, 20] and not problems.items
    with pytest.raises(ValueError, match="coordinates = 'from0', did you mean 'from_0'"):
        voc(root, coordinates="from0")


@pytest.mark.parametrize(
    ("corners", "zero"),
    [
        ([(1, 1, 5, 5), (2, 3, 8.5, 9)], False),  # a fraction here and there, as in VOC itself
        ([(0, 0, 5, 5), (2, 3, 8, 9)], False),  # whole numbers that begin at 0 are cut to the edge
        ([(0, 0, 5, 5)] + [(2, 3, 8, 9)] * 30 + [(2, 3, 8.5, 9)], False),
        ([(0.4, 2, 5, 5), (2.2, 3, 8.1, 9)], True),
        ([(0, 0, 5, 5), (2.2, 3, 8.1, 9), (np.nan, 1, 2, 3)], True),
        ([(-0.5, 2, 5, 5), (2.2, 3, 8.1, 9)], False),  # outside, whatever they count from
        ([], False),
    ],
)
def test_what_a_set_shows(corners, zero):
    found, said = from_zero(np.array(corners, float).reshape(-1, 4), "auto")
    assert found == zero and (said is not None) == zero


@pytest.mark.parametrize(("width", "height"), [("40.0", "30"), (" 40 ", " 30\n"), ("+40", "3e1"), ("040", "30.00")])
def test_sizes_and_corners_in_any_form_of_a_number(voc_folder, width, height):
    root = voc_folder({"train": {"a": [("cell", ("1.0", " 2 ", "10.00", "2e1"), 0)]}}, width=width, height=height)
    problems = Problems()
    dataset = voc(root, problems=problems)
    assert boxes(dataset) == [[0, 1, 10, 19]] and dataset[0].original_size == (30, 40) and not problems.items


@pytest.mark.parametrize(("width", "height"), [(0, 0), ("", ""), ("wide", 30), ("40.5", 30), ("nan", "nan")])
def test_sizes_that_are_none_are_the_images(voc_folder, width, height):
    problems = Problems()
    root = voc_folder({"train": {"a": [("cell", (1, 1, 9, 9), 0)], "b": []}}, width=width, height=height)
    assert voc(root, problems=problems)[0].original_size == (30, 40)
    (problem,) = problems.items
    assert "label without image size: 2 of 2 images" in str(problem)


def test_orientations_are_decided_by_the_whole_set(voc_folder):
    """Image a, stored turned by a quarter, is labelled upright: so is b, which is stored upside down."""
    root = voc_folder({"train": {"a": [("cell", (5, 4, 12, 10), 0)], "b": [("cell", (5, 4, 12, 10), 0)]}})
    scene = np.zeros((30, 40, 3), np.uint8)
    scene[3:10, 4:12] = 255
    for name, orientation, turn in (("a", 6, Image.Transpose.ROTATE_90), ("b", 3, Image.Transpose.ROTATE_180)):
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(scene).transpose(turn).save(root / "JPEGImages" / f"{name}.png", exif=exif)
    problems = Problems()
    dataset = create_dataset("voc", "train", root=root, size=(30, 40), problems=problems)
    for i in range(2):
        x1, y1, x2, y2 = dataset[i].boxes[0].int().tolist()
        assert (dataset[i].x[:, y1:y2, x1:x2] == 255).all() and dataset[i].original_size == (30, 40)
    (problem,) = problems.items
    assert "train.txt: EXIF orientation: 2 of 2 images" in str(problem) and "All are turned" in str(problem)
    assert not create_dataset("voc", "train", root=root, orientation="turned").problems.items


@pytest.mark.parametrize("line", ["../../secret", "/etc/secret", "../secret", "x/../../secret.png"])
def test_lists_that_lead_out_of_the_folder(voc_folder, write_image, line):
    root = voc_folder({"train": {"a": []}})
    write_image(root / "secret.png")
    (root / "ImageSets" / "Main" / "train.txt").write_text(f"a\n{line}\n")
    with pytest.raises(ValueError, match=r"train\.txt: '.*secret(.png)?': image outside the image folder"):
        voc(root)
