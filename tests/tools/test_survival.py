"""tools.survival: signals at planned moments, and the comparison with the run that was left alone."""

import json
import os
import shutil
import signal
import threading

import pytest
import torch

from engine.runs.checkpoint import load_checkpoint, save_checkpoint
from tools.survival.__main__ import Series, compare
from tools.survival.struck import Plan, Status, Struck


def test_a_signal_at_the_planned_moment(tmp_path, monkeypatch):
    sent, done = [], threading.Event()
    monkeypatch.setattr(os, "kill", lambda process, number: (sent.append((process, number)), done.set()))
    struck = Struck(Plan(signal.SIGKILL, "save", 2, 0.0), tmp_path)
    struck.step()
    with struck.within("save"):
        pass
    with struck.within("evaluation"):
        assert not sent
    with struck.within("save"):
        assert done.wait(10)
    assert sent == [(os.getpid(), signal.SIGKILL)]
    assert Status(**json.loads((tmp_path / "status0.json").read_text())) == Status(steps=1, struck="save")


def test_what_differs_is_named(tmp_path, tiny_run):
    other = tmp_path / "other"
    shutil.copytree(tiny_run, other)
    assert compare(tiny_run, other) == []
    content = load_checkpoint(other / "checkpoint_last.pt")
    name = next(iter(content["ema"]))
    content["ema"][name] += 1e-6
    save_checkpoint(other / "checkpoint_last.pt", content | {"best": 0.75})
    (other / "metrics.jsonl").write_text('{"epoch": 0, "loss/box": 1.5}\n')
    assert compare(tiny_run, other) == [f"ema {name}", "best score", "metrics.jsonl"]


@pytest.fixture
def tiny_run(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    weights = {"w": torch.arange(3.0)}
    save_checkpoint(
        folder / "checkpoint_last.pt", {"model": weights, "ema": {"w": torch.zeros(2)}, "best": 0.5, "epoch": 1}
    )
    (folder / "metrics.jsonl").write_text('{"epoch": 0, "seconds": 3}\n')
    return folder


class Asked:
    kills, signal, processes, seed, config, overrides = 1, "TERM", 1, 0, "x.yaml", []


@pytest.mark.parametrize(
    "code, steps, struck, message",
    [(75, 5, "step", None), (75, 7, "step", "2 steps lost"), (1, 5, "step", "code 1"), (1, 5, "", "struck by nothing")],
)
def test_more_than_a_step_lost_is_an_error(tmp_path, code, steps, struck, message):
    series = Series(Asked, tmp_path)
    series.plan = series._plan()
    (tmp_path / "run").mkdir()
    content = {"epoch": 1, "steps_per_epoch": 4, "batch": 2, "batches_per_step": 2, "best": 0.0}
    save_checkpoint(tmp_path / "run" / "checkpoint_last.pt", content)
    (tmp_path / "status0.json").write_text(json.dumps({"steps": steps, "struck": struck}))
    if message:
        with pytest.raises(ValueError, match=message):
            series._check(tmp_path / "run", code)
    else:
        series._check(tmp_path / "run", code)
        assert series.struck == {"step": 1} and series.lost == [0]
