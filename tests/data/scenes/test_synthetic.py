"""Synthetic scenes: physics of the camera, labels on visible pixels, equal settings give equal bytes."""

import json
import logging
import multiprocessing

import numpy as np
import pytest
from torchvision.io import read_image

from data import Problems
from data.recordings import audit_dat, open_dat, read_boxes
from data.scenes import DvsSimulator, Scene, generate_scenes
from data.scenes.scene import MIN_SIDE, MIN_VISIBLE, Mover
from tools.make_scenes import main

SMALL = {"train": 2, "val": 1, "test": 1, "seconds": 0.5, "width": 152, "height": 120, "dt_ms": 8.0}


def camera(intensity, **options):
    return DvsSimulator(intensity, np.random.default_rng(0), **{"noise_hz": 0.0} | options)


def files(root):
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return generate_scenes(tmp_path_factory.mktemp("made") / "scenes", **SMALL)


@pytest.mark.parametrize("rises", [True, False])
def test_a_ramp_fires_once_per_threshold(rises):
    """log I moves by 2: a pixel fires once for each C = 0.2 beyond its reference, evenly in time, of one polarity."""
    start = np.full((20, 30), np.exp(-3.0 if rises else -1.0))
    dvs = camera(start, sigma=0.0, refractory_us=0)
    reference = dvs._reference.reshape(20, 30).copy()
    times, per_pixel = [], np.zeros((20, 30), int)
    for k in range(1, 101):
        now = np.exp(np.log(start) + (2 if rises else -2) * k / 100)
        events = dvs.step(now, 10_000 * k)
        assert (events.p == rises).all()
        assert ((events.t > 10_000 * (k - 1)) & (events.t <= 10_000 * k)).all() and (np.diff(events.t) >= 0).all()
        np.add.at(per_pixel, (events.y, events.x), 1)
        times.append(events.t)
    expected = np.abs(dvs._log.reshape(20, 30) - reference) / 0.2
    assert 8.9 < expected.min() and expected.max() < 11
    sure = np.abs(expected - np.round(expected)) > 1e-3  # the rest is decided by rounding
    np.testing.assert_array_equal(per_pixel[sure], expected.astype(int)[sure])
    counts = np.histogram(np.concatenate(times), 10, (0, 1_000_000))[0][1:]  # the first tenth depends on the reference
    assert counts.min() > 0.95 * counts.mean()


def test_crossings_within_one_large_step_are_spread_over_it():
    start = np.full((10, 10), 0.05)
    events = camera(start, sigma=0.0, refractory_us=0).step(np.full((10, 10), 0.9), 100_000)
    counts = np.histogram(events.t, 4, (0, 100_000))[0]
    assert counts.min() > 0.7 * counts.mean()


def test_a_still_image_gives_noise_alone():
    image = np.random.default_rng(1).uniform(0.05, 0.95, (120, 160))
    still = camera(image)
    assert sum(len(still.step(image, t)) for t in range(8000, 800_001, 8000)) == 0
    noisy = camera(image, noise_hz=0.5)
    count = sum(len(noisy.step(image, t)) for t in range(8000, 2_000_001, 8000))
    assert count == pytest.approx(0.5 * image.size * 2, rel=0.05)


def test_no_pixel_fires_in_its_dead_time():
    rng = np.random.default_rng(2)
    dvs = camera(rng.uniform(0.05, 0.95, (8, 8)), refractory_us=500, noise_hz=200.0)
    steps = [dvs.step(rng.uniform(0.05, 0.95, (8, 8)), t) for t in range(2000, 400_001, 2000)]
    t, pixel = (np.concatenate(c) for c in zip(*((e.t, e.y * 8 + e.x) for e in steps), strict=True))
    gaps = np.concatenate([np.diff(np.sort(t[pixel == k])) for k in range(64)])
    assert len(gaps) > 10_000 and gaps.min() >= 500
    with pytest.raises(ValueError, match="clock must advance"):
        dvs.step(rng.uniform(0.05, 0.95, (8, 8)), 400_000)


@pytest.mark.parametrize("seed", range(12))
def test_events_of_a_moving_object_fill_its_box(seed):
    """Before a still background all events lie in the box of what moves, and they reach its sides."""
    rng = np.random.default_rng(seed)
    scene = Scene(rng, max_objects=1, max_pan=0.0)
    at = scene.movers[0].when  # it is well inside the frame then
    truth = scene.truth(scene.render(at))
    ((_, _, (x, y, w, h)),) = truth
    dvs = camera(scene.render(at - 0.03).intensity)
    steps = [dvs.step(scene.render(at - 0.03 + k * 2e-3).intensity, round(2e3 * k)) for k in range(1, 16)]
    xs, ys = (np.concatenate([getattr(e, c) for e in steps]).astype(int) for c in "xy")
    mover = scene.movers[0]
    swing = 0.2 * mover.size * abs(mover.gait) if mover.kind == 1 else 0  # of a foot, pixels/s
    reach = (abs(mover.speed) + swing) * 0.03 + 3  # how far it came, and the rim of the antialiasing
    assert len(xs) > 50
    assert x - reach <= xs.min() <= x + reach + 1 and x + w - reach - 1 <= xs.max() <= x + w + reach
    assert y - 4 <= ys.min() and ys.max() <= y + h + 4


@pytest.mark.parametrize("seed", range(20))
def test_truth_is_the_tight_box_of_enough_visible_pixels(seed):
    scene = Scene(np.random.default_rng(seed), max_objects=6)
    for t in (0.0, 0.7, 2.0):
        frame = scene.render(t)
        assert frame.intensity.shape == (240, 304) and 0 <= frame.intensity.min() <= frame.intensity.max() <= 1
        truth = {track: (kind, box) for track, kind, box in scene.truth(frame)}
        for track, mover in enumerate(scene.movers):
            seen = frame.owner == track
            if not seen.any():
                assert track not in truth
                continue
            share = seen.sum() / frame.area[track]
            if track not in truth:
                rows, cols = np.nonzero(seen)
                assert share < MIN_VISIBLE or min(np.ptp(rows), np.ptp(cols)) + 1 < MIN_SIDE
                continue
            kind, (x, y, w, h) = truth[track]
            assert kind == mover.kind and min(w, h) >= MIN_SIDE and share >= MIN_VISIBLE
            assert 0 <= x and x + w <= 304 and 0 <= y and y + h <= 240
            box = seen[y : y + h, x : x + w]
            assert box.sum() == seen.sum()
            assert box[0].any() and box[-1].any() and box[:, 0].any() and box[:, -1].any()


def _still_car(x, ground):
    shades, tint = np.array([0.9, 0.1, 0.05, 0.6], np.float32), np.ones(3)
    return Mover(0, x, ground, 80.0, 0.0, 1e-6, 0.0, 0.0, 0.0, shades, tint)


def test_the_nearer_object_hides_the_farther():
    scene = Scene(np.random.default_rng(0))
    scene.movers = [_still_car(150, 150), _still_car(152, 155)]
    assert [track for track, *_ in scene.truth(scene.render(0.0))] == [1]
    scene.movers = [_still_car(150, 150), _still_car(200, 155)]
    (_, _, behind), (_, _, front) = scene.truth(scene.render(0.0))
    assert behind[0] < front[0] and front[2] == pytest.approx(80, abs=2) and behind[2] < 80


def test_an_object_that_left_the_frame_has_no_label():
    scene = Scene(np.random.default_rng(0))
    for x, boxes in ((-200, 0), (-39, 0), (20, 1), (290, 1), (335, 0), (900, 0)):
        scene.movers = [_still_car(x, 200)]
        assert len(scene.truth(scene.render(0.0))) == boxes, x


def test_the_background_pans_smoothly_and_without_end():
    scene = Scene(np.random.default_rng(3), max_objects=1)
    for pan in (30.0, -30.0):
        scene.pan, scene.movers = pan, []
        whole = scene.render(0.1).intensity, scene.render(0.1 + 1 / 30).intensity
        step = 1 if pan > 0 else -1
        shifted = np.roll(whole[0], -step, axis=1)
        np.testing.assert_allclose(whole[1][:, 5:-5], shifted[:, 5:-5], atol=1e-3)
        assert scene.render(1e4).intensity.shape == (240, 304)


def test_files(scenes):
    for split, clips, times in (("train", 2, 6), ("val", 1, 2), ("test", 1, 2)):
        recordings = sorted((scenes / split).glob("*_td.dat"))
        assert [p.name for p in recordings] == [f"scene_{k:04d}_td.dat" for k in range(clips)]
        coco = json.loads((scenes / "annotations" / f"{split}.json").read_text())
        assert [c["name"] for c in coco["categories"]] == ["car", "pedestrian"]
        assert [i["id"] for i in coco["images"]] == list(range(1, clips * times + 1))
        assert [a["id"] for a in coco["annotations"]] == list(range(1, len(coco["annotations"]) + 1))
        by_name = {i["file_name"]: i["id"] for i in coco["images"]}
        assert {p.name for p in (scenes / "images" / split).iterdir()} == set(by_name)
        rows = 0
        for recording in recordings:
            found = audit_dat(recording, Problems(strict=True))
            assert found["events"] > 1000 and 0 < found["first_us"] and found["last_us"] <= 500_000
            stem = recording.name.removesuffix("_td.dat")
            for b in read_boxes(recording.with_name(f"{stem}_bbox.npy"), 152, 120, 2, Problems(strict=True)):
                name = f"{stem}_{b['t']:09d}.png"
                (same,) = [
                    a for a in coco["annotations"] if a["image_id"] == by_name[name] and a["track_id"] == b["track_id"]
                ]
                assert same["bbox"] == [b[k] for k in "xywh"] and same["category_id"] == b["class_id"] + 1
                assert same["area"] == b["w"] * b["h"] and same["iscrowd"] == 0
                rows += 1
        assert rows == len(coco["annotations"]) > 0
        for name in by_name:
            image = read_image(str(scenes / "images" / split / name))
            assert image.shape == (3, 120, 152) and image.float().std() > 10


def test_label_times_are_those_of_gen1(scenes):
    names = sorted(p.stem for p in (scenes / "images" / "train").glob("scene_0000_*"))
    times = [249_999, 299_999, 349_999, 399_999, 449_999, 499_999]
    assert names == [f"scene_0000_{t:09d}" for t in times]
    assert [p.stem[-9:] for p in sorted((scenes / "images" / "val").iterdir())] == ["000249999", "000499999"]


def test_no_two_clips_are_alike(scenes):
    bytes_of = [p.read_bytes() for p in scenes.rglob("*_td.dat")]
    assert len(set(bytes_of)) == len(bytes_of) == 4


def test_the_number_of_workers_changes_nothing(scenes, tmp_path, monkeypatch):
    """Of forks, which start at once."""
    fork = multiprocessing.get_context("fork")
    monkeypatch.setattr(multiprocessing, "get_context", lambda _: fork)
    again = generate_scenes(tmp_path / "scenes", **SMALL, workers=2)
    assert files(again) == files(scenes)


def test_a_clip_does_not_depend_on_how_many_there_are(scenes, tmp_path):
    more = generate_scenes(tmp_path / "scenes", **SMALL | {"train": 3, "val": 0, "test": 0})
    for name in ("scene_0000_td.dat", "scene_0001_bbox.npy"):
        assert (more / "train" / name).read_bytes() == (scenes / "train" / name).read_bytes()
    assert json.loads((more / "annotations" / "val.json").read_text())["images"] == []


def test_the_same_settings_are_not_made_twice(tmp_path, caplog):
    tiny = SMALL | {"train": 1, "val": 0, "test": 0, "seconds": 0.25}
    root = generate_scenes(tmp_path / "scenes", **tiny)
    recording = root / "train" / "scene_0000_td.dat"
    before = recording.stat().st_mtime_ns, files(root)
    generate_scenes(root, **tiny, workers=3)
    assert recording.stat().st_mtime_ns == before[0]

    recording.unlink()
    with caplog.at_level(logging.WARNING):
        generate_scenes(root, **tiny)
    assert files(root) == before[1] and "files are missing" in caplog.text

    kept = {"notes.txt": b"mine", "train/scene_0000.txt": b"mine", "train/scene_0001_td.dat": b"mine", "more/a/b": b""}
    kept |= {"images/train/scene_0000_x.png": b"mine", "annotations/mine.json": b"{}"}
    for name, content in kept.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    (root / "link").symlink_to(tmp_path.parent, target_is_directory=True)
    (root / ".spikesight_cache").mkdir()
    (root / ".spikesight_cache" / "images").write_bytes(b"decoded")
    with caplog.at_level(logging.WARNING):
        generate_scenes(root, **tiny | {"seed": 1})
    assert "seed was 0, is 1" in caplog.text
    assert "replacing the scenes there" in caplog.text and "kept 7 files that are not of the scenes" in caplog.text
    assert (root / "link").is_symlink() and tmp_path.parent.is_dir()
    (root / "link").unlink()
    after = files(root)
    assert after["train/scene_0000_td.dat"] != before[1]["train/scene_0000_td.dat"]
    assert set(after) == set(before[1]) | set(kept) and kept.items() <= after.items()
    assert [p.name for p in tmp_path.iterdir()] == ["scenes"]  # nothing half-made is left


def test_a_file_in_the_way_of_new_scenes_is_not_deleted(tmp_path, caplog):
    tiny = SMALL | {"train": 1, "val": 0, "test": 0, "seconds": 0.25}
    root = generate_scenes(tmp_path / "scenes", **tiny)
    (root / "train" / "scene_0001_td.dat").write_bytes(b"mine")
    with caplog.at_level(logging.WARNING):
        generate_scenes(root, **tiny | {"train": 2})
    (old,) = (p for p in tmp_path.iterdir() if p != root)
    assert files(old) == {"train/scene_0001_td.dat": b"mine"} and str(old) in caplog.text


@pytest.mark.parametrize("manifest", [None, "{}", "[]", "not json", '{"settings": 3}'])
def test_a_folder_of_someone_else_is_left_alone(tmp_path, manifest):
    (tmp_path / "thesis.txt").write_text("years of work")
    if manifest:
        (tmp_path / "manifest.json").write_text(manifest)
    before = files(tmp_path)
    with pytest.raises(ValueError, match="manifest.json"):
        generate_scenes(tmp_path, **SMALL)
    assert files(tmp_path) == before


@pytest.mark.parametrize(
    ("option", "value"),
    [("train", -1), ("seconds", 0.1), ("label_hz", 0), ("dt_ms", -8.0), ("max_objects", 0), ("width", 8), ("seed", -1)],
)
def test_settings_that_make_no_scene_are_named(tmp_path, option, value):
    with pytest.raises(ValueError, match=f"{option}|8x"):
        generate_scenes(tmp_path / "scenes", **SMALL | {option: value})
    assert not any(tmp_path.iterdir())


def test_the_command(tmp_path, capsys):
    arguments = [str(tmp_path / "s"), "--train=1", "--val=0", "--test=0", "--seconds=0.25", "--workers=1", "--dt-ms=25"]
    main(arguments)
    assert "train: 1 label times" in capsys.readouterr().out
    assert len(open_dat(tmp_path / "s" / "train" / "scene_0000_td.dat")) > 1000
    (tmp_path / "s" / "manifest.json").unlink()
    with pytest.raises(SystemExit):
        main(arguments)
    assert "Name a new folder" in capsys.readouterr().err
