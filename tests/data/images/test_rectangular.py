"""Rectangular evaluation: each image is padded to multiples of 32, whatever batch it is in."""

import numpy as np
import pytest
import torch
from augmented import applied
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.io import write_png

from data import create_dataset, eval_loader, train_loader
from data.check import check_dataset
from data.images.augment import ImageAugment
from data.images.input import GRAY, ImageInput
from engine.config import dataset_kwargs, load_config
from engine.drawn_samples import draw_samples
from scoring.evaluator import Evaluator

SIZES = [(40, 30), (30, 40), (200, 50), (40, 30), (100, 100), (30, 40), (60, 45)]  # width, height


@pytest.fixture
def root(coco_folder):
    """Images of many shapes, dark with one white object each."""
    boxes = [[round(0.2 * w), round(0.3 * h), round(0.5 * w), round(0.4 * h)] for w, h in SIZES]

    def resize(content):
        for image, (width, height) in zip(content["images"], SIZES, strict=True):
            image |= {"width": width, "height": height}

    root = coco_folder(images={f"{k}.png": [(1, box)] for k, box in enumerate(boxes)}, change=resize, split="val")
    for k, ((width, height), (x, y, w, h)) in enumerate(zip(SIZES, boxes, strict=True)):
        pixels = torch.full((3, height, width), 10 + k, dtype=torch.uint8)
        pixels[:, y : y + h, x : x + w] = 255
        write_png(pixels, str(root / "val" / f"{k}.png"))
    return root


@pytest.fixture
def dataset(root):
    return create_dataset("coco", "val", root=root, size=128, rectangular=True)


@settings(deadline=None, max_examples=60)
@given(width=st.integers(1, 900), height=st.integers(1, 900), to=st.sampled_from([(64, 64), (96, 160), (65, 33)]))
def test_a_sample_is_its_fitted_image_and_less_than_32_pixels_of_gray(width, height, to):
    box = np.array([[0.2 * width, 0.3 * height, 0.9 * width, height]], np.float32)
    image = np.full((height, width, 3), 9, np.uint8)
    out, boxes, _, place = applied(
        ImageAugment(ImageInput(to, rectangular=True)), image, box, np.zeros(1, np.int64), np.random.default_rng(0)
    )
    square = ImageInput(to).placement((height, width))
    assert (place.scale_x, place.scale_y) == (square.scale_x, square.scale_y)  # as large as in the whole canvas
    fitted = round(place.scale_y * height), round(place.scale_x * width)
    assert out.shape[:2] == ImageInput(to, rectangular=True).shape((height, width))
    assert all(side % 32 == 0 and 0 <= side - inner < 32 for side, inner in zip(out.shape, fitted, strict=False))
    inner = (out == 9).all(-1)
    assert inner.sum() == fitted[0] * fitted[1] and (out[~inner] == GRAY).all()
    left, top = int(place.left), int(place.top)
    assert inner[top : top + fitted[0], left : left + fitted[1]].all()
    if len(boxes):  # the slimmest vanish in rounding
        undone = place.to_original(torch.from_numpy(boxes)).numpy()
        assert np.abs(undone - box).max() < 1e-3 * max(1, 1 / min(place.scale_x, place.scale_y))


def test_shapes_are_told_before_loading_and_boxes_lie_on_the_object(dataset, root):
    whole = create_dataset("coco", "val", root=root, size=128)
    assert [dataset.shape_of(i) for i in range(3)] == [(96, 128), (128, 96), (32, 128)] and whole.shape_of(0) is None
    for i in range(len(dataset)):
        sample = dataset[i]
        assert tuple(sample.x.shape[1:]) == dataset.shape_of(i)
        y, x = (sample.x[0] > 127).nonzero().T
        white = torch.stack([x.min(), y.min(), x.max() + 1, y.max() + 1])
        assert (white - sample.boxes[0]).abs().max() <= 1
    np.testing.assert_array_equal(dataset.box_sizes(), whole.box_sizes())
    pixels = [sum(d[i].x.numel() for i in range(len(SIZES))) for d in (dataset, whole)]
    assert pixels[0] < 0.8 * pixels[1]


def test_batches_hold_one_shape_and_every_sample_comes_once(dataset):
    for batch_size in (1, 2, 3, 16):
        batches = list(eval_loader(dataset, batch_size))
        assert sorted(i for b in batches for i in b.image_ids) == list(range(1, len(SIZES) + 1))
        assert all(len(b.image_ids) <= batch_size for b in batches)
    # images 1, 4 and 7 have one shape, 2 and 6 another
    assert [b.image_ids for b in eval_loader(dataset, 2)] == [[1, 4], [7], [2, 6], [3], [5]]
    assert len(eval_loader(dataset, 2)) == 5
    parallel = [b.image_ids for b in eval_loader(dataset, 2, workers=2)]
    assert parallel == [b.image_ids for b in eval_loader(dataset, 2)]


def found(x):
    """A detector whose answer depends on all of a sample: the white object, scored by the sample's mean."""
    outputs = []
    for image in x:
        white_y, white_x = (image[0] > 0.5).nonzero().T
        box = torch.stack([white_x.min(), white_y.min(), white_x.max() + 1, white_y.max() + 1]).float()
        score = image.mean()
        outputs.append({"boxes": box[None], "scores": score[None], "labels": torch.zeros(1, dtype=torch.int64)})
    return outputs


def evaluated(dataset, batch_size, world_size=1):
    ranks = []
    for rank in range(world_size):
        ranks.append(Evaluator(dataset.ground_truth(), dataset.expected_images))
        for batch in eval_loader(dataset, batch_size, rank=rank, world_size=world_size):
            ranks[-1].add(found(batch.to("cpu")[0]), batch)
    together = Evaluator(dataset.ground_truth(), dataset.expected_images)
    together.merge(evaluator.state() for evaluator in ranks)
    return together.detections(), together.score("coco")


def test_scores_depend_neither_on_the_batch_size_nor_on_the_ranks(dataset):
    detections, score = evaluated(dataset, 1)
    assert [d["image_id"] for d in detections] == list(range(1, len(SIZES) + 1)) and score["AP50"] > 0.99
    for batch_size, world_size in ((2, 1), (3, 1), (16, 1), (2, 2), (1, 3), (2, 9)):
        others, other_score = evaluated(dataset, batch_size, world_size)
        assert others == detections and other_score == score


def test_samples_are_drawn_in_their_own_shapes(dataset):
    evaluator = Evaluator(dataset.ground_truth())
    for batch in eval_loader(dataset, 2):
        evaluator.add(found(batch.to("cpu")[0]), batch)
    images = draw_samples(evaluator, dataset, count=7)
    assert len(images) == 7 and len({image.shape for image in images.values()}) == 4


def test_the_check_counts_the_same(root):
    plain, rectangular = (check_dataset("coco", ["val"], root=root, size=128, rectangular=r) for r in (False, True))
    assert str(plain) == str(rectangular) and plain.splits["val"].images == len(SIZES)


def test_training_has_one_shape(root, dataset):
    with pytest.raises(ValueError, match="rectangular = true: augmented samples have one shape"):
        create_dataset("coco", "val", root=root, rectangular=True, augment={"hflip": 0.5})
    with pytest.raises(ValueError, match="training samples must have one shape: .* eval.rectangular"):
        train_loader(dataset, 2, seed=0)
    with pytest.raises(ValueError, match="no argument 'rectangular'"):  # it is no augmentation
        create_dataset("coco", "val", root=root, augment={"rectangular": True})


def test_the_config_has_it_for_evaluation_alone(root):
    cfg = load_config("configs/voc/bccd_ems_resnet10_ee.yaml", ["data.root=x", "eval.rectangular=true"])
    assert dataset_kwargs(cfg)[1]["rectangular"] is True
    assert "rectangular" not in dataset_kwargs(cfg, augment=True)[1]
    with pytest.raises(ValueError, match="unknown key 'eval.rectangle', did you mean 'eval.rectangular'"):
        load_config("configs/demo.yaml", ["eval.rectangle=true"])
    with pytest.raises(ValueError, match="eval.rectangular"):
        load_config("configs/demo.yaml", ["eval.rectangular=maybe"])


@pytest.mark.parametrize(
    ("override", "argument"),
    [("eval.rectangular=true", "rectangular"), ("data.cache=ram", "cache"), ("data.cache_dir=x", "cache_dir")],
)
def test_events_have_no_options_of_images(override, argument, tmp_path):
    name, kwargs = dataset_kwargs(load_config("configs/demo.yaml", [f"data.root={tmp_path}", override]))
    with pytest.raises(ValueError, match=f"dataset 'scenes' has no argument '{argument}'"):
        create_dataset(name, "val", **kwargs)
    plain = ["eval.rectangular=false", "data.cache=none", "data.cache_dir=null"]
    kwargs = dataset_kwargs(load_config("configs/demo.yaml", plain))[1]
    assert not {"cache", "cache_dir", "rectangular"} & set(kwargs)


def test_a_mistyped_cache_in_the_config_is_named():
    with pytest.raises(ValueError, match=r"data.cache = 'rma', did you mean 'ram'\? give none, ram, disk"):
        load_config("configs/demo.yaml", ["data.cache=rma"])
