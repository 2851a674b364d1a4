"""Frames of Gen1 resized to the input of a detector: boxes stay on their objects, the rest is padding."""

import numpy as np
import pytest
import torch
from gen1_folder import DOT, build, two_drives, write_clip

from data import Problems, create_dataset
from data.recordings import write_boxes, write_dat
from data.recordings.boxes import BOX_DTYPE
from engine.config import dataset_kwargs, load_config


@pytest.fixture
def root(tmp_path):
    return two_drives(tmp_path)


@pytest.fixture
def turning(tmp_path):
    """A clip whose pixel (103, 62) fires OFF until 125 ms and ON afterwards, with a box at 250 ms."""
    (tmp_path / "train").mkdir()
    t = np.arange(1000, 250_001, 1000)
    same = np.ones(len(t), int)
    write_dat(tmp_path / "train" / "a_td.dat", t, 103 * same, 62 * same, (t > 125_000).astype(int), 304, 240)
    write_boxes(tmp_path / "train" / "a_bbox.npy", np.array([(250_000, *DOT, 0, 0, 1)], BOX_DTYPE))
    return tmp_path


def test_last_event_frames(turning):
    data = build(turning, representation="last_event", num_steps=2, size=(240, 304))
    sample = data[0]
    assert (data.channels, data.scale) == (3, 1 / 255) and sample.x.shape == (2, 3, 240, 304)
    assert sample.x[:, :, 62, 103].tolist() == [[0] * 3, [255] * 3]
    assert (sample.x == 127).sum() == sample.x.numel() - 6
    assert sample.boxes.tolist() == [[100, 60, 108, 66]]


def test_newest_first(turning):
    for form in ("counts", "last_event"):
        plain, turned = (
            build(turning, representation=form, num_steps=4, newest_first=flag)[0] for flag in (False, True)
        )
        assert torch.equal(turned.x, plain.x.flip(0)) and not torch.equal(turned.x, plain.x)
        assert torch.equal(turned.boxes, plain.boxes)
        drawn = build(turning, representation=form, num_steps=4, newest_first=True).view(turned.x)
        assert torch.equal(drawn, plain.x)  # so the newest is on top


def test_the_published_spikeyolo_frames(turning):
    """304 x 240 -> 320 x 253 in 320 x 320 on gray 114, the oldest step last."""
    cfg = load_config("configs/gen1/spikeyolo_s_published.yaml", [f"data.root={turning}"])
    data = create_dataset(cfg.data.name, "train", **dataset_kwargs(cfg, augment=True)[1])
    sample = data[0]
    assert sample.x.shape == (2, 3, 320, 320)
    assert (sample.x[:, :, :33] == 114).all() and (sample.x[:, :, 286:] == 114).all()
    inner = sample.x[:, :, 33:286]
    assert inner[0].max() > 150 and inner[1].min() < 100 and (inner == 127).float().mean() > 0.999
    scale_x, scale_y = 320 / 304, 253 / 240
    expected = [100 * scale_x, 60 * scale_y + 33, 108 * scale_x, 66 * scale_y + 33]
    np.testing.assert_allclose(sample.boxes, [expected], rtol=1e-6)
    np.testing.assert_allclose(sample.placement.to_original(sample.boxes), [[100, 60, 108, 66]], rtol=1e-5)
    np.testing.assert_allclose(data.box_sizes(), [[8 * scale_x, 6 * scale_y]], rtol=1e-6)
    y, x = np.unravel_index(int(sample.x[0, 0].argmax()), (320, 320))
    assert abs(x + 0.5 - 103.5 * scale_x) < 1 and abs(y + 0.5 - 33 - 62.5 * scale_y) < 1
    assert torch.equal(sample.x[:, 0], sample.x[:, 2])


def test_last_event_frames_are_mirrored_with_their_boxes(turning):
    sample = build(turning, representation="last_event", size=(240, 304), augment={"hflip": 1.0, "translate": 0.0})[0]
    assert sample.boxes.tolist() == [[196, 60, 204, 66]] and (sample.x[:, 0, 62, 200] != 127).all()


def test_pad_fills_what_is_beyond_the_sensor(turning):
    counts = build(turning, pad=9, num_steps=2)[0].x
    assert (counts[..., 240:, :] == 9).all() and (counts[..., 304:] == 9).all() and counts[..., :240, :304].max() == 125
    assert (build(turning, representation="last_event", size=(320, 320))[0].x[:, :, :33] == 127).all()


def test_pad_may_be_what_the_type_of_the_frames_holds(turning):
    for form, pad in (("voxel_grid", -0.5), ("mixed_density", -3)):
        x = build(turning, representation=form, pad=pad)[0].x
        assert (x[..., 240:, :] == pad).all() and (x[..., :240, 304:] == pad).all() and (x[..., 0, 0] == 0).all()


@pytest.mark.parametrize(
    ("size", "factor"),
    [((256, 320), 1), ((240, 304), 1), ((128, 160), 2), ((120, 152), 2), ((96, 128), 3), ((300, 160), 2)],
)
def test_size_divides_coordinates_evenly_and_fills_up(root, size, factor):
    data = build(root, size=size)
    sample = data[3]
    assert sample.x.shape[-2:] == size
    assert sample.x[:, 1, 62 // factor, 103 // factor].sum() == sample.x.sum() == 250
    np.testing.assert_allclose(sample.boxes, np.array([[100, 60, 108, 66]]) / factor, rtol=1e-6)
    np.testing.assert_allclose(sample.placement.to_original(sample.boxes), [[100, 60, 108, 66]], rtol=1e-6)
    np.testing.assert_allclose(data.box_sizes(), np.full((5, 2), [8, 6]) / factor, rtol=1e-6)
    assert data.box_sizes().dtype == np.float32


def test_counts_of_merged_cells_add_up(tmp_path):
    rng = np.random.default_rng(0)
    n = 20_000
    x, y = rng.integers(0, 304, n), rng.integers(0, 240, n)
    (tmp_path / "train").mkdir()
    write_dat(
        tmp_path / "train" / "a_td.dat", np.sort(rng.integers(1, 250_000, n)), x, y, rng.integers(0, 2, n), 304, 240
    )
    write_boxes(tmp_path / "train" / "a_bbox.npy", np.array([(250_000, *DOT, 0, 0, 1)], BOX_DTYPE))
    full, half = (build(tmp_path, size=s)[0].x.int() for s in ((240, 304), (120, 152)))
    assert torch.equal(full.view(5, 2, 120, 2, 152, 2).sum((3, 5)), half) and half.sum() == n


def test_clips_of_different_sensors_need_a_size(root):
    write_clip(root / "train", "large", [500_000], width=608, height=480)
    with pytest.raises(ValueError, match="different sensors.*304x240.*608x480.*Set `size`"):
        build(root)
    problems = Problems()
    data = build(root, size=(240, 320), problems=problems)
    assert "2 of 304x240, 1 of 608x480. All coordinates are divided by 2" in problems.summary()
    assert [s.placement.scale_x for s in (data[0], data[4])] == [0.5, 0.5]
    assert data[4].original_size == (480, 608) and data[0].original_size == (240, 304)


def test_augmentation_moves_frames_and_boxes_within_the_sensor(root):
    data = build(root, augment={"hflip": 1.0})
    sample = data[3]
    assert sample.boxes.tolist() == [[304 - 108, 60, 304 - 100, 66]]
    assert sample.x[:, 1, 62, 303 - 103].sum() == sample.x.sum() == 250
