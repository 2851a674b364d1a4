"""TensorBoard logs: short runs have points too, and the group of the losses comes first."""

import json
import os
import time

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from engine.loop import Step
from engine.runs.board import PREFIX
from engine.runs.log import RunLog


def test_the_first_steps_are_all_points_and_then_every_so_many(tmp_path):
    log = RunLog(tmp_path, log_every=5)
    for step in range(13):
        log.step(
            Step(step=step, losses={"box": 1.0}, lr={"": 0.1, "head": 0.2}, grad_norm=1.0, step_time=0.1, data_time=0.1)
        )
    log.scalars({f"val_layers/firing_rate/layer{i}": 0.1 for i in range(16)} | {"val_spikes/dead": 0.25}, 12)
    log.images({"val_pictures/0": torch.zeros(3, 8, 8, dtype=torch.uint8)}, 12)
    log.epoch({"epoch": 0, "step": 12, "val/AP": 0.5})
    log.close()
    board = EventAccumulator(str(tmp_path)).Reload()
    assert [event.step for event in board.Scalars("loss/total")] == [0, 1, 2, 3, 4, 5, 10]
    assert [board.Scalars(f"optim/{tag}")[0].value for tag in ("lr", "lr_of_head")] == pytest.approx([0.1, 0.2])
    groups = sorted({tag.split("/")[0] for tag in board.Tags()["scalars"] + board.Tags()["images"]})
    assert groups == ["loss", "optim", "time", "val", "val_layers", "val_pictures", "val_spikes"]  # it opens two
    assert [event.value for event in board.Scalars("val_spikes/dead")] == [0.25]


def line(epoch, **kwargs):
    return json.dumps({"epoch": epoch, **kwargs})


DAMAGED = ["x", '{"epoch": 1, "lo', '{"epoch": "1"}', '{"epoch": true}', '{"epoch": null}', "[1]", "3", "{}", "\0\0\0"]


@pytest.mark.parametrize("damaged", [*DAMAGED, b"\xff\xfe", "[" * 5000], ids=range(len(DAMAGED) + 2))
def test_a_resume_leaves_out_damaged_lines_and_says_so(tmp_path, capsys, damaged):
    damaged = damaged if isinstance(damaged, bytes) else damaged.encode()
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"\n".join([line(0, loss=0.5).encode(), damaged, line(2).encode(), line(3).encode()]))
    log = RunLog(tmp_path, 1, first_epoch=3)
    log.epoch({"epoch": 3, "step": 3})
    log.close()
    assert [json.loads(kept) for kept in path.read_text().splitlines()] == [
        {"epoch": 0, "loss": 0.5}, {"epoch": 2}, {"epoch": 3, "step": 3},
    ]  # fmt: skip
    said = capsys.readouterr().out
    assert f"{path}: 1 damaged lines left out, the first is line 2" in said and "no line of epochs [1]" in said


def test_a_resume_rewrites_the_metrics_whole_or_not_at_all(tmp_path, monkeypatch, capsys):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(f"{line(epoch)}\n" for epoch in range(5)))
    before = path.read_text()
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    RunLog(tmp_path, 1, first_epoch=3).close()
    assert path.read_text() == before and not list(tmp_path.glob(".*"))
    assert "metrics.jsonl failed, and the training goes on without it" in capsys.readouterr().out


def test_a_line_cut_by_a_full_disk_does_not_take_the_next_one_along(tmp_path):
    log = RunLog(tmp_path, 1)
    (tmp_path / "metrics.jsonl").write_text(f'{line(0)}\n{{"epoch": 1, "lo')
    log.epoch({"epoch": 2, "step": 2})
    log.close()
    assert (tmp_path / "metrics.jsonl").read_text().splitlines()[::2] == [line(0), line(2, step=2)]


@pytest.mark.parametrize("ahead", [0, 3600, 10 * 365 * 86400])
def test_a_clock_that_was_set_back_hides_no_epoch(tmp_path, ahead, monkeypatch):
    now = time.time()
    for run, clock in enumerate((now + ahead, now + ahead, now)):
        monkeypatch.setattr("time.time", lambda clock=clock: clock)
        log = RunLog(tmp_path, 1, first_epoch=run, first_step=run)
        log.epoch({"epoch": run, "step": run, "val/AP": run / 10})
        log.close()
        for file in tmp_path.glob(f"{PREFIX}*"):
            if int(file.name.split(".")[3]) == int(clock):
                os.utime(file, (clock + 1 + run, clock + 1 + run))
    events = EventAccumulator(str(tmp_path)).Reload().Scalars("val/AP")
    assert [event.step for event in events] == [0, 1, 2]
    assert [event.wall_time for event in events] == sorted(event.wall_time for event in events)
