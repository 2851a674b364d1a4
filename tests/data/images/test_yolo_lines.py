"""Long lines of YOLO labels: key points, outlines, oriented boxes, detections; detected from all lines of a split."""

import numpy as np
import pytest

from data import Problems, create_dataset
from data.check import check_dataset
from data.images.yolo_lines import longer_line, what_lines_mean

BOX = "0 0.5 0.5 0.5 0.4\n"
POSE = "0 .5 .5 .4 .4 .45 .45 .55 .55\n"
OUTLINES = "0 .1 .1 .5 .1 .5 .5 .3 .6 .1 .5\n0 .5 .1 .75 .5 .25 .9 .5 .2\n"


def read(root, **options):
    """(boxes [N, 4] xywh as shares of the image, problems)"""
    problems = Problems()
    dataset = create_dataset("yolo", "train", root=root, size=80, problems=problems, **options)
    boxes = [a["bbox"] for a in dataset.ground_truth()["annotations"]]
    return np.array(boxes).reshape(-1, 4) / (40, 30, 40, 30), problems


@pytest.mark.parametrize(
    "line",
    [
        "0 .5 .5 .4 .4 .93",  # the confidence of a detection
        "0 .5 .5 .4 .4 .93 1",  # and the number of its track
        "0 .5 .5 .4 .4 .93 17",
        "0 .5 .5 .4 .4 .45 .45 .55 .55",  # two key points
        "0 .5 .5 .4 .4 .45 .45 2 .55 .55 1 0 0 0",  # three, with visibility
        "0 .5 .5 .4 .4 .45 .45 2 .55 .55 1",
        "0 .5 .5 .4 .4 .6 .4 .4 .6 .4 .4 .6 .6",  # an outline would cross itself
    ],
)
def test_further_columns_leave_the_box(yolo_folder, line):
    boxes, problems = read(yolo_folder({"train": {"a": line + "\n", "b": line + "\n" + BOX, "c": ""}}))
    np.testing.assert_allclose(boxes, [[0.3, 0.3, 0.4, 0.4]] * 2 + [[0.25, 0.3, 0.5, 0.4]], atol=1e-9)
    assert problems.counts() == {"numbers after the box": 1}
    assert "2 of 3 lines, the first is line 1 of " in str(problems.items[0])


def test_a_shape_of_key_points_decides(yolo_folder):
    yaml = "names: [cat]\ntrain: images/train\nkpt_shape: [2, 2]\n"
    small = "0 .4 .4 .42 .4 .42 .42 .4 .42\n"  # as an outline it would be sound
    root = yolo_folder({"train": {"a": small + POSE + BOX}}, yaml)
    boxes, problems = read(root)
    np.testing.assert_allclose(boxes, [[0.19, 0.2, 0.42, 0.4], [0.3, 0.3, 0.4, 0.4], [0.25, 0.3, 0.5, 0.4]], atol=1e-9)
    assert not problems.items
    (root / "labels" / "train" / "a.txt").write_text("0 .4 .4 .42 .4 .42 .42\n")
    with pytest.raises(ValueError, match="a.txt: line 1: malformed line.*By kpt_shape it has 8 numbers"):
        read(root)
    boxes, _ = read(root, lines="outline")
    np.testing.assert_allclose(boxes, [[0.4, 0.4, 0.02, 0.02]], atol=1e-9)


def test_lines_that_may_be_both_are_refused_until_they_are_named(yolo_folder):
    line = "0 .4 .4 .46 .41 .47 .48 .41 .46\n"
    root = yolo_folder({"train": {"a": BOX + line}})
    with pytest.raises(ValueError, match=r"1 of 2 lines, the first is line 2 of \S*a\.txt.*data\.args\.lines=outline"):
        read(root)
    assert len(check_dataset("yolo", ["train"], root=root).fatal) == 1
    np.testing.assert_allclose(read(root, lines="outline")[0][1], [0.4, 0.4, 0.07, 0.08], atol=1e-9)
    np.testing.assert_allclose(read(root, lines="box")[0][1], [0.17, 0.195, 0.46, 0.41], atol=1e-9)
    with pytest.raises(ValueError, match="lines = 'boxes', did you mean 'box'"):
        read(root, lines="boxes")


def test_outlines_beyond_the_image(yolo_folder):
    """Clipped and counted like boxes where other lines show outlines; alone they may be anything."""
    beyond = "0 .5 .5 .9 .5 1.2 .7 .9 .9\n"
    root = yolo_folder({"train": {"a": beyond}})
    with pytest.raises(ValueError, match="outlines: 1 of 1 lines"):
        read(root)
    (root / "labels" / "train" / "a.txt").write_text(OUTLINES + beyond)
    boxes, problems = read(root)
    np.testing.assert_allclose(boxes[2], [0.5, 0.5, 0.5, 0.4], atol=1e-9)
    assert problems.counts() == {"box partly outside the image": 1}
    (root / "labels" / "train" / "a.txt").write_text(OUTLINES + "0 .5 .5 .9 .5 20 .7 .9 .9\n")
    with pytest.raises(ValueError, match="a.txt: line 3: coordinates not normalised"):
        read(root)


def test_mixed_files_are_named(yolo_folder):
    boxes, problems = read(yolo_folder({"train": {"a": OUTLINES + BOX, "b": OUTLINES, "c": BOX}}))
    assert len(boxes) == 6 and problems.counts() == {"boxes and outlines in one file": 1}
    assert str(problems.items[0]).split(": ")[0].endswith("a.txt")


def test_a_box_with_key_points_among_outlines_is_named(yolo_folder):
    boxes, problems = read(yolo_folder({"train": {"a": OUTLINES + POSE}}))
    assert len(boxes) == 3 and problems.counts() == {"outline like a box": 1}
    assert "a.txt: line 3: " in str(problems.items[0]) and "data.args.lines=box" in str(problems.items[0])


def shape(kind, points, random):
    """Numbers of one line."""
    centre, size = random.uniform(0.2, 0.8, 2), random.uniform(0.02, 0.3, 2)
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) / 2
    if kind == "key points":
        return [*centre, *size, *(centre + random.uniform(-0.5, 0.5, (points, 2)) * size).ravel()]
    if kind == "outline":
        angles = np.sort(random.uniform(0, 2 * np.pi, points or random.integers(3, 30)))
        return (centre + np.c_[np.cos(angles), np.sin(angles)] * size / 2).ravel()
    if kind == "oriented":
        return (centre + corners * size @ [[0.8, 0.6], [-0.6, 0.8]]).ravel()
    return ((0.5, 0.6) + corners * (0.1, 0.04) + random.normal(0, 0.004, (4, 2))).ravel()


def meaning_of(kind, points):
    random = np.random.default_rng(0)
    lines = [[round(float(v), 6) for v in shape(kind, points, random)] for _ in range(200)]
    return what_lines_mean([longer_line(numbers) for numbers in lines])


@pytest.mark.parametrize(
    ("kind", "points", "meaning"),
    [
        *(("key points", points, "box") for points in (2, 3, 5, 17, 68)),
        *(("outline", points, "outline") for points in (None, 3, 4, 6)),  # None: of different lengths
        ("oriented", 4, "outline"),
    ],
)
def test_kinds_of_sets(kind, points, meaning):
    assert meaning_of(kind, points) == meaning


def test_small_outlines_in_one_place_are_no_boxes():
    """Number plates before a fixed camera: every line also is a box around points."""
    assert meaning_of("plate", 4) != "box"
