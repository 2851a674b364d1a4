"""Inputs give the same x as the dataset, and can be rebuilt from plain values."""

import json

import numpy as np
import pytest
import torch
from gen1_folder import build, two_drives, write_clip
from rvt_folder import write_sequence

from data import create_dataset, input_from_plain
from data.events.frames import FrameFile
from data.events.input import EventInput
from data.images.image_file import read_image
from data.images.input import GRAY, ImageInput
from data.recordings import Events, MemoryReader, open_events
from data.recordings.hdf5 import ArrayFile

FORMS = ["counts", {"name": "stacked_histogram", "bins": 3}, "micro_bins", "last_event", "voxel_grid"]


def rebuilt(input):
    """Through JSON, which holds plain values only."""
    return input_from_plain(json.loads(json.dumps(input.to_plain())))


@pytest.mark.parametrize("rectangular", [False, True])
def test_an_image_is_fed_as_in_evaluation(yolo_folder, rectangular):
    root = yolo_folder({"val": {"a": "0 0.5 0.5 0.5 0.4\n", "b": ""}})
    dataset = create_dataset("yolo", "val", root=root, size=(64, 96), rectangular=rectangular)
    for index, name in enumerate("ab"):
        x, place = rebuilt(dataset.input)(read_image(root / "images" / "val" / f"{name}.png"))
        sample = dataset[index]
        assert torch.equal(x, sample.x) and place == sample.placement
    assert dataset.input.shape((30, 40)) == tuple(x.shape[1:])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("options", [{}, {"size": (96, 128)}, {"newest_first": True, "pad": 7, "size": (320, 320)}])
def test_a_window_is_fed_as_in_training(tmp_path, form, options):
    dataset = build(two_drives(tmp_path), representation=form, num_steps=3, window_ms=100, **options)
    input = rebuilt(dataset.input)
    assert input.window_us == 100_000 and input.sensor == (240, 304)
    for index, image in enumerate(dataset.ground_truth()["images"]):
        reader = open_events(tmp_path / image["file_name"])
        x, place = input(reader, image["t_us"] - input.window_us, image["t_us"])
        sample = dataset[index]
        assert torch.equal(x, sample.x) and place == sample.placement
        assert input.channels == dataset.channels and input.scale == dataset.scale
        assert torch.equal(input.view(x), dataset.view(sample.x))


def test_frames_made_beforehand_are_fed_as_in_training(tmp_path):
    ends = 50_000 * np.arange(1, 11) - 1
    folder = write_sequence(tmp_path / "train" / "clip", {2: [(1, 2, 9, 9, 0)], 8: [(4, 6, 10, 8, 1)]}, count=10)
    dataset = create_dataset("rvt", "train", root=tmp_path, num_steps=5)
    input, frames = rebuilt(dataset.input), ArrayFile(folder / "event_representations.h5", "data")
    assert input.window_us == 250_000
    x, place = input(FrameFile(frames, ends, (24, 32)), int(ends[3]), int(ends[8]))
    assert torch.equal(x, dataset[1].x) and place == dataset[1].placement
    with pytest.raises(ValueError, match="10 frames from -1 to 499999 us, not 5"):
        input(FrameFile(frames, ends, (24, 32)), -1, int(ends[-1]))


def test_a_sensor_of_another_size(tmp_path):
    """A smaller one is filled up, a larger one refused; one that is not named is taken to be the training's."""
    input = EventInput("counts", 2, 100_000, sensor=(240, 304), size=(128, 160))
    assert input.factor == 2
    write_clip(tmp_path, "small", [], width=160, height=120)
    x, place = input(open_events(tmp_path / "small_td.dat"), 0, 100_000)
    assert x.shape == (2, 2, 128, 160) and x.sum() == 100 and (place.scale_x, place.left) == (0.5, 0)
    write_clip(tmp_path, "large", [], width=640, height=480)
    with pytest.raises(ValueError, match=r"large_td\.dat: its sensor of 480 x 640 is larger than .* 240 x 304"):
        input(open_events(tmp_path / "large_td.dat"), 0, 100_000)
    np.savez(tmp_path / "a.npz", t=np.arange(1, 9), x=np.arange(8), y=np.arange(8), p=np.ones(8, int))
    x, _ = input(open_events(tmp_path / "a.npz"), 0, 100_000)
    assert x.sum() == 8


def test_events_in_memory_are_read_as_from_a_file(tmp_path):
    write_clip(tmp_path, "a", [])
    file = open_events(tmp_path / "a_td.dat")
    memory = MemoryReader(file.read(-1, 10**7), (240, 304))
    assert len(memory) == len(file) and memory.span() == file.span(exact=True)
    for t0, t1 in ((-1, 10**7), (1000, 2000), (1001, 500_000), (10**6, 10**7)):
        assert memory.read(t0, t1).t.tolist() == file.read(t0, t1).t.tolist()
    input = EventInput("counts", 2, 100_000, (240, 304))
    assert torch.equal(input(memory, 0, 100_000)[0], input(file, 0, 100_000)[0])
    assert MemoryReader(file.read(0, 0)).span() is None
    backwards = Events(np.array([5, 4]), *np.zeros((3, 2), np.uint16))
    with pytest.raises(ValueError, match="event 1: t = 4 us comes after 5 us"):
        MemoryReader(backwards)


def test_a_representation_is_written_with_the_defaults_it_had():
    spec = EventInput("stacked_histogram", 2, 1000, (8, 8)).to_plain()["representation"]
    assert spec == {"name": "stacked_histogram", "bins": 10, "clip": 10, "span": "window"}


def test_the_letterbox_is_gray_around_the_image():
    x, place = ImageInput(64)(np.zeros((10, 20, 3), np.uint8))
    assert x.shape == (3, 64, 64) and (x[:, :16] == GRAY).all() and not x[:, 16:48].any()
    assert (place.scale_x, place.left, place.top) == (3.2, 0, 16)


IMAGE = {"kind": "image", "size": [64, 96], "rectangular": False}
EVENTS = EventInput("counts", 3, 100_000, (240, 304)).to_plain()


@pytest.mark.parametrize(
    ("plain", "says"),
    [
        (None, "is missing, as in checkpoints of earlier versions"),
        (7, "7 is no mapping of names"),
        ([1], "is no mapping"),
        ({1: 2}, "is no mapping"),
        ({}, "kind = None"),
        ({"kind": ["image"]}, r"kind = \['image'\]"),
        ({**IMAGE, "kind": "imgae"}, "did you mean 'image'"),
        ({**IMAGE, "sise": 3}, "'image' has no argument 'sise', did you mean 'size'"),
        ({"kind": "image", "rectangular": False}, "'image' has no size"),
        ({**IMAGE, "size": [64]}, r"size = \[64\]"),
        ({**IMAGE, "size": "64"}, "size = '64'"),
        ({**IMAGE, "size": [-1, 5]}, "size = "),
        ({**IMAGE, "size": [2**30, 2**30]}, "numbers in one x are more than"),
        ({**IMAGE, "rectangular": 1}, "rectangular = 1"),
        ({**EVENTS, "num_steps": 0}, "num_steps = 0"),
        ({**EVENTS, "num_steps": True}, "num_steps = True"),
        ({**EVENTS, "num_steps": 10**6}, "does not fit a window"),
        ({**EVENTS, "window_us": "long"}, "window_us = 'long'"),
        ({**EVENTS, "representation": "os.system"}, "representation 'os.system'"),
        ({**EVENTS, "representation": {"name": "counts", "clip": 300}}, "clip = 300"),
        ({**EVENTS, "representation": {"name": ["counts"]}}, "representation"),
        ({**EVENTS, "representation": {"name": "counts", "num_steps": 3}}, "num_steps"),
        ({**EVENTS, "representation": None}, "representation"),
        ({**EVENTS, "sensor": None}, "sensor"),
        ({**EVENTS, "sensor": [0, 5]}, "sensor"),
        ({**EVENTS, "size": {"h": 5}}, "size"),
        ({**EVENTS, "newest_first": "maybe"}, "newest_first"),
        ({**EVENTS, "pad": 1000}, "pad = 1000"),
        ({**EVENTS, "pad": float("nan")}, "pad = nan"),
        ({**EVENTS, "window_us": 10**30, "num_steps": 10**12}, "numbers in one x"),
    ],
)
def test_plain_values_that_no_input_wrote_are_refused(plain, says):
    with pytest.raises(ValueError, match=says) as error:
        input_from_plain(plain, "run.pt: input")
    assert str(error.value).startswith("run.pt: input: ")
    assert len(str(error.value)) < 600
