"""Options of the scenes: the effect of each, and messages for invalid values."""

import json
import tracemalloc

import numpy as np
import pytest

from data import Problems, create_dataset
from data.recordings import audit_dat, open_dat, read_boxes
from data.scenes import CLASSES, DvsSimulator, Scene, Settings, generate_scenes, read_settings, render_clip
from data.scenes.shapes import Pose, draw, extent
from tools.make_scenes import main

TINY = {"train": 1, "val": 0, "test": 0, "seconds": 0.5, "width": 96, "height": 72}
STILL = {"max_pan": 0.0, "noise_hz": 0.0}


def events_of(split="train", index=0, **options):
    steps = list(render_clip(Settings(**TINY | options), split, index)[1])
    return {name: np.concatenate([getattr(s, name) for s in steps]).astype(np.int64) for name in "txyp"}


def pixels(events):
    return events["y"] * 96 + events["x"]


def test_hot_pixels_fire_at_their_rate_at_fixed_places():
    grey = np.full((40, 50), 0.5)
    dvs = DvsSimulator(grey, np.random.default_rng(0), noise_hz=0.0, hot_pixels=0.01, hot_pixel_hz=100.0)
    steps = [dvs.step(grey, t) for t in range(8000, 2_000_001, 8000)]
    t, place, p = (np.concatenate(c) for c in zip(*((e.t, e.y * 50 + e.x, e.p) for e in steps), strict=True))
    hot, count = np.unique(place, return_counts=True)
    assert len(hot) == 20 and (np.abs(count - 200) <= 2).all() and (p == 1).all()
    gaps = np.diff(np.sort(t[place == hot[0]]))
    assert abs(gaps - 10_000).max() <= 100

    plain, spoiled = events_of(), events_of(hot_pixels=0.01, hot_pixel_hz=50.0)
    places, counts = np.unique(pixels(spoiled), return_counts=True)
    before = np.bincount(pixels(plain), minlength=96 * 72)[places]
    assert (counts - before > 15).sum() == pytest.approx(69, abs=5)  # 25 each, less where the scene fires OFF


def test_hot_pixels_leave_the_others_as_they_were():
    rng = np.random.default_rng(3)
    images = rng.uniform(0.05, 0.95, (20, 40, 50))
    found = []
    for share in (0.0, 0.01):
        dvs = DvsSimulator(images[0], np.random.default_rng(0), noise_hz=0.0, hot_pixels=share)
        steps = [dvs.step(image, 8000 * k) for k, image in enumerate(images[1:], 1)]
        found.append([np.concatenate(c) for c in zip(*((e.t, e.y.astype(int) * 50 + e.x) for e in steps), strict=True)])
    hot = np.flatnonzero(dvs._leak)
    assert len(hot) == 20
    (t, place), (t_hot, place_hot) = ([c[~np.isin(f[1], hot)] for c in f] for f in found)
    np.testing.assert_array_equal(t, t_hot)
    np.testing.assert_array_equal(place, place_hot)


def test_the_leak_fires_on_events_everywhere():
    grey = np.full((40, 50), 0.5)
    dvs = DvsSimulator(grey, np.random.default_rng(0), noise_hz=0.0, leak_hz=2.0)
    steps = [dvs.step(grey, t) for t in range(8000, 5_000_001, 8000)]
    counts = np.bincount(np.concatenate([e.y.astype(int) * 50 + e.x for e in steps]), minlength=2000)
    assert 9 <= counts.min() and counts.max() <= 10  # the first comes 0.1 to 1.9 periods after the start
    assert all((e.p == 1).all() for e in steps)


@pytest.mark.parametrize("refractory_us", [0, 2000, 20_000])
def test_no_pixel_fires_sooner_than_its_dead_time(refractory_us):
    options = {"noise_hz": 100.0, "hot_pixels": 0.05, "hot_pixel_hz": 900.0, "leak_hz": 1.0}
    events = events_of(refractory_us=refractory_us, **options)
    order = np.lexsort((events["t"], pixels(events)))
    t, place = events["t"][order], pixels(events)[order]
    gaps = np.diff(t)[np.diff(place) == 0]
    assert len(gaps) > 5000 and gaps.min() >= refractory_us
    assert refractory_us > 0 or gaps.min() < 2000


def test_fewer_events_of_a_higher_threshold():
    counts = [len(events_of(threshold=c, noise_hz=0.0)["t"]) for c in (0.1, 0.2, 0.4)]
    assert counts[0] > 1.7 * counts[1] > 1.7 * 1.5 * counts[2] > 0


def test_sigma_is_the_mismatch_of_the_thresholds():
    image = np.full((100, 100), 0.5)
    for sigma in (0.0, 0.04):
        assert DvsSimulator(image, np.random.default_rng(0), sigma=sigma).threshold.std() == pytest.approx(
            sigma, rel=0.05, abs=1e-6
        )
    assert len(events_of(sigma=0.0)["t"]) != len(events_of()["t"])


def test_noise_is_a_rate():
    more = len(events_of(noise_hz=20.2)["t"]) - len(events_of()["t"])
    assert more == pytest.approx(20 * 96 * 72 * 0.5, rel=0.12)  # some meet a dead time, or a pixel that has just fired


def test_speed_is_a_factor():
    slow, fast = (render_clip(Settings(**TINY, speed=s), "train", 0)[0].movers for s in (1.0, 3.0))
    for a, b in zip(slow, fast, strict=True):
        assert b.speed == pytest.approx(3 * a.speed) and b.gait == pytest.approx(3 * a.gait)
        assert (a.kind, a.x, a.size, a.when) == (b.kind, b.x, b.size, b.when)


def test_arrivals_fill_a_long_clip():
    settings = Settings(seconds=60.0, arrivals=0.5, max_pan=0.0, classes=CLASSES)
    scene, _ = render_clip(settings, "train", 0)
    assert len(scene.movers) == pytest.approx(30, abs=15)
    counts = [len(scene.truth(scene.render(float(t)))) for t in range(0, 61, 3)]
    assert np.mean(counts) > 1.5 and np.mean(counts[:5]) > 0.5 < np.mean(counts[-5:])
    for mover in scene.movers:  # while it crosses it does not outgrow the image
        assert abs(mover.growth) * 304 / abs(mover.speed) <= 0.31


def test_a_huge_object_costs_no_memory():
    """Far past its time an object has grown beyond measure."""
    scene = Scene(np.random.default_rng(0), 64, 48, max_objects=1)
    mover = scene.movers[0]
    scene.movers = [type(mover)(**vars(mover) | {"growth": 0.15, "speed": 0.0, "when": 0.0})]
    tracemalloc.start()
    frame = scene.render(60.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert frame.area[0] > 64 * 48 and not scene.truth(frame) and peak < 2e6


def test_memory_does_not_grow_with_the_clip(tmp_path):
    peaks = []
    for seconds in (1.0, 6.0):
        options = TINY | {"seconds": seconds, "noise_hz": 50.0, "pictures": False, "train_label_hz": 2.0}
        tracemalloc.start()
        root = generate_scenes(tmp_path / f"s{seconds}", **options)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        size = (root / "train" / "scene_0000_td.dat").stat().st_size
    assert size > 8 * 1_500_000 and peaks[1] < 1.2 * peaks[0] + 100_000


@pytest.mark.parametrize("kind", range(len(CLASSES)))
@pytest.mark.parametrize("facing", [-1.0, 1.0])
def test_an_object_is_drawn_alike_in_one_patch_and_in_pieces(kind, facing):
    shades = np.linspace(0.1, 0.9, 6, dtype=np.float32)
    for phase in (0.0, 1.0, -40.0):
        pose = Pose(x=50.3, ground=90.7, size=61.0, facing=facing, phase=phase)
        left, top, right, bottom = extent(kind, pose)
        coverage, shade = draw(kind, pose, shades, (left - 5, top - 5, right + 5, bottom + 5))
        assert (coverage[5:-5, 5:-5] > 0).sum() == (coverage > 0).sum()  # nothing of it is beyond its extent
        assert 0.1 < (coverage > 0.5).sum() / ((right - left) * (bottom - top)) < 1
        rows, cols = (np.flatnonzero((coverage > 0.5).any(axis=axis)) for axis in (1, 0))
        assert np.ptp(rows) > 20 and np.ptp(cols) > 10
        for cut in (left + 20, left + 33):
            part = draw(kind, pose, shades, (cut, top, right, bottom - 13))
            np.testing.assert_array_equal(part[0], coverage[5:-18, cut - left + 5 : -5])
            np.testing.assert_array_equal(part[1], shade[5:-18, cut - left + 5 : -5])


@pytest.mark.parametrize("name", CLASSES)
def test_the_events_of_an_object_lie_in_its_box(name):
    """Before a still background and without noise all events are of what moves."""
    inside = total = 0
    for index in range(4):
        settings = Settings(**STILL, classes=[name], max_objects=1, seconds=1.0)
        scene, steps = render_clip(settings, "train", index)
        for events, t in zip(steps, np.arange(8, 1001, 8) * 1e-3, strict=False):
            for _, _, (x, y, w, h) in scene.truth(scene.render(t)):
                within = (events.x >= x - 3) & (events.x < x + w + 3) & (events.y >= y - 3) & (events.y < y + h + 3)
                inside, total = inside + int(within.sum()), total + len(events)
    assert total > 3000 and inside > 0.98 * total


def test_classes_are_those_named_in_their_order(tmp_path):
    options = {"train": 12, "val": 0, "test": 0, "seconds": 0.25, "width": 152, "height": 120, "dt_ms": 25.0}
    options |= {"classes": ["truck", "cyclist", "car"]}
    root = generate_scenes(tmp_path / "scenes", **options)
    coco = json.loads((root / "annotations" / "train.json").read_text())
    assert [c["name"] for c in coco["categories"]] == options["classes"]
    found = set()
    for index in range(12):
        scene, _ = render_clip(read_settings(root), "train", index)
        boxes = read_boxes(root / "train" / f"scene_{index:04d}_bbox.npy", 152, 120, 3, Problems(strict=True))
        for box in boxes:
            assert CLASSES[scene.movers[box["track_id"]].kind] == options["classes"][box["class_id"]]
            found.add(int(box["class_id"]))
    assert found == {0, 1, 2}
    for name in ("scenes", "scene_images"):
        dataset = create_dataset(name, "train", root=root, scenes=options | {"workers": 1})
        assert dataset.class_names == options["classes"]


def test_a_clip_is_made_again_from_its_settings_alone(tmp_path):
    root = generate_scenes(tmp_path / "scenes", **TINY | {"train": 2, "hot_pixels": 0.01, "leak_hz": 0.5})
    scene, steps = render_clip(read_settings(root), "train", 1)
    saved = open_dat(root / "train" / "scene_0001_td.dat").read(-1, 500_000)
    made = [np.concatenate(c) for c in zip(*((e.t, e.x, e.y, e.p) for e in steps), strict=True)]
    for got, expected in zip(made, (saved.t, saved.x, saved.y, saved.p), strict=True):
        np.testing.assert_array_equal(got, expected)
    boxes = read_boxes(root / "train" / "scene_0001_bbox.npy", 96, 72, 2, Problems(strict=True))
    for t in np.unique(boxes["t"]):
        truth = scene.truth(scene.render(t * 1e-6))
        assert [box for *_, box in truth] == [tuple(b[k] for k in "xywh") for b in boxes[boxes["t"] == t]]
    with pytest.raises(ValueError, match="split 'trian'"):
        render_clip(read_settings(root), "trian", 0)


@pytest.mark.parametrize(("width", "height"), [(34, 34), (128, 96), (1280, 720)])
def test_any_sensor_has_objects_in_proportion(tmp_path, width, height):
    options = {"width": width, "height": height, "min_side": 3, "seconds": 0.25, "dt_ms": 50.0, "workers": 1}
    root = generate_scenes(tmp_path / "s", train=3, val=0, test=0, **options)
    found = audit_dat(root / "train" / "scene_0000_td.dat", Problems(strict=True))
    assert (found["width"], found["height"]) == (width, height) and found["events"] > 100
    tall = [
        read_boxes(path, width, height, 2, Problems(strict=True))["h"] / height for path in root.rglob("*_bbox.npy")
    ]
    assert 0.05 < np.concatenate(tall).mean() < 0.6


def test_images_can_be_left_out(tmp_path):
    root = generate_scenes(tmp_path / "with", **TINY)
    bare = generate_scenes(tmp_path / "bare", **TINY, pictures=False)
    assert not (bare / "images").exists() and not (bare / "annotations").exists()
    for path in (root / "train").iterdir():
        assert path.read_bytes() == (bare / "train" / path.name).read_bytes()
    when = (bare / "manifest.json").stat().st_mtime_ns
    generate_scenes(bare, **TINY, pictures=False)
    assert (bare / "manifest.json").stat().st_mtime_ns == when
    with pytest.raises(ValueError, match="pictures = False"):
        create_dataset("scene_images", "train", root=bare, scenes={**TINY, "pictures": False})


def test_a_folder_from_before_an_option_stands(tmp_path):
    """A manifest that does not know an option was made with its default."""
    root = generate_scenes(tmp_path / "scenes", **TINY)
    manifest = json.loads((root / "manifest.json").read_text())
    for name in ("classes", "speed", "arrivals", "min_side", "sigma", "leak_hz", "hot_pixels", "pictures"):
        del manifest["settings"][name]
    (root / "manifest.json").write_text(json.dumps(manifest))
    made = (root / "train" / "scene_0000_td.dat").stat().st_mtime_ns
    generate_scenes(root, **TINY)
    assert (root / "train" / "scene_0000_td.dat").stat().st_mtime_ns == made
    generate_scenes(root, **TINY, speed=2.0)
    assert (root / "train" / "scene_0000_td.dat").stat().st_mtime_ns != made


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("classes", ["car", "bus"], "no 'bus'"),
        ("classes", ["pedestrain"], "did you mean 'pedestrian'"),
        ("classes", [], "give a list"),
        ("classes", "car", "give a list"),
        ("classes", ["car", "car"], "different"),
        ("speed", 0, "more than 0"),
        ("arrivals", -0.1, "at least 0"),
        ("arrivals", float("nan"), "finite"),
        ("arrivals", 1e6, "10000 in all"),
        ("seconds", float("inf"), "finite"),
        ("min_side", 0, "at least 1"),
        ("sigma", -0.1, "at least 0"),
        ("refractory_us", -1, "at least 0"),
        ("refractory_us", 0.5, "whole number"),
        ("noise_hz", -1.0, "at least 0"),
        ("leak_hz", -1.0, "at least 0"),
        ("hot_pixels", 1.5, "at most 1"),
        ("hot_pixel_hz", 0.0, "more than 0"),
        ("pictures", 1, "true or false"),
        ("seconds", "2", "give a number"),
        ("dt_ms", 0.0001, "at least 0.001"),
        ("width", 20_000, "at most 4096"),
    ],
)
def test_a_value_that_makes_no_scene_is_named(tmp_path, option, value, says):
    with pytest.raises(ValueError, match=f"{option}.*{says}"):
        generate_scenes(tmp_path / "scenes", **TINY | {option: value})
    assert not any(tmp_path.iterdir())


def test_the_command_takes_lists_and_flags(tmp_path, capsys):
    sizes = [f"--{k}={v}" for k, v in TINY.items()]
    main(
        [str(tmp_path / "s"), *sizes, "--classes", "truck", "car", "--no-pictures", "--hot-pixels=0.01", "--workers=1"]
    )
    assert "train: 6 label times" in capsys.readouterr().out
    settings = read_settings(tmp_path / "s")
    assert settings.classes == ("truck", "car") and not settings.pictures and settings.hot_pixels == 0.01


def test_without_generate_nothing_is_written_or_replaced(tmp_path):
    """As in an evaluation, whose config comes from a checkpoint."""
    root = generate_scenes(tmp_path / "scenes", **TINY)
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    other = TINY | {"seed": 7, "noise_hz": 1.0}
    for name in ("scenes", "scene_images"):
        for scenes in (TINY, None):
            assert len(create_dataset(name, "train", root=root, scenes=scenes, generate=False)) > 0
        with pytest.raises(ValueError, match=r"holds other scenes .*seed is 0, not 7, .*data.args.scenes=null"):
            create_dataset(name, "train", root=root, scenes=other, generate=False)
        with pytest.raises(ValueError, match="has no scenes, and evaluation generates none"):
            create_dataset(name, "train", root=tmp_path / "none", scenes=TINY, generate=False)
        assert len(create_dataset(name, "train", root=root)) > 0  # no scenes asked for: those that are there
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before
    assert list(tmp_path.iterdir()) == [root]
