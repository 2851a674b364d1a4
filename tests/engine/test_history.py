"""AP against the length of history: evaluate.py --history, for windows of both samplings."""

import json

import pytest
import torch
from untrained import EVENTS, IMAGES, parts, untrained_run

import evaluate
from engine.sweep import SweepRun
from models import Detector
from neurons import Stream

SEQUENTIAL = EVENTS % ", sampling: sequential, window_ms: 100"
RANDOM = EVENTS % ", window_ms: 60"


@pytest.fixture(scope="module")
def run(scenes, tmp_path_factory):
    """Of sequential sampling."""
    return untrained_run(tmp_path_factory.mktemp("run"), scenes, SEQUENTIAL)


def score(run, *arguments):
    return evaluate.main([str(run / "checkpoint_best.pt"), "--pictures", "0", *arguments])


def found_by_hand(run, windows):
    """{image: scores} of each label after `windows` calls, one label at a time."""
    model, loader, _ = parts(run)
    data = loader.dataset
    found = {}
    for sequence in data.sequences:
        for last in sequence:
            if data[last].labelled:
                with torch.inference_mode(), Stream(model):
                    for index in sequence[max(0, last - sequence.start + 1 - windows) : last - sequence.start + 1]:
                        detections = model(data[index].x.unsqueeze(1).float())[0]
                found[data[last].image_id] = detections["scores"].tolist()
    return found


def found_by_history(run, lengths, monkeypatch, *arguments):
    """Metrics of evaluate.py, and the same of each of `lengths`, increasing."""
    made, original = [], SweepRun.run

    def remembering(self, *of_run):
        keep, self.new_evaluator = self.new_evaluator, lambda: made.append(keep()) or made[-1]
        return original(self, *of_run)

    monkeypatch.setattr(SweepRun, "run", remembering)
    metrics = score(run, "--history", lengths, *arguments)
    return metrics, [{image: rows[:, 4].tolist() for image, rows in evaluator.state()} for evaluator in made]


def test_each_label_is_scored_after_its_own_windows(run, monkeypatch):
    metrics, found = found_by_history(run, "all,3,1", monkeypatch, "--spikes")
    folder = run / "eval" / "test_prophesee_best_history=all-3-1"
    content = json.loads((folder / "history.json").read_text())
    assert content["complete"] and content["sampling"] == "sequential" and content["split"] == "test"
    assert [point["windows"] for point in content["points"]] == ["1", "3", "all"]
    assert metrics["history"]["points"] == content["points"] and metrics["firing_rates"] and metrics["operations"]
    assert (folder / "history.png").read_bytes().startswith(b"\x89PNG")

    plain = score(run, "--spikes")
    assert metrics["AP50"] == content["points"][2]["AP50"] == plain["AP50"]
    assert metrics["firing_rates"] == plain["firing_rates"]
    data = parts(run)[1].dataset
    available = data.histories[:, 0]
    for point, windows in zip(content["points"], (1, 3, 1000), strict=True):
        own = available.clip(max=windows)
        assert point["labels"] == len(own) == metrics["images"]
        assert point["labels_with_fewer"] == (int((available < windows).sum()) if windows < 1000 else 0)
        assert point["mean_windows"] == pytest.approx(own.mean())
        assert point["windows_run"] == (len(data) if windows == 1000 else own.sum())

    for length, rows in zip((1, 3, 1000), found, strict=True):
        expected = found_by_hand(run, length)
        assert rows.keys() == expected.keys()
        for image, scores in expected.items():
            assert rows[image] == pytest.approx(scores, abs=1e-4)


def test_windows_of_random_sampling(scenes, tmp_path, monkeypatch):
    run = untrained_run(tmp_path, scenes, RANDOM)
    _, (one, two) = found_by_history(run, "1,2", monkeypatch)
    folder = run / "eval" / "test_prophesee_best_history=1-2"
    points = json.loads((folder / "history.json").read_text())["points"]
    assert [point["windows_run"] / point["labels"] for point in points] == [1, 2]
    assert [point["mean_ms"] for point in points] == [60, 120]
    model, loader, _ = parts(run)
    with torch.inference_mode():
        for sample in loader.dataset:
            alone = model(sample.x.unsqueeze(1).float())[0]["scores"].tolist()
            assert one[sample.image_id] == pytest.approx(alone, abs=1e-4)
    assert any(one[image] != pytest.approx(two[image], abs=1e-3) for image in one)


def test_what_is_there_after_an_interrupt(run, monkeypatch):
    calls, forward = [], Detector.forward

    def interrupted(self, *arguments):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return forward(self, *arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Detector, "forward", interrupted)
        score(run, "--history", "1,2", "eval.batch_size=8")
    (folder,) = (run / "eval").glob("*history=1-2*")
    content = json.loads((folder / "history.json").read_text())
    assert not content["complete"] and [point["windows"] for point in content["points"]] == ["1"]
    assert "incomplete" in json.loads((folder / "metrics.json").read_text())
    score(run, "--history", "1,2", "eval.batch_size=8")
    assert json.loads((folder / "history.json").read_text())["complete"]


@pytest.mark.parametrize("text", ["", "0,2", "1,most", "-1", "1.5"])
def test_what_is_no_length(run, text):
    with pytest.raises(ValueError, match=f"--history {text}: give numbers of windows above 0, and all"):
        score(run, f"--history={text}")


def test_what_has_no_history(scenes, tmp_path):
    run = untrained_run(tmp_path, scenes, IMAGES, protocol="coco")
    with pytest.raises(ValueError, match="--history 1,2: images have no history"):
        score(run, "--history", "1,2")
    run = untrained_run(tmp_path / "b", scenes, RANDOM)
    with pytest.raises(ValueError, match="--history and --steps are evaluations of their own"):
        score(run, "--history", "1,2", "--steps", "1")
