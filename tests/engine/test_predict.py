"""predict.py: boxes equal those of evaluate.py; what it writes of images, videos and recordings."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from untrained import EVENTS, IMAGES, untrained_run

import convert
import evaluate
import predict
from data.images.input import ImageInput
from data.images.video import VideoReader, VideoWriter
from data.recordings import write_boxes, write_dat
from data.recordings.boxes import BOX_DTYPE
from engine.config import config_to_plain, load_config
from engine.runs.checkpoint import save_checkpoint
from models import create_model
from registry import UserError

ALL = ("--score", "0.001", "--save-json")  # what evaluate.py keeps


def content(path):
    return json.loads(path.read_text())


def by_image(results, images, key):
    """{key(image): sorted rows of category, box and score}."""
    rows = {image["id"]: [] for image in images}
    for entry in results:
        rows[entry["image_id"]].append([entry["category_id"], *entry["bbox"], entry["score"]])
    return {key(image): sorted(rows[image["id"]]) for image in images}


def predicted(out, key):
    return by_image(content(out / "predictions.json"), content(out / "images.json")["images"], key)


def evaluated(run, key, *words):
    evaluate.main([str(run), "--out", str(run / "scores"), "--pictures", "0", *words])
    truth = content(run / "scores" / "annotations.json")
    return by_image(content(run / "scores" / "detections.json"), truth["images"], key)


def assert_same(found, expected):
    assert found.keys() == expected.keys() and sum(map(len, expected.values())) > 10
    for name, rows in expected.items():
        assert np.allclose(np.array(found[name]), np.array(rows), rtol=0, atol=1e-9), name


@pytest.fixture(scope="module")
def photos(scenes, tmp_path_factory):
    """The run of an image detector on `scene_images`, and the folder of their test split."""
    run = untrained_run(tmp_path_factory.mktemp("photos"), scenes, IMAGES, protocol="coco")
    return run, scenes / "images" / "test"


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """A folder of Gen1's layout, whose labels come every 100 ms of 0.55 s; 64 x 96 pixels."""
    root, rng = tmp_path_factory.mktemp("recordings"), np.random.default_rng(0)
    for split in ("train", "val", "test"):
        (root / split).mkdir()
        for name in ("a", "b") if split == "test" else ("a",):
            t = np.sort(rng.integers(0, 550_000, 6000))
            x, y, p = (rng.integers(0, n, len(t)) for n in (96, 64, 2))
            write_dat(root / split / f"{name}_td.dat", t, x, y, p, 96, 64)
            boxes = [(100_000 * k, 10, 12, 40, 30, k % 2, 1, 1.0) for k in range(1, 6)]
            write_boxes(root / split / f"{name}_bbox.npy", np.array(boxes, BOX_DTYPE))
    return root


@pytest.fixture(scope="module")
def events(recordings, tmp_path_factory):
    """The run of an event detector of random sampling, and the folder of its test recordings."""
    data = EVENTS % ", window_ms: 250, classes: [car, pedestrian]"
    run = untrained_run(tmp_path_factory.mktemp("events"), recordings, data, protocol="raw")
    return run, recordings / "test"


def test_boxes_of_images_are_those_of_evaluate(photos, tmp_path, capsys):
    run, folder = photos
    out = predict.main([str(run), str(folder), "--out", str(tmp_path / "out"), *ALL])
    assert_same(predicted(out, lambda image: image["file_name"]), evaluated(run, lambda i: Path(i["file_name"]).name))
    names = [image["file_name"] for image in content(out / "images.json")["images"]]
    assert sorted(path.name for path in (out / "images").iterdir()) == sorted(names)
    said = capsys.readouterr().out
    assert f"on {len(names)} images" in said and " ms " in said and "predictions.json" in said


def test_boxes_of_recordings_are_those_of_evaluate(events, tmp_path):
    run, folder = events
    options = ("--stride-ms", "100", "--out", str(tmp_path / "out"), "--no-draw", "--batch", "1")
    out = predict.main([str(run), str(folder), *options, *ALL])
    found = predicted(out, lambda image: (image["clip"].removesuffix("_td"), image["t_us"]))
    late = {(name, 600_000) for name in "ab"}  # with the last events, after the last label
    assert late <= found.keys()
    expected = evaluated(run, lambda image: (image["clip"], image["t_us"]), "eval.batch_size=1")
    assert_same({key: rows for key, rows in found.items() if key not in late}, expected)


@pytest.mark.parametrize("args", ["", ", memory: gated"])
def test_membranes_are_carried_as_in_evaluate(args, recordings, tmp_path):
    data = EVENTS % ", window_ms: 50, sampling: sequential, classes: [car, pedestrian]"
    run = untrained_run(tmp_path / "run", recordings, data, protocol="raw", args=args)
    out, rest = (tmp_path / name for name in ("out", "rest"))
    predict.main([str(run), str(recordings / "test"), "--out", str(out), "--no-draw", *ALL])
    predict.main([str(run), str(recordings / "test"), "--out", str(rest), "--no-draw", "--no-carry", *ALL])
    found, other = (predicted(o, lambda i: (i["clip"].removesuffix("_td"), i["t_us"])) for o in (out, rest))
    expected = evaluated(run, lambda image: (image["clip"], image["t_us"]), "eval.batch_size=1")
    assert len(found) == 22  # 550 ms in each
    assert_same({key: found[key] for key in expected}, expected)
    assert other["a", 50_000] == found["a", 50_000] and other["b", 50_000] == found["b", 50_000]  # the first windows
    assert other["a", 500_000] != found["a", 500_000]


def test_a_recording_becomes_a_video_of_its_windows(events, tmp_path):
    run, folder = events
    out = predict.main([str(run), str(folder / "a_td.dat"), "--out", str(tmp_path / "out"), "--stride-ms", "50"])
    video = VideoReader(out / "a_td.mp4")
    shown = [image for image, _ in video]
    assert len(shown) == 11 and video.rate == 20
    height, width, _ = shown[0].shape
    assert width > 2 * 4 * 96 and height > 4 * 64  # events beside boxes, at four times the size, above the time bar
    filled = [(image[height - 12, 20:-20].max(1) > 120).mean() for image in shown]
    assert filled == sorted(filled) and filled[0] < 0.2 < 0.8 < filled[-1]
    images = predict.main(
        [str(run), str(folder / "a_td.dat"), "--out", str(tmp_path / "images"), "--no-video", "--limit", "2"]
    )
    assert sorted(p.name for p in (images / "images").iterdir()) == ["a_td_000001.png", "a_td_000002.png"]


def test_a_video_is_read_and_written(photos, tmp_path):
    run, folder = photos
    source = tmp_path / "street.mp4"
    with VideoWriter(source, 12.0) as writer:
        for path in sorted(folder.iterdir())[:4]:
            writer.write(np.array(Image.open(path).convert("RGB")))
    out = predict.main([str(run), str(source), "--out", str(tmp_path / "out"), "--save-json"])
    images = content(out / "images.json")["images"]
    assert [image["frame"] for image in images] == [1, 2, 3, 4]
    assert [image["t_us"] for image in images] == pytest.approx([0, 83_333, 166_667, 250_000], abs=2)
    drawn = VideoReader(out / "street.mp4")
    assert drawn.rate == 12 and len(list(drawn)) == 4
    frames = predict.main([str(run), str(folder), "--out", str(tmp_path / "all"), "--video", "--fps", "5"])
    assert VideoReader(frames / "test.mp4").rate == 5


@pytest.fixture
def untrained(tmp_path):
    """untrained(name, kind="image", **kwargs) -> checkpoint of a small detector for images or events of 64 x 64."""

    def make(name, input=None, **kwargs):
        small = {"num_classes": 2, "T": 2, "in_channels": 3} | kwargs
        torch.manual_seed(0)
        model = create_model(name, **small)
        (tmp_path / "of.yaml").write_text("data: {root: nowhere}\nthreads: 1\ndevice: cpu\n")
        cfg = load_config(tmp_path / "of.yaml", [f"model.name={name}"])
        kept = {"config": config_to_plain(cfg), "model_kwargs": {"name": name, **small}, "class_names": ["a", "b"]}
        input = ImageInput([64, 64]).to_plain() if input is None else input
        weights = model.state_dict()
        save_checkpoint(tmp_path / "c.pt", {**kept, "ema": weights, "model": weights, "epoch": 1, "input": input})
        return tmp_path / "c.pt"

    return make


@pytest.fixture
def three_images(tmp_path):
    folder = tmp_path / "three"
    folder.mkdir()
    for k, size in enumerate([(64, 48), (64, 64), (30, 50)]):
        Image.fromarray(np.full((*size[::-1], 3), 40 * k, np.uint8)).save(folder / f"{k}.png")
    return folder


def test_a_converted_network_predicts(scenes, tmp_path):
    run = untrained_run(tmp_path / "twin", scenes, IMAGES, neuron="relu", protocol="coco")
    path = convert.main([str(run), "--images", "4", "--T", "3"])
    folder = str(scenes / "images" / "test")
    out = predict.main([str(path), folder, "--out", str(tmp_path / "out"), "--save-json", "--limit", "2"])
    assert content(out / "images.json")["info"]["T"] == 3
    out = predict.main(
        [str(path), folder, "--out", str(tmp_path / "five"), "--save-json", "--limit", "2", "--steps", "5"]
    )
    assert content(out / "images.json")["info"]["T"] == 5


def test_an_unreadable_image_is_named_and_the_others_go_on(untrained, three_images, command):
    (three_images / "1.png").write_bytes(b"not an image")
    (three_images / "notes.txt").write_text("left out")
    checkpoint = untrained("ems_resnet10_ee", width=0.125)
    done = command("predict.py", str(checkpoint), str(three_images), "--save-json", "--device", "cpu")
    assert done.returncode == 1 and "1 could not be read; 2 images" in done.stderr and "1.png" in done.stderr
    assert "notes.txt" in done.stdout
    out = checkpoint.parent / "predict" / "three"
    found = content(out / "images.json")
    assert [image["file_name"] for image in found["images"]] == ["0.png", "2.png"] and "1 could" in found["incomplete"]
    again = command("predict.py", str(checkpoint), str(three_images), "--device", "cpu", "--no-draw", "--save-json")
    assert again.returncode == 1 and out.with_name("three-2").is_dir()


def test_a_damaged_recording_is_named_and_the_others_go_on(events, tmp_path, capsys):
    run, folder = events
    shutil.copytree(folder, tmp_path / "test")
    e = {name: np.arange(50) % 60 for name in "xyp"} | {"t": np.arange(50) * 1000, "height": 64, "width": 96}
    np.savez(tmp_path / "test" / "0.npz", **e)
    whole = (tmp_path / "test" / "0.npz").read_bytes()
    (tmp_path / "test" / "0.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"1 could not be read; 6 windows(.|\n)*0\.npz"):
        predict.main([str(run), str(tmp_path / "test"), "--out", str(tmp_path / "out"), "--no-draw", "--save-json"])
    assert len(content(tmp_path / "out" / "images.json")["images"]) == 6
    with pytest.raises(UserError, match=r"0\.npz"):
        predict.main([str(run), str(tmp_path / "test" / "0.npz"), "--out", str(tmp_path / "alone")])


FAULTS = {
    ("photos", "nowhere.jpg"): r"nowhere\.jpg: no such file",
    ("photos", "empty"): r"empty: the folder is empty",
    ("photos", "*.jpg"): r"\*\.jpg: no file matches",
    ("photos", "a_td.dat"): r"a_td\.dat: is a recording, but .*trained on images",
    ("events", "photo.png"): r"photo\.png: is an image, but .*trained on recordings",
    ("events", "clip.mp4"): r"clip\.mp4: is a video, but .*trained on recordings",
    ("events", "7"): r"camera 7: gives images, but .*trained on recordings",
    ("photos", "clip.mp4"): r"clip\.mp4: cannot be opened as a video",
    ("photos", "photo.png --out full"): r"--out .*full: exists and holds files \(x\)",
    ("photos", "photo.png --score 2"): r"--score 2: give 0 to 1",
    ("photos", "photo.png --video --no-draw"): r"--video --no-draw: a video is of drawn frames",
    ("photos", "photo.png --window-ms 5"): r"--window-ms.* recordings",
    ("photos", "photo.png --track"): r"--track: ",
    ("events", "a_td.dat --steps 3"): r"--steps 3: events have the 2 steps",
    ("events", "a_td.dat --carry --stride-ms 10"): r"--stride-ms 10: .*--no-carry",
    ("events", "a_td.dat --window-ms 0"): r"--window-ms 0: give milliseconds",
    ("events", "void_td.dat"): r"void_td\.dat: holds no events",
}


@pytest.mark.parametrize("whose, words", FAULTS)
def test_faulty_input_is_one_line_with_a_remedy(whose, words, photos, events, recordings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = {"photos": photos, "events": events}[whose][0]
    Path("empty").mkdir()
    Path("full").mkdir()
    Path("full/x").touch()
    Path("clip.mp4").write_bytes(b"no video")
    Image.new("RGB", (64, 48)).save("photo.png")
    shutil.copy(recordings / "test" / "a_td.dat", "a_td.dat")
    nothing = np.zeros(0, int)
    write_dat("void_td.dat", nothing, nothing, nothing, nothing, 96, 64)
    source, *options = words.split()
    with pytest.raises(UserError, match=FAULTS[whose, words]):
        predict.main([str(run), source, *options])
    assert not (run / "predict").exists()
