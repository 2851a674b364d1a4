"""Augmentation of images and boxes: consistent, reproducible from the generator, and the letterbox is invertible."""

import pickle

import numpy as np
import pytest
import torch
from augmented import applied, sampled
from hypothesis import given, settings
from hypothesis import strategies as st

from data.images.augment import ImageAugment, image_augment
from data.images.input import GRAY, ImageInput

ALL = {"hflip": 0.5, "vflip": 0.5, "scale": 0.4, "translate": 0.2, "hsv": (0.015, 0.7, 0.4)}
RNG = np.random.default_rng
LABEL = np.zeros(1, np.int64)


def image_with(box, width, height):
    """White within `box`, black around it."""
    image = np.zeros((height, width, 3), np.uint8)
    x1, y1, x2, y2 = box
    image[y1:y2, x1:x2] = 255
    return image


def white(image):
    """The box around what is white: half-way between black and white edges lie at 127."""
    y, x = np.nonzero(image[..., 0] > 127)
    return np.array([x.min(), y.min(), x.max() + 1, y.max() + 1])


@settings(deadline=None, max_examples=60)
@given(width=st.integers(1, 900), height=st.integers(1, 900), to=st.sampled_from([(64, 64), (96, 160), (65, 33)]))
def test_letterbox_can_be_undone(width, height, to):
    """Boxes, shape and border agree with the placement for every shape of image."""
    box = np.array([[0.2 * width, 0.3 * height, 0.9 * width, height]], np.float32)
    image = np.full((height, width, 3), 9, np.uint8)
    out, boxes, _, place = applied(ImageAugment(ImageInput(to)), image, box, LABEL, RNG(0))
    assert out.shape == (*to, 3) and out.dtype == np.uint8
    inner = (out == 9).all(-1)
    new_width, new_height = round(place.scale_x * width), round(place.scale_y * height)
    assert inner.sum() == new_width * new_height and (out[~inner] == GRAY).all()
    left, top = int(place.left), int(place.top)
    assert inner[top : top + new_height, left : left + new_width].all()
    if len(boxes):  # the slimmest vanish in rounding
        undone = place.to_original(torch.from_numpy(boxes)).numpy()
        assert np.abs(undone - box).max() < 1e-3 * max(1, 1 / min(place.scale_x, place.scale_y))


def test_placement_of_a_wide_image():
    place = ImageInput(320).placement((480, 640))
    assert (place.scale_x, place.scale_y, place.left, place.top) == (0.5, 0.5, 0, 40)


@pytest.mark.parametrize("options", [{}, {"hflip": 0.5, "vflip": 0.5}, {"scale": 0.4, "translate": 0.2}, ALL])
def test_boxes_follow_the_pixels(options):
    augment = ImageAugment(ImageInput((128, 160)), **{**options, "hsv": (0, 0, 0)})
    moved = set()
    for k in range(40):
        size = RNG(k).integers(60, 400, 2)
        x1, y1 = (size * (0.15, 0.1)).astype(int)
        x2, y2 = (size * (0.6, 0.5)).astype(int)
        image = image_with((x1, y1, x2, y2), *size)
        out, boxes, labels, place = applied(augment, image, np.array([[x1, y1, x2, y2]], np.float32), LABEL, RNG(k))
        assert boxes.shape == (1, 4) and labels.tolist() == [0]
        assert np.abs(white(out) - boxes[0]).max() < 1  # half a pixel for each time it is resampled
        straight = np.array([x1 + x2, y1 + y2]) * (place.scale_x, place.scale_y) / 2 + (place.left, place.top)
        centre = (boxes[0, :2] + boxes[0, 2:]) / 2
        moved.add(tuple(np.abs(centre - straight) > 2))
    assert (len(moved) > 1) == bool(options)  # something did happen


def test_mirrors_are_independent_and_as_frequent_as_asked():
    augment = ImageAugment(ImageInput((32, 32)), hflip=0.5, vflip=0.25)
    image, box = np.zeros((32, 32, 3), np.uint8), np.array([[0, 0, 4, 4]], np.float32)
    drawn = np.array([applied(augment, image, box, LABEL, RNG([k, 3]))[1][0, :2] > 0 for k in range(2000)])
    assert np.allclose(drawn.mean(0), [0.5, 0.25], atol=0.04)
    assert abs(drawn.all(1).mean() - 0.125) < 0.03


def test_scale_and_shift_cover_their_range_evenly():
    augment = ImageAugment(ImageInput((100, 200)), scale=0.3, translate=0.1)
    image, box = np.zeros((100, 200, 3), np.uint8), np.array([[95, 45, 105, 55]], np.float32)
    boxes = np.array([applied(augment, image, box, LABEL, RNG([k, 5]))[1][0] for k in range(600)])
    sides = (boxes[:, 2:] - boxes[:, :2]) / 10
    shift = (boxes[:, :2] + boxes[:, 2:]) / 2 - (100, 50)
    assert np.allclose(sides[:, 0], sides[:, 1], atol=1e-4)
    assert 0.7 <= sides.min() < 0.72 and 1.28 < sides.max() <= 1.3 + 1e-4
    assert np.allclose(np.abs(shift).max(0), [20, 10], atol=1) and np.allclose(shift.mean(0), 0, atol=1.5)
    assert np.abs(np.corrcoef(np.c_[shift, sides[:, 0]].T) - np.eye(3)).max() < 0.15


def test_what_leaves_the_canvas_is_clipped_or_dropped():
    augment = ImageAugment(ImageInput((64, 64)), scale=0.9, translate=0.5, min_visibility=0.5)
    image = np.zeros((64, 64, 3), np.uint8)
    boxes = RNG(0).uniform(0, 40, (50, 4)).astype(np.float32)
    boxes[:, 2:] = boxes[:, :2] + 20
    labels = np.arange(50)
    kept = 0
    for k in range(50):
        _, found, names, _ = applied(augment, image, boxes, labels, RNG(k))
        assert len(found) == len(names) and found.dtype == np.float32 and names.dtype == np.int64
        assert found.min(initial=0) >= 0 and found.max(initial=0) <= 64
        assert (found[:, 2:] > found[:, :2]).all()
        kept += len(found)
    assert 0 < kept < 2500


@pytest.mark.parametrize("options", [{}, {"hflip": 1.0, "vflip": 1.0}, {"scale": 0.3}, {"mosaic": 1.0}])
def test_whole_boxes_stay_whatever_has_to_be_visible(options):
    """At 1 only what is cut goes; a box that ends where the image does is whole."""
    one, most = (ImageAugment(ImageInput((97, 128)), min_visibility=share, **options) for share in (1, 0.99))
    kept = 0
    for k in range(30):
        width, height = RNG(k).integers(30, 400, 2)
        boxes = np.array([[0, 0, width, height], [0, 0, width / 3, height / 3], [width / 3, height / 3, width, height]])
        image = np.zeros((height, width, 3), np.uint8), boxes, np.arange(3)
        found, expected = (sampled(augment, lambda _, p=image: p, 0, 1, RNG(k))[1:3] for augment in (one, most))
        assert found[1].tolist() == expected[1].tolist() and (found[0] == expected[0]).all()
        kept += len(found[1])
    assert kept == 90 or (options.keys() & {"scale", "mosaic"} and kept > 20)


@pytest.mark.parametrize("options", [{}, ALL])
def test_no_boxes_keep_their_shape(options):
    augment = ImageAugment(ImageInput((64, 64)), **options)
    image = np.zeros((50, 40, 3), np.uint8)
    for none in (np.zeros((0, 4), np.float32), np.zeros((0,))):
        _, boxes, labels, _ = applied(augment, image, none, np.zeros(0), RNG(0))
        assert boxes.shape == (0, 4) and boxes.dtype == np.float32
        assert labels.shape == (0,) and labels.dtype == np.int64
    # and where the only box is dropped
    _, boxes, labels, _ = applied(augment, image, np.array([[5, 5, 5, 9]], np.float32), LABEL, RNG(0))
    assert boxes.shape == (0, 4) and labels.shape == (0,)


def test_stray_coordinates_do_not_raise():
    boxes = np.array([[-1e-6, 0, 40.00001, 50], [39.99999, 0, 40, 50]], np.float32)
    _, found, _, _ = applied(
        ImageAugment(ImageInput((64, 64))), np.zeros((50, 40, 3), np.uint8), boxes, np.zeros(2), RNG(0)
    )
    assert np.allclose(found[0], [6, 0, 57, 64], atol=0.6)


def test_only_the_generator_decides():
    augment = ImageAugment(ImageInput((64, 64)), **ALL)
    twin = pickle.loads(pickle.dumps(augment))  # as a spawned worker has it
    image = RNG(0).integers(0, 256, (50, 60, 3), np.uint8)
    box = np.array([[20, 20, 40, 40]], np.float32)
    seen = []
    for k in range(20):
        out, boxes, _, _ = applied(augment, image, box, LABEL, RNG(k))
        np.random.seed(k + 1)
        other, other_boxes, _, _ = applied(twin, image, box, LABEL, RNG(k))
        assert (out == other).all() and (boxes == other_boxes).all()
        seen.append(out.tobytes())
    assert len(set(seen)) == 20
    assert (
        applied(augment, image, box, LABEL, RNG(0))[0].tobytes() == seen[0]
    )  # nothing is left over from the calls between


def test_the_input_is_left_alone():
    image = RNG(0).integers(0, 256, (64, 64, 3), np.uint8)
    boxes, labels = np.array([[20, 20, 40, 40]], np.float32), LABEL.copy()
    before = image.copy()
    for k in range(5):
        out, *_ = applied(ImageAugment(ImageInput((64, 64)), **ALL), image, boxes, labels, RNG(k))
        assert not np.shares_memory(out, image) or (out == before).all()
    assert (image == before).all() and boxes.tolist() == [[20, 20, 40, 40]]


def test_colours():
    image = np.zeros((8, 8, 3), np.uint8)
    image[:] = (200, 100, 50)
    none = np.zeros((0, 4), np.float32), np.zeros(0)
    for k in range(30):
        value = applied(ImageAugment(ImageInput((8, 8)), hsv=(0, 0, 0.5)), image, *none, RNG(k))[0][0, 0].astype(float)
        assert 95 <= value[0] <= 255 and np.allclose(value / value[0], [1, 0.5, 0.25], atol=0.03)
        saturation = applied(ImageAugment(ImageInput((8, 8)), hsv=(0, 0.5, 0)), image, *none, RNG(k))[0][0, 0].astype(
            int
        )
        assert saturation[0] == 200 and saturation[2] <= 130
    assert (applied(ImageAugment(ImageInput((8, 8)), hsv=(0, 0, 0)), image, *none, RNG(0))[0] == image).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hfilp": 1}, "no argument 'hfilp', did you mean 'hflip'"),
        ({"size": 4}, "no argument 'size'"),
        ({"hflip": 1.5}, "hflip = 1.5: give a number from 0 to 1"),
        ({"hflip": True}, "hflip = True: give a number"),
        ({"hflip": "0.5"}, "hflip = '0.5': give a number"),
        ({"hsv": [True, 0, 0]}, "hue = True: give a number"),
        ({"plain_epochs": True}, "plain_epochs = True: give 0 or more, a whole number"),
        ({"scale": 1}, "scale = 1: give a number below 1"),
        ({"hsv": [0.1, 0.2]}, "hsv = .*three numbers"),
        ({"hsv": [0.1, -0.2, 0]}, "saturation = -0.2"),
        ({"translate": float("nan")}, "translate = nan"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        image_augment(ImageInput(8), options)
