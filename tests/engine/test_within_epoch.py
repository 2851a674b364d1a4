"""Checkpoints within an epoch: on time, on a signal, after `max_hours`; what continues there is the same training."""

import os
import signal

import pytest
import torch
from test_trainer import records, resumed, same_run
from tiny_trainer import Net, tiny_trainer

from engine.due import Clock
from engine.interrupts import Preempted
from engine.runs.checkpoint import load_checkpoint
from engine.runs.newest import open_newest, resumable


class Signalled(Net):
    """Sends this process a signal in its n-th call in training."""

    number, left = signal.SIGTERM, 0

    def forward(self, x, targets=None):
        if self.training:
            Signalled.left -= 1
            if Signalled.left == 0:
                os.kill(os.getpid(), Signalled.number)
        return super().forward(x, targets)


def stopped(folder, step, monkeypatch, number=signal.SIGTERM, **kwargs):
    """A training that `number` reaches in that step, from 1."""
    monkeypatch.setattr(Signalled, "left", step)
    monkeypatch.setattr(Signalled, "number", number)
    trainer = tiny_trainer(folder, **kwargs)
    trainer.model.__class__ = Signalled
    with pytest.raises(KeyboardInterrupt) as caught:
        trainer.fit()
    return caught.value


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    tiny_trainer(folder, batch_size=2).fit()
    return folder


@pytest.mark.parametrize("step", range(1, 17))
def test_a_signal_loses_no_step(whole, tmp_path, step, monkeypatch):
    """4 epochs of 4 steps; after the last step of an epoch, too."""
    error = stopped(tmp_path / "run", step, monkeypatch, batch_size=2)
    epoch, batch = (step - 1) // 4, (step - 1) % 4 + 1
    assert isinstance(error, Preempted) and f"epoch {epoch + 1}, batch {batch} of 4 is saved" in str(error)
    content = load_checkpoint(tmp_path / "run" / "checkpoint_last.pt")
    assert (content["epoch"], content["batch"]) == (epoch, batch)
    assert same_run(whole, resumed(tmp_path / "run", batch_size=2))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_training_that_is_stopped_again_and_again(whole, tmp_path, workers, monkeypatch):
    """Every second step; every step is saved."""
    made = {"workers": workers, "batch_size": 2}
    stopped(tmp_path / "run", 2, monkeypatch, **made)
    for step in range(2, 14, 2):
        trainer = tiny_trainer(tmp_path / "run", clock=Clock(save_minutes=0), **made)
        trainer.resume(tmp_path / "run" / "checkpoint_last.pt")
        assert trainer.step == step
        trainer.model.__class__ = Signalled
        monkeypatch.setattr(Signalled, "left", 2)
        with pytest.raises(Preempted):
            trainer.fit()
    assert same_run(whole, resumed(tmp_path / "run", **made))


class Killed(BaseException):
    pass


def test_saved_on_time(whole, tmp_path, monkeypatch):
    """Where nothing but the time asks for it: after a kill in step 7, step 6 is there."""

    def killed(self, x, targets=None):
        if self.training and len(seen) == 6:
            raise Killed
        seen.extend([1] * self.training)
        return forward(self, x, targets)

    seen, forward = [], Net.forward
    monkeypatch.setattr(Net, "forward", killed)
    with pytest.raises(Killed):
        tiny_trainer(tmp_path / "run", batch_size=2, clock=Clock(save_minutes=0)).fit()
    monkeypatch.setattr(Net, "forward", forward)
    content = load_checkpoint(tmp_path / "run" / "checkpoint_last.pt")
    assert (content["epoch"], content["batch"], content["metrics"]["step"]) == (1, 2, 5)
    assert same_run(whole, resumed(tmp_path / "run", batch_size=2))


@pytest.mark.parametrize("rename", [1, 2, 3, 4, 5, 12, 13, 14, 15])
def test_killed_at_any_rename_of_a_checkpoint(whole, tmp_path, rename, monkeypatch):
    """Each save but the first renames twice: the file before, and the new one. Saved after each step and each epoch."""

    def dies(*paths):
        renamed.append(1)
        if len(renamed) == rename:
            raise Killed
        return replace(*paths)

    renamed, replace = [], os.replace
    monkeypatch.setattr("data.atomic_file.os.replace", dies)
    with pytest.raises(Killed):
        tiny_trainer(tmp_path / "run", batch_size=2, clock=Clock(save_minutes=0)).fit()
    monkeypatch.undo()
    if rename == 1:
        assert not resumable(tmp_path / "run")
        return
    path, _, said = open_newest(tmp_path / "run")
    assert path.name == "checkpoint_last.pt" and not said
    assert same_run(whole, resumed(tmp_path / "run", batch_size=2))


def test_without_links_the_one_before_is_there(tmp_path, monkeypatch):
    """A file system that has none: killed between the two renames."""

    def no_link(*_):
        raise OSError("not supported")

    def dies(*paths):
        renamed.append(paths)
        if len(renamed) == 3:
            raise Killed
        return replace(*paths)

    renamed, replace = [], os.replace
    monkeypatch.setattr("data.atomic_file.os.link", no_link)
    monkeypatch.setattr("data.atomic_file.os.replace", dies)
    with pytest.raises(Killed):
        tiny_trainer(tmp_path / "run", batch_size=2, clock=Clock(save_minutes=0)).fit()
    path, content, said = open_newest(tmp_path / "run")
    assert path.name == "checkpoint_previous.pt" and content["batch"] == 1
    assert "has no checkpoint_last.pt that can be read: continues from the one before" in said[0]


@pytest.mark.parametrize("step", [2, 4, 5])
def test_the_time_ends_with_a_checkpoint_and_a_score(whole, tmp_path, step, monkeypatch, capsys):
    """Within the first epoch, at its end, and within the second."""
    clock, due = Clock(max_hours=7), Clock.due
    steps = []

    def over(self, *arguments):
        steps.append(1)
        self.started -= 1e6 * (len(steps) == step)
        return due(self, *arguments)

    monkeypatch.setattr(Clock, "due", over)
    trainer = tiny_trainer(tmp_path / "run", batch_size=2, clock=clock, every=9)
    history = trainer.fit()
    assert "train.max_hours = 7 are over: --resume" in capsys.readouterr().out and trainer.step == step
    assert history[-1]["val/AP"] == trainer.best.value and history[-1].get("batch", 4) == (step - 1) % 4 + 1
    content = load_checkpoint(tmp_path / "run" / "checkpoint_last.pt")
    assert content["metrics"] == history[-1] and content["best"] == trainer.best.value
    monkeypatch.undo()
    resumed(tmp_path / "run", batch_size=2)
    left, right = (load_checkpoint(folder / "checkpoint_last.pt") for folder in (whole, tmp_path / "run"))
    assert all(torch.equal(left["model"][key], right["model"][key]) for key in left["model"])
    assert [line["loss/fit"] for line in records(whole)] == [line["loss/fit"] for line in records(tmp_path / "run")]


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGHUP, signal.SIGINT])
def test_other_signals(whole, tmp_path, number, monkeypatch):
    error = stopped(tmp_path / "run", 6, monkeypatch, number, batch_size=2)
    assert isinstance(error, Preempted) == (number == signal.SIGUSR1)
    assert load_checkpoint(tmp_path / "run" / "checkpoint_last.pt")["batch"] == 2
    assert same_run(whole, resumed(tmp_path / "run", batch_size=2))


def test_ctrl_c_in_the_first_minute_saves_nothing(tmp_path, monkeypatch):
    assert not str(stopped(tmp_path / "run", 2, monkeypatch, signal.SIGINT))
    assert not list((tmp_path / "run").glob("*.pt"))


@pytest.mark.parametrize("damaged", [1, 2])
def test_a_damaged_newest_checkpoint(whole, tmp_path, damaged, monkeypatch):
    """The one before continues, and stays until there is a newer whole one."""
    folder = tmp_path / "run"
    stopped(folder, 7, monkeypatch, batch_size=2, clock=Clock(save_minutes=0))
    for name in ("last", "previous")[:damaged]:
        path = folder / f"checkpoint_{name}.pt"
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    path, content, said = open_newest(folder)
    assert path.name == f"checkpoint_{('previous', 'best')[damaged - 1]}.pt"
    assert (content["epoch"], content.get("batch")) == ((1, 2), (1, None))[damaged - 1]
    assert "checkpoint_last.pt: damaged, its checksum is wrong" in said[0] and path.name in said[-1]
    trainer = tiny_trainer(folder, batch_size=2)
    trainer.resume(path)
    assert path.is_file() and not (folder / "checkpoint_last.pt").exists()
    assert len(list(folder.glob("checkpoint_*.damaged.pt"))) == damaged
    trainer.fit()
    assert same_run(whole, folder)
