"""Cutout: gray holes, and boxes dropped by the share of their area under all holes."""

import numpy as np
import pytest
import torch

from data import create_dataset
from data.images.augment import ImageAugment, image_augment
from data.images.cutout import cutout, draw_holes, hidden_share
from data.images.input import GRAY, ImageInput

RNG = np.random.default_rng
BRIGHT = 200


def scattered(seed, count=30, height=96, width=128):
    """A bright image and boxes of any fractional place and size in it."""
    rng = RNG(seed)
    corners = rng.uniform(0, 1, (count, 2, 2))
    boxes = np.concatenate([corners.min(1), corners.max(1)], 1) * np.tile([width, height], 2)
    return np.full((height, width, 3), BRIGHT, np.uint8), boxes.astype(np.float32), np.arange(count)


def test_share_is_that_of_a_fine_grid():
    """Every pixel cut into 20 x 20 points, each looked up in the mask."""
    hidden = RNG(1).random((12, 15)) < 0.4
    _, boxes, _ = scattered(2, 20, 12, 15)
    fine = np.repeat(np.repeat(hidden, 20, 0), 20, 1)
    y, x = ((np.arange(n) + 0.5) / 20 for n in fine.shape)
    for box, share in zip(boxes, hidden_share(boxes, hidden), strict=True):
        inside = ((y >= box[1]) & (y < box[3]))[:, None] & ((x >= box[0]) & (x < box[2]))
        if inside.sum() > 2000:
            assert abs(fine[inside].mean() - share) < 0.03
    assert hidden_share(np.zeros((0, 4), np.float32), hidden).shape == (0,)


def test_holes_that_overlap_count_once():
    """Two holes over one half hide a half, not all."""
    hidden = np.zeros((10, 10), bool)
    for _ in range(2):
        hidden[:, :5] = True
    np.testing.assert_allclose(hidden_share(np.array([[0, 0, 10, 10], [4.5, 0, 5.5, 1]]), hidden), [0.5, 0.5])


def test_boxes_are_dropped_by_what_the_holes_cover():
    kept = []
    for seed in range(30):
        image, boxes, labels = scattered(seed)
        out, found, names = cutout((image, boxes, labels), draw_holes(8, 0.5, RNG(seed)), 0.6, GRAY)
        gray = (out == GRAY).all(-1)
        assert (out[~gray] == BRIGHT).all() and (image == BRIGHT).all()  # the input is left alone
        for box, label in zip(boxes, labels, strict=True):
            x1, y1, x2, y2 = box.round().astype(int)
            share = gray[y1:y2, x1:x2].mean() if x1 < x2 and y1 < y2 else 0.6
            if abs(share - 0.6) > 0.1 and min(x2 - x1, y2 - y1) > 10:  # whole pixels only, so not at the limit
                assert (label in names) == (share < 0.6)
        assert (boxes[names] == found).all()
        kept.append(len(names))
    assert 0 < sum(kept) < 30 * 30


@pytest.mark.parametrize(("max_hidden", "left"), [(1.0, 30), (0.0, 0)])
def test_the_limits(max_hidden, left):
    """Holes as large as the image: all of it is hidden, unless nothing counts as hidden."""
    for seed in range(5):
        out, boxes, labels = cutout(scattered(seed), draw_holes(60, 1.0, RNG(seed)), max_hidden, GRAY)
        assert (out == GRAY).mean() > 0.99 and len(boxes) == len(labels) == left


def test_holes_are_as_large_as_asked_and_anywhere():
    bare = np.full((100, 200, 3), BRIGHT, np.uint8), np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
    seen, sides = np.zeros((100, 200)), []
    for seed in range(400):
        out, boxes, _ = cutout(bare, draw_holes(1, 0.3, RNG(seed)), 0.6, GRAY)
        gray = (out == GRAY).all(-1)
        seen += gray
        sides.append((gray.any(1).sum() / 100, gray.any(0).sum() / 200))
        assert boxes.shape == (0, 4) and gray.sum() == gray.any(1).sum() * gray.any(0).sum()
    assert 0.28 < np.max(sides) <= 0.31 and np.abs(np.median(sides, 0) - 0.14).max() < 0.02
    assert (seen > 0).mean() > 0.99 and seen[[0, 0, -1, -1], [0, -1, 0, -1]].all()  # centres lie anywhere


def sampled(options, seed, index=0):
    images = [scattered(k) for k in range(4)]
    augment = ImageAugment(ImageInput((96, 128)), **options)
    change = augment.draw(index, 4, RNG(seed))
    return augment(change, [images[k] for k in change.indices])


def test_probability():
    changed = [(sampled({"cutout": 0.3}, seed)[0] == GRAY).any() for seed in range(300)]
    assert abs(np.mean(changed) - 0.3) < 0.08


@pytest.mark.parametrize("options", [{}, {"hflip": 0.5, "scale": 0.3}, {"mosaic": 0.5, "mixup": 0.5, "vflip": 0.5}])
def test_the_other_choices_stay_what_they_were(options):
    """Outside the holes a sample is bit-equal to the one without cutout, and every box it kept is one of those."""
    for seed in range(20):
        plain, boxes, labels, place = sampled(options, seed)
        out, found, names, other_place = sampled({**options, "cutout": 1.0}, seed)
        same = (out == plain).all(-1)
        assert (out[~same] == GRAY).all() and place == other_place and out.dtype == np.uint8
        before, after = (set(map(tuple, np.c_[b, n].tolist())) for b, n in ((boxes, labels), (found, names)))
        assert after <= before
        assert found.dtype == np.float32 and names.dtype == np.int64


def test_samples_of_a_data_set_repeat(coco_folder):
    root = coco_folder(images={f"{k}.png": [(1, [2, 3, 10, 12])] for k in range(3)})
    dataset = create_dataset("coco", "train", root=root, size=64, augment={"cutout": 1.0, "cutout_holes": 3})
    one, again, other = dataset[1, 4, 0, None], dataset[1, 4, 0, None], dataset[1, 5, 0, None]
    assert torch.equal(one.x, again.x) and torch.equal(one.boxes, again.boxes) and not torch.equal(one.x, other.x)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cutuot": 0.5}, "no argument 'cutuot', did you mean 'cutout'"),
        ({"cutout": 1.5}, "cutout = 1.5: give a number from 0 to 1"),
        ({"cutout": "often"}, "cutout = 'often': give a number from 0 to 1"),
        ({"cutout": None}, "cutout = None: give a number from 0 to 1"),
        ({"cutout_size": -0.1}, "cutout_size = -0.1: give"),
        ({"cutout_holes": 0}, "cutout_holes = 0: give 1 or more, a whole number"),
        ({"cutout_holes": 2.5}, "cutout_holes = 2.5: give 1 or more, a whole number"),
        ({"max_hidden": 60}, "max_hidden = 60: give a number from 0 to 1"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        image_augment(ImageInput(8), options)
