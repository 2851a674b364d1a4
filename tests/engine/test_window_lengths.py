"""AP against the length of the window of events: each point is the evaluation with that length."""

import json

import pytest
from untrained import EVENTS, IMAGES, untrained_run

import evaluate


@pytest.fixture(scope="module")
def run(scenes, tmp_path_factory):
    return untrained_run(tmp_path_factory.mktemp("run"), scenes, EVENTS % "", protocol="raw")


def score(run, *arguments):
    return evaluate.main([str(run / "checkpoint_best.pt"), "--pictures", "0", *arguments])


def test_each_point_is_the_evaluation_with_that_length(run, capsys):
    metrics = score(run, "--windows", "100,50", "--report", "--spikes")
    folder = run / "eval" / "test_raw_best_windows=100-50"
    points = metrics["windows"]["points"]
    assert [(p["window_ms"], p["trained"]) for p in points] == [(50, False), (100, False), (250, True)]
    own, half = score(run, "--spikes"), score(run, "data.args.window_ms=50")
    assert (points[2]["AP"], points[0]["AP"]) == (own["AP"], half["AP"]) and own["AP"] != half["AP"]
    assert metrics["AP"] == own["AP"] and metrics["firing_rates"] == own["firing_rates"]
    detections = (folder / "detections.json").read_text()
    assert detections == (run / "eval" / "test_raw_best" / "detections.json").read_text()
    content = json.loads((folder / "windows.json").read_text())
    assert content["complete"] and content["points"] == points and metrics["request"]["windows"] == [50, 100, 250]
    assert (folder / "windows.png").read_bytes().startswith(b"\x89PNG")
    assert "250 ms (trained)" in (folder / "report.html").read_text()
    assert f"AP50 {own['AP50']:.3f}, AP {own['AP']:.3f}, as in the training" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--windows", "50,x"], "--windows 50,x: give lengths in milliseconds"),
        (["--windows", "0"], "--windows 0: give lengths in milliseconds"),
        (["--windows", "50", "--history", "1"], "--history and --windows are evaluations of their own"),
        (["--windows", "50", "data.args.window_ms=100"], "data.args.window_ms = 100: add it to --windows 50 instead"),
    ],
)
def test_options_that_cannot_be(run, arguments, says):
    with pytest.raises(ValueError, match=says):
        score(run, *arguments)


def test_images_have_no_windows(scenes, tmp_path):
    images = untrained_run(tmp_path, scenes, IMAGES, protocol="coco")
    with pytest.raises(ValueError, match="--windows 50: the samples of this dataset are no windows of events"):
        score(images, "--windows", "50")
