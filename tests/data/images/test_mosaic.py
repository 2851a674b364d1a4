"""Mosaic and mixup: boxes follow the pixels, and samples depend on (index, epoch, seed) alone."""

import numpy as np
import pytest
import torch
from PIL import Image

from data import create_dataset, train_loader
from data.images.augment import ImageAugment
from data.images.input import GRAY, ImageInput
from data.images.mosaic import draw_layout, mosaic
from data.scenes import generate_scenes

RNG = np.random.default_rng
COLOURS = np.array([(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)], np.uint8)


def coloured(label, width, height, rng):
    """A dark image with one rectangle of the colour that belongs to `label`, and its box."""
    corners = (rng.uniform([0, 0, 0.5, 0.5], [0.4, 0.4, 1, 1]) * np.tile([width, height], 2)).astype(int)
    image = np.full((height, width, 3), 20, np.uint8)
    image[corners[1] : corners[3], corners[0] : corners[2]] = COLOURS[label]
    return image, corners[None].astype(np.float64), np.array([label])


def find(image, label):
    """The box around the pixels nearer to the label's colour than to any other and to the ground."""
    palette = np.concatenate([COLOURS, [(20, 20, 20), (GRAY,) * 3]]).astype(int)
    nearest = np.abs(image[:, :, None].astype(int) - palette).sum(-1).argmin(-1)
    y, x = np.nonzero(nearest == label)
    return np.array([x.min(), y.min(), x.max() + 1, y.max() + 1]) if len(x) else None


def four(seed):
    rng = RNG(seed)
    return [coloured(k, *rng.integers(160, 500, 2), rng) for k in range(4)]


@pytest.mark.parametrize(("scale", "translate"), [(0, 0), (0.5, 0.1)])
def test_boxes_lie_where_the_pixels_are(scale, translate):
    seen = set()
    for seed in range(60):
        image, boxes, labels = mosaic(four(seed), (120, 160), draw_layout(scale, translate, RNG(seed)), 0.0, GRAY)
        assert image.shape == (120, 160, 3) and image.dtype == np.uint8
        assert boxes.dtype == np.float32 and labels.dtype == np.int64
        for box, label in zip(boxes, labels, strict=True):
            found = find(image, label)
            # Two colours blend in the pixel at an edge; of a sliver of less than one there may be nothing to find.
            assert (box[2:] - box[:2]).min() < 1.5 if found is None else np.abs(found - box).max() <= 1
        for label in set(range(4)) - set(labels.tolist()):
            assert find(image, label) is None
        seen |= set(labels.tolist())
    assert seen == {0, 1, 2, 3}


def test_images_meet_at_the_point_and_keep_their_shape():
    """Uniform images of the sample's own size: the sample is four rectangles around one point, nothing bare."""
    flat = [(np.full((60, 80, 3), 40 * k + 10, np.uint8), np.array([[0, 0, 80, 60]]), np.array([k])) for k in range(4)]
    points = []
    for seed in range(200):
        image, boxes, labels = mosaic(flat, (60, 80), draw_layout(0, 0, RNG(seed)), 0.0, GRAY)
        x = (image[0, :, 0] == 10).sum() if 0 in labels else 0
        y = (image[:, 0, 0] == 10).sum() if 0 in labels else 0
        if 0 < x < 80 and 0 < y < 60:
            np.testing.assert_array_equal(image[:y, :x, 0], 10)
            np.testing.assert_array_equal(image[:y, x:, 0], 50)
            np.testing.assert_array_equal(image[y:, :x, 0], 90)
            np.testing.assert_array_equal(image[y:, x:, 0], 130)
            assert boxes.tolist() == [[0, 0, x, y], [x, 0, 80, y], [0, y, x, 60], [x, y, 80, 60]]
            points.append((x, y))
    assert len(points) > 180
    assert np.allclose(np.mean(points, 0), [40, 30], atol=4) and np.ptp(points, 0).min() > 50


def test_scale_covers_its_range():
    dot = (np.zeros((100, 100, 3), np.uint8), np.array([[40, 40, 60, 60]]), np.zeros(1, int))
    sides = [
        (boxes[:, 2:] - boxes[:, :2]).max() / 20
        for seed in range(300)
        if len(boxes := mosaic([dot] * 4, (100, 100), draw_layout(0.5, 0.0, RNG(seed)), 1.0, GRAY)[1])
    ]
    assert 0.5 - 0.01 <= min(sides) < 0.53 and 1.4 < max(sides) <= 1.5 + 0.01


def test_cut_boxes_are_clipped_and_dropped_below_min_visibility():
    counts = []
    for threshold in (0.0, 0.5, 1.0):
        kept = 0
        for seed in range(40):
            _, boxes, labels = mosaic(four(seed), (96, 96), draw_layout(0.5, 0.1, RNG(seed)), threshold, GRAY)
            assert len(boxes) == len(labels) and (boxes[:, 2:] > boxes[:, :2]).all()
            assert boxes.min(initial=0) >= 0 and boxes.max(initial=0) <= 96
            kept += len(boxes)
        counts.append(kept)
    assert 160 > counts[0] > counts[1] > counts[2] > 0


def test_images_without_boxes():
    bare = np.full((30, 40, 3), 9, np.uint8), np.zeros((0, 4)), np.zeros(0, int)
    for images in ([bare] * 4, [bare, bare, bare, coloured(1, 50, 50, RNG(0))]):
        for seed in range(10):
            _, boxes, labels = mosaic(images, (64, 64), draw_layout(0.5, 0.1, RNG(seed)), 0.1, GRAY)
            assert boxes.shape == (len(labels), 4) and labels.shape[0] <= 1
            assert boxes.dtype == np.float32 and labels.dtype == np.int64


def test_an_image_of_one_pixel_and_a_stripe():
    thin = [(np.zeros((h, w, 3), np.uint8), np.array([[0, 0, w, h]]), np.zeros(1, int)) for h, w in ((1, 1), (1, 900))]
    for seed in range(10):
        mosaic([*thin, *thin], (64, 64), draw_layout(0.9, 0.5, RNG(seed)), 0.1, GRAY)


def sampled(options, seed, images=None, epochs_left=None):
    images = images or four(1)
    augment = ImageAugment(ImageInput((96, 128)), **options)
    change = augment.draw(0, len(images), RNG(seed), epochs_left)
    return augment(change, [images[k] for k in change.indices])


def test_mirrors_of_a_mosaic_move_pixels_and_boxes_alike():
    options = {"mosaic": 1.0, "scale": 0.3, "translate": 0.1, "min_visibility": 0.0}
    turned = []
    for seed in range(20):
        image, boxes, labels, _ = sampled({**options, "hflip": 0.5, "vflip": 0.5}, seed)
        plain = sampled(options, seed)[0]
        turned.append(not (image == plain).all())
        for label in set(labels.tolist()):
            if (labels == label).sum() == 1:  # drawn once only
                found, box = find(image, label), boxes[labels == label][0]
                assert (box[2:] - box[:2]).min() < 1.5 if found is None else np.abs(found - box).max() <= 1
    assert 10 <= sum(turned) < 20


def test_a_mosaic_holds_the_asked_image_and_any_three():
    images = [(np.zeros((96, 128, 3), np.uint8), np.array([[0, 0, 128, 96]]), np.array([k])) for k in range(50)]
    drawn = [sampled({"mosaic": 1.0, "min_visibility": 0.0}, seed, images)[2].tolist() for seed in range(100)]
    # A point in the outermost half pixel leaves two of them.
    assert all(labels[0] == 0 or len(labels) < 4 for labels in drawn) and sum(len(labels) == 4 for labels in drawn) > 90
    assert len(set().union(*drawn)) == 50


def test_probabilities():
    alone = sampled({}, 0)[0]
    for name in ("mosaic", "mixup"):
        changed = [not np.array_equal(sampled({name: 0.3}, seed)[0], alone) for seed in range(300)]
        assert abs(np.mean(changed) - 0.3) < 0.08
        assert np.array_equal(sampled({name: 0.0}, 0)[0], alone)


def test_mixup_blends_pixels_and_keeps_all_boxes():
    bright = (np.full((96, 128, 3), 200, np.uint8), np.array([[10.0, 20, 40, 50], [0, 0, 5, 5]]), np.array([0, 1]))
    dark = (np.full((96, 128, 3), 100, np.uint8), np.array([[60.0, 30, 90, 70]]), np.array([2]))
    shares = []
    for seed in range(100):
        image, boxes, labels, _ = sampled({"mixup": 1.0}, seed, [bright, dark])
        assert (image == image[0, 0, 0]).all()
        if len(boxes) == 3:  # the other, not itself
            assert boxes.tolist() == [[10, 20, 40, 50], [0, 0, 5, 5], [60, 30, 90, 70]] and labels.tolist() == [0, 1, 2]
            shares.append((image[0, 0, 0] - 100) / 100)
        else:
            assert image[0, 0, 0] == 200 and labels.tolist() == [0, 1, 0, 1]
    assert 25 < len(shares) < 75 and abs(np.mean(shares) - 0.5) < 0.03
    assert 0.02 < np.std(shares) < 0.1  # Beta(32, 32): 0.062


def test_the_last_epochs_are_plain():
    options = {"mosaic": 1.0, "mixup": 1.0, "hflip": 0.5, "plain_epochs": 2}
    for left, plain in ((None, False), (5, False), (3, False), (2, True), (1, True)):
        image, boxes, *_ = sampled(options, 4, epochs_left=left)
        alone, alone_boxes, *_ = sampled({"hflip": 0.5}, 4)
        assert np.array_equal(image, alone) == plain
        assert not plain or np.array_equal(boxes, alone_boxes)


@pytest.mark.parametrize("options", [{"mosaic": 1.5}, {"mixup": -0.1}, {"plain_epochs": -1}])
def test_bad_options_are_named(options):
    ((name, value),) = options.items()
    with pytest.raises(ValueError, match=f"{name} = {value}: give"):
        ImageAugment(ImageInput((8, 8)), **options)


MIXED = {"mosaic": 0.8, "mixup": 0.5, "hflip": 0.5, "scale": 0.5, "translate": 0.1, "hsv": [0.015, 0.7, 0.4]}


@pytest.fixture(params=["coco", "voc", "scene_images"])
def dataset(request, tmp_path):
    """Each kind of image data set, with negative samples among them."""
    options = {"size": 64, "augment": {**MIXED, "plain_epochs": 1}}
    if request.param == "coco":
        images = {f"{k}.png": [(1, [12, 10, 12, 10])] * (k % 2) for k in range(6)}
        return create_dataset("coco", "train", root=request.getfixturevalue("coco_folder")(images=images), **options)
    if request.param == "voc":
        images = {f"p{k}": [("cat", [3, 4, 20, 25], 0)] * (k % 2) for k in range(6)}
        return create_dataset("voc", "train", root=request.getfixturevalue("voc_folder")({"train": images}), **options)
    made = {"train": 2, "val": 1, "test": 1, "seconds": 1.0, "width": 160, "height": 128, "workers": 1}
    root = generate_scenes(tmp_path / "scenes", **made)
    return create_dataset("scene_images", "train", root=root, scenes=made, **options)


def epochs_of(dataset, workers, numbers=(0, 1, 2)):
    loader = train_loader(dataset, 2, seed=3, workers=workers, epochs=3)
    for number in numbers:
        loader.sampler.set_epoch(number)
        yield [(b.x, b.image_ids, [t["boxes"] for t in b.targets]) for b in loader]


def test_same_samples_whatever_the_workers(dataset):
    alone, shared = list(epochs_of(dataset, 0)), list(epochs_of(dataset, 2))
    for one, other in zip(sum(alone, []), sum(shared, []), strict=True):
        assert torch.equal(one[0], other[0]) and one[1] == other[1] and all(map(torch.equal, one[2], other[2]))
    again = list(epochs_of(dataset, 0, (2,)))  # a restart at the last epoch
    assert torch.equal(alone[2][0][0], again[0][0][0])
    assert not torch.equal(alone[0][0][0], alone[1][0][0])
    boxes = torch.cat([box for epoch in alone for *_, per_image in epoch for box in per_image])
    assert len(boxes) and (boxes[:, 2:] > boxes[:, :2]).all() and boxes.min() >= 0 and boxes.max() <= 64


def test_the_loader_knows_the_last_epochs(coco_folder):
    root = coco_folder(images={f"{k}.png": [(1, [12, 10, 12, 10])] for k in range(4)})
    plain = create_dataset("coco", "train", root=root, size=32)
    mixed = create_dataset("coco", "train", root=root, size=32, augment={"mosaic": 1.0, "plain_epochs": 1})
    alone, several = (list(epochs_of(data, 0)) for data in (plain, mixed))
    assert [torch.equal(a[0][0], s[0][0]) for a, s in zip(alone, several, strict=True)] == [False, False, True]


def test_the_other_images_are_read_as_single_ones_are(coco_folder):
    """An EXIF orientation is ignored, and an image that is not the labelled one is refused."""
    root = coco_folder(images={f"{k}.jpg": [(1, [10, 0, 20, 10])] for k in range(2)})
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    pixels = np.zeros((30, 40, 3), np.uint8)
    pixels[:10, 10:30] = 255
    for k in range(2):
        Image.fromarray(pixels).save(root / "train" / f"{k}.jpg", exif=exif, quality=95)
    dataset = create_dataset("coco", "train", root=root, size=[60, 80], augment={"mosaic": 1.0, "min_visibility": 0.9})
    for epoch in range(20):
        sample = dataset[0, epoch, 0, None]
        for box in sample.boxes.round().int().tolist():
            assert sample.x[:, box[1] + 2 : box[3] - 2, box[0] + 2 : box[2] - 2].float().mean() > 240
    Image.fromarray(np.zeros((8, 9, 3), np.uint8)).save(root / "train" / "1.jpg")
    with pytest.raises(ValueError, match="1.jpg: the image is 9x8, its label says 40x30"):
        for epoch in range(20):
            dataset[0, epoch, 0, None]
