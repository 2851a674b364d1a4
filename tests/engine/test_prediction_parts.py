"""Parts of a prediction: recordings of an hour, cameras, interrupts, tracks, videos, files of results."""

import json
import logging
import tracemalloc

import numpy as np
import pytest
import torch

from analysis.event_panel import TimeBar
from data.events.input import EventInput, FrameInput
from data.images.input import ImageInput
from data.images.video import VideoReader, VideoWriter
from data.recordings import write_dat
from engine.config import config_to_plain, load_config
from engine.prediction import image_parts
from engine.prediction.options import Options
from engine.prediction.output import free_folder
from engine.prediction.predict import predict
from engine.prediction.recording import Recording
from engine.prediction.tracks import Tracks
from engine.prediction.windows import Windows
from engine.runs.checkpoint import save_checkpoint
from models import Detector, create_model
from models.detector import NonFiniteLogitsError
from registry import UserError

COUNTS = {"name": "counts", "clip": 8}


def checkpoint_for(folder, input, channels=3):
    """Checkpoint of a small untrained detector that reads `input`."""
    kwargs = {"num_classes": 2, "T": 2, "in_channels": channels, "width": 0.125}
    torch.manual_seed(0)
    weights = create_model("ems_resnet10_ee", **kwargs).state_dict()
    (folder / "of.yaml").write_text("data: {root: nowhere}\nthreads: 1\ndevice: cpu\n")
    content = {"config": config_to_plain(load_config(folder / "of.yaml")), "class_names": ["a", "b"], "epoch": 1}
    content |= {"model_kwargs": {"name": "ems_resnet10_ee", **kwargs}, "ema": weights, "model": weights}
    save_checkpoint(folder / "c.pt", {**content, "input": input.to_plain()})
    return folder / "c.pt"


def recording(path, seconds, events, height=64, width=96, first_us=0):
    rng = np.random.default_rng(0)
    t = first_us + np.sort(rng.integers(0, round(1e6 * seconds), events))
    write_dat(path, t, *(rng.integers(0, n, events) for n in (width, height, 2)), width, height)
    return path


def video(path, frames, rate=10.0, size=(48, 64)):
    with VideoWriter(path, rate) as writer:
        for k in range(frames):
            writer.write(np.full((*size, 3), 20 * k, np.uint8))
    return path


def test_the_memory_of_an_hour_is_that_of_a_minute(tmp_path):
    """Windows are read one after the other, and none is kept."""
    path = recording(tmp_path / "hour_td.dat", 3600, 40_000)
    part = Recording("hour", path, EventInput(COUNTS, 2, 4_000_000, (64, 96)), Windows(4_000_000, 4_000_000))
    assert part.total == 900
    frames = part.frames()
    tracemalloc.start()
    try:
        for _ in range(60):
            next(frames)
        begun, _ = tracemalloc.get_traced_memory()
        assert sum(1 for _ in frames) == 840
        assert tracemalloc.get_traced_memory()[0] - begun < 100_000
    finally:
        tracemalloc.stop()


def test_windows_hold_every_event_once(tmp_path):
    """Also the very first one, on a clock that began long before."""
    path = recording(tmp_path / "late_td.dat", 0.5, 1000, first_us=7_000_000)
    part = Recording("late", path, EventInput({"name": "counts"}, 2, 80_000, (64, 96)), Windows(80_000, 80_000, True))
    frames = list(part.frames())
    assert sum(int(frame.sample.x.sum()) for frame in frames) == 1000 and len(frames) == part.total == 7
    assert [frame.sample.start for frame in frames] == [True] + [False] * 6


def test_a_shifted_clock_begins_at_the_first_event(tmp_path):
    path = recording(tmp_path / "late_td.dat", 0.1, 1000, first_us=300_000)
    of = "late", path, EventInput({"name": "counts"}, 2, 50_000, (64, 96)), Windows(50_000, 50_000)
    own, shifted = ([frame.about["t_us"] for frame in Recording(*of, shift_clock=s).frames()] for s in (False, True))
    assert own == [50_000 * k for k in range(1, 9)] and shifted == [50_000, 100_000]


def test_a_larger_sensor_is_divided_by_more(tmp_path, caplog):
    input = EventInput(COUNTS, 2, 50_000, (64, 96))
    with caplog.at_level(logging.WARNING):
        path = recording(tmp_path / "big_td.dat", 0.1, 500, 150, 250)
        frame = next(Recording("big", path, input, Windows(50_000, 50_000)).frames())
    assert "250x150" in caplog.text and "divided by 3, not 1" in caplog.text and input.factor == 1
    assert frame.sample.x.shape[-2:] == (64, 96) and frame.sample.original_size == (150, 250)
    place = frame.sample.placement
    assert place.to_original(torch.tensor([[0.0, 0.0, 10.0, 20.0]])).tolist() == [[0.0, 0.0, 30.0, 60.0]]


def test_ctrl_c_ends_a_camera_and_closes_its_files(tmp_path, monkeypatch):
    class Camera:
        rate, count = 15.0, None

        def __init__(self, source):
            assert source == 3

        def __iter__(self):
            yield from ((np.zeros((48, 64, 3), np.uint8), 1000 * k) for k in range(3))
            raise KeyboardInterrupt

        def close(self):
            pass

    monkeypatch.setattr(image_parts, "VideoReader", Camera)
    checkpoint = checkpoint_for(tmp_path, ImageInput([64, 64]))
    out = predict(checkpoint, "3", Options(save_json=True), tmp_path / "out", device="cpu")
    content = json.loads((out / "images.json").read_text())
    assert len(content["images"]) == 3 and content["incomplete"] == "stopped after 3 frames"
    assert isinstance(json.loads((out / "predictions.json").read_text()), list)
    assert VideoReader(out / "camera_3.mp4").count == 3


def test_ctrl_c_in_a_recording_keeps_what_was_predicted(tmp_path, monkeypatch):
    checkpoint = checkpoint_for(tmp_path, EventInput(COUNTS, 2, 50_000, (64, 96)), 2)
    whole = Recording.frames

    def interrupted(self):
        frames = whole(self)
        yield next(frames)
        yield next(frames)
        raise KeyboardInterrupt

    monkeypatch.setattr(Recording, "frames", interrupted)
    path = recording(tmp_path / "a_td.dat", 0.5, 2000)
    with pytest.raises(KeyboardInterrupt):
        predict(checkpoint, str(path), Options(save_json=True, batch=1), tmp_path / "out", device="cpu")
    assert len(json.loads((tmp_path / "out" / "images.json").read_text())["images"]) == 2
    assert VideoReader(tmp_path / "out" / "a_td.mp4").count == 2


def test_a_video_that_ends_early_says_so(tmp_path, monkeypatch, caplog):
    checkpoint = checkpoint_for(tmp_path, ImageInput([64, 64]))
    path = video(tmp_path / "short.mp4", 3)
    opened = VideoReader.__init__

    def announcing_more(self, source):
        opened(self, source)
        self.count = 5

    monkeypatch.setattr(VideoReader, "__init__", announcing_more)
    with caplog.at_level(logging.WARNING):
        predict(checkpoint, str(path), Options(), tmp_path / "out", device="cpu")
    assert "ends after 3 of the 5 frames" in caplog.text


def test_a_video_has_one_size_and_even_sides(tmp_path):
    odd = video(tmp_path / "odd.mp4", 2, size=(47, 63))
    assert [image.shape for image, _ in VideoReader(odd)] == [(48, 64, 3)] * 2
    slow = video(tmp_path / "slow.mp4", 2, rate=1e-6), video(tmp_path / "fast.mp4", 2, rate=1e6)
    assert [(len(list(reader)), reader.rate) for reader in map(VideoReader, slow)] == [(2, 0.1), (2, 1000.0)]
    writer = VideoWriter(tmp_path / "two.mp4", 10.0)
    writer.write(np.zeros((48, 64, 3), np.uint8))
    with pytest.raises(UserError, match=r"frame 2 is 30x20, those before 64x48.*leave --video out"):
        writer.write(np.zeros((20, 30, 3), np.uint8))
    writer.close()
    assert not list(tmp_path.glob(".*"))  # what it wrote into until then


def test_frames_made_by_another_program_are_refused(tmp_path):
    checkpoint = checkpoint_for(tmp_path, FrameInput(COUNTS, 2, 50_000, (64, 96)), 2)
    path = recording(tmp_path / "a_td.dat", 0.1, 100)
    with pytest.raises(UserError, match=r"frames that another program made.*evaluate\.py"):
        predict(checkpoint, str(path), Options(), device="cpu")


def test_weights_that_diverged_are_named_with_the_file(tmp_path, monkeypatch):
    checkpoint, path = checkpoint_for(tmp_path, ImageInput([64, 64])), video(tmp_path / "a.mp4", 2)

    def diverged(model, x):
        raise NonFiniteLogitsError([0], len(x))

    monkeypatch.setattr(Detector, "forward", diverged)
    with pytest.raises(UserError, match=r"^a\.mp4: logits are not finite"):
        predict(checkpoint, str(path), Options(save_json=True), tmp_path / "out", device="cpu")
    assert "error" in json.loads((tmp_path / "out" / "images.json").read_text())["incomplete"]


def test_results_never_mix(tmp_path):
    checkpoint = tmp_path / "c.pt"
    assert free_folder(None, checkpoint, "a") == tmp_path / "predict" / "a"
    (tmp_path / "predict" / "a").mkdir(parents=True)
    assert free_folder(None, checkpoint, "a") == tmp_path / "predict" / "a-2"
    assert free_folder(tmp_path / "predict" / "a", checkpoint, "a").name == "a"  # empty
    checkpoint.touch()
    with pytest.raises(UserError, match="is a file"):
        free_folder(checkpoint, checkpoint, "a")


def test_the_time_bar_shows_rates_as_far_as_it_was_played():
    bar = TimeBar(0, 1_000_000)
    bar.add(-1, 500_000, 1000)
    bar.add(500_000, 750_000, 2000)
    column = bar.draw(600, 500_000, 750_000).int()
    blue = (column[2] > 180) & (column[0] < 100)  # of the rate
    heights = blue.sum(0)
    assert 0 < heights[150] < heights[370] and heights[500] == 0


def test_without_the_package_tracks_say_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "trackers", None)
    with pytest.raises(UserError, match=r"--track: .*pip install --no-deps trackers"):
        Tracks(10.0, 0.3)


def test_objects_keep_their_numbers():
    pytest.importorskip("trackers", reason="need the package trackers")
    tracks, before = Tracks(10.0, 0.3), [-1, -1]
    for k in range(5):
        boxes = torch.tensor([[10.0 + 4 * k, 10, 40 + 4 * k, 40], [100, 100 - 3 * k, 130, 140 - 3 * k]]).double()
        order = [0, 1] if k % 2 else [1, 0]
        low = 0.2 if k == 3 else 0.6  # continues a track, though below the score
        found = tracks(boxes[order], torch.tensor([0.9, low]).double()[order], torch.tensor([0, 1])[order])
        numbers = found[[order.index(0), order.index(1)]].tolist()
        assert numbers == before if k != 1 else sorted(numbers) == [0, 1], k
        before = numbers
    assert tracks(torch.zeros(0, 4).double(), torch.zeros(0).double(), torch.zeros(0).long()).tolist() == []
