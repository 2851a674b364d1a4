"""Every augmentation of images, alone and combined: boxes enclose the pixels of their objects.

Each box is filled with a unique colour on a dark image. After the augmentation, the pixels of that colour are compared
with the augmented box.
"""

import numpy as np
import pytest
from augmented import applied, sampled

from data.images.augment import ImageAugment
from data.images.input import ImageInput

RNG = np.random.default_rng
DARK = 10
# Corners of the colour cube, whose mixtures with dark or gray are nearer to dark or gray up to one half.
COLOURS = np.array([(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255), (0, 255, 255)], np.uint8)
SIZE = (96, 136)

OPTIONS = {
    "letterbox": {},
    "hflip": {"hflip": 1.0},
    "vflip": {"vflip": 1.0},
    "scale": {"scale": 0.5},
    "translate": {"translate": 0.3},
    "affine": {"scale": 0.5, "translate": 0.2},
    "mosaic": {"mosaic": 1.0},
    "mosaic moved": {"mosaic": 1.0, "scale": 0.5, "translate": 0.2},
    "cutout": {"cutout": 1.0},
    "all": {"hflip": 0.5, "vflip": 0.5, "scale": 0.4, "translate": 0.2, "mosaic": 0.5, "cutout": 0.5},
}


def painted(seed, label):
    """An image of any shape with one rectangle in the colour `label`, its box and label."""
    rng = RNG([seed, label])
    height, width = rng.integers(64, 240, 2)
    sides = np.array([width, height])
    low = (rng.uniform(0, 0.6, 2) * sides).astype(int)
    high = low + (rng.uniform(0.25, 0.4, 2) * sides).astype(int)
    image = np.full((height, width, 3), DARK, np.uint8)
    image[low[1] : high[1], low[0] : high[0]] = COLOURS[label]
    return image, np.array([[*low, *high]], np.float64), np.array([label])


def bounds(image, label):
    """The box around all pixels that hold at least half of the colour `label`, None where there is none."""
    bright, colour = image.astype(int) > 127, COLOURS[label] > 127
    y, x = np.nonzero((bright == colour).all(-1))
    return np.array([x.min(), y.min(), x.max() + 1, y.max() + 1]) if len(x) else None


@pytest.mark.parametrize("name", OPTIONS)
def test_boxes_are_where_the_pixels_are(name):
    augment = ImageAugment(ImageInput(SIZE), **OPTIONS[name], min_visibility=0.0, max_hidden=1.0)
    compared = 0
    for seed in range(100):
        rng = RNG([seed, 7])
        # Six images in six colours; a mosaic that draws one twice has two boxes of that colour: left out.
        image, boxes, labels, _ = sampled(augment, lambda k, seed=seed: painted(seed, k), seed % 6, 6, rng)
        assert image.shape == (*SIZE, 3) and boxes.min(initial=0) >= 0
        assert (boxes <= np.tile(SIZE[::-1], 2)).all()
        for box, label in zip(boxes, labels, strict=True):
            if (labels == label).sum() > 1:
                continue
            found = bounds(image, label)
            thin = (box[2:] - box[:2]).min() < 2
            if "cutout" in OPTIONS[name]:  # holes may hide an edge, so pixels lie within the box only
                assert found is None or ((found[:2] >= box[:2] - 1.5) & (found[2:] <= box[2:] + 1.5)).all()
                compared += found is not None and np.abs(found - box).max() <= 1.5
            else:
                assert thin if found is None else np.abs(found - box).max() <= 1.5, (seed, label, found, box)
                compared += found is not None
        for label in set(range(6)) - set(labels.tolist()):
            assert bounds(image, label) is None, (seed, label)  # no object without its box
    assert compared > 60


@pytest.mark.parametrize("options", [{}, {"hflip": 0.5, "vflip": 0.5, "scale": 0.4, "translate": 0.2}, {"mosaic": 1.0}])
def test_mixup_shows_both_objects_where_their_boxes_are(options):
    """Blended to about a half each: an object's pixels differ from the ground in its own channel alone."""
    augment = ImageAugment(ImageInput(SIZE), **options, mixup=1.0, min_visibility=0.0)
    compared = 0
    for seed in range(60):
        image, boxes, labels, _ = sampled(augment, lambda k, seed=seed: painted(seed, k), seed % 3, 3, RNG([seed, 9]))
        for channel in range(3):  # red, green and blue: one channel per object
            mine = boxes[labels == channel]
            if len(mine) == 1:
                # 255 shows as 255 s + (10 or 114)(1 - s) over all else of 114 at most, s being 0.35 to 0.65
                others = np.delete(image, channel, axis=2).max(-1)
                y, x = np.nonzero(image[..., channel] > others.clip(60, 125) + 25)
                if len(x):
                    found = np.array([x.min(), y.min(), x.max() + 1, y.max() + 1])
                    inside = (found[:2] >= mine[0, :2] - 1.5) & (found[2:] <= mine[0, 2:] + 1.5)
                    assert inside.all(), (seed, channel, found, mine)
                    compared += np.abs(found - mine[0]).max() <= 2
            elif not len(mine):
                assert (image[..., channel] <= 125).all()
    assert compared > 20


def test_hsv_changes_no_box_and_each_channel_by_one_factor():
    """Against the conversion written out for single colours: hue turned, saturation and value multiplied."""
    import colorsys

    for seed in range(50):
        colour = RNG(seed).integers(0, 256, 3).astype(np.uint8)
        image = np.broadcast_to(colour, (8, 8, 3)).copy()
        box = np.array([[1.0, 2, 5, 7]])
        gains = 1 + RNG([seed, 1]).uniform(-1, 1, 3) * (0.1, 0.6, 0.4)
        out, boxes, _, _ = applied(
            ImageAugment(ImageInput((8, 8)), hsv=(0.1, 0.6, 0.4)), image, box, np.zeros(1), RNG([seed, 1])
        )
        h, s, v = colorsys.rgb_to_hsv(*(colour / 255))
        expected = colorsys.hsv_to_rgb((h * gains[0]) % 1, min(s * gains[1], 1), min(v * gains[2], 1))
        # of 180 steps of hue, 30 swing a channel from 0 to 255: one and a half of them are rounding
        assert np.abs(out[0, 0] - 255 * np.array(expected)).max() < 13 and (boxes == box).all()
