"""Trainer: failures lose no epoch, and a resumed run equals an uninterrupted one."""

import json
import random

import numpy as np
import pytest
import torch
from tiny_trainer import Images, MeanScore, Net, tiny_trainer

import engine.runs.newest
import engine.trainer
from engine.runs.checkpoint import load_checkpoint, save_checkpoint


def records(folder):
    path = folder / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [{k: v for k, v in line.items() if k not in ("seconds", "peak_gib")} for line in lines]


def same_run(a, b):
    assert records(a) == records(b)
    for name in ("checkpoint_last.pt", "checkpoint_best.pt"):
        left, right = load_checkpoint(a / name), load_checkpoint(b / name)
        assert left["epoch"] == right["epoch"] and left["best"] == right["best"] and left["scored"]
        for part in ("model", "ema"):
            assert all(torch.equal(left[part][key], right[part][key]) for key in left[part])
    return True


def resumed(folder, **kwargs):
    trainer = tiny_trainer(folder, **kwargs)
    torch.rand(7), np.random.rand(3), random.random()
    trainer.resume(folder / "checkpoint_last.pt")
    trainer.fit()
    return folder


@pytest.fixture
def whole(tmp_path):
    tiny_trainer(tmp_path / "whole").fit()
    return tmp_path / "whole"


class FailsInEpoch(MeanScore):
    calls = 0

    def score(self, protocol):
        FailsInEpoch.calls += 1
        if FailsInEpoch.calls == self.failing:
            raise MemoryError("out of memory")
        return super().score(protocol)


@pytest.mark.parametrize("epoch", [1, 3, 4])
def test_a_failed_validation_loses_no_epoch(whole, tmp_path, epoch, monkeypatch, capsys):
    monkeypatch.setattr(FailsInEpoch, "calls", 0)
    monkeypatch.setattr(FailsInEpoch, "failing", epoch, raising=False)
    broken = tmp_path / "broken"
    with pytest.raises(MemoryError):
        tiny_trainer(broken, new_evaluator=FailsInEpoch).fit()
    content = load_checkpoint(broken / "checkpoint_last.pt")
    assert content["epoch"] == epoch and not content["scored"] and len(records(broken)) == epoch - 1
    assert f"holds epoch {epoch}, whose validation failed: --resume scores it" in capsys.readouterr().out
    assert same_run(whole, resumed(broken))


class Killed(BaseException):
    pass


@pytest.mark.parametrize("write", range(1, 12))
def test_killed_at_any_write_of_a_checkpoint(whole, tmp_path, write, monkeypatch):
    """4 epochs write checkpoints 8 times or more: unscored, best where it rose, scored."""
    left = write

    def dies(path, content, previous=None):
        nonlocal left
        left -= 1
        if not left:
            raise Killed
        save_checkpoint(path, content, previous)

    killed = tmp_path / "killed"
    monkeypatch.setattr(engine.runs.newest, "save_checkpoint", dies)
    trainer = tiny_trainer(killed)
    try:
        trainer.fit()
    except Killed:
        monkeypatch.undo()
        if write == 1:
            assert not (killed / "checkpoint_last.pt").exists()
            return
        resumed(killed)
    assert same_run(whole, killed)


class Full:
    """The disk is full at the writes of these numbers, from 1; each write is noted as (name, whether it succeeded)."""

    def __init__(self, monkeypatch, *numbers):
        self.numbers, self.writes = numbers, []
        monkeypatch.setattr(engine.runs.newest, "save_checkpoint", self.write)

    def write(self, path, content, previous=None):
        full = len(self.writes) + 1 in self.numbers
        self.writes.append((path.name, not full))
        if full:
            raise OSError(f"{path}: could not be written and is as it was before: No space left on device")
        save_checkpoint(path, content, previous)


def test_a_checkpoint_that_cannot_be_written_is_a_warning(whole, tmp_path, monkeypatch, capsys):
    """The training is the same, and can be resumed from the files that were written."""
    disk = Full(monkeypatch, 4, 5)
    trainer = tiny_trainer(tmp_path / "full")
    trainer.fit()
    said = capsys.readouterr().out
    assert said.count("warning: ") == 2 and "No space left on device. The training goes on" in said
    assert same_run(whole, tmp_path / "full")
    assert len(disk.writes) > 6 and disk.writes[3][1] is disk.writes[4][1] is False


def test_a_best_score_counts_once_its_checkpoint_is_written(tmp_path, monkeypatch):
    class Falls(MeanScore):
        scores_to_come = [0.5, 0.4, 0.45, 0.3]

        def score(self, protocol):
            return {"AP": self.scores_to_come.pop(0)}

    disk = Full(monkeypatch, 2)  # unscored, best, last
    trainer = tiny_trainer(tmp_path / "run", new_evaluator=Falls)
    trainer.fit()
    assert [write for write in disk.writes if write[0] == "checkpoint_best.pt"] == [
        ("checkpoint_best.pt", False), ("checkpoint_best.pt", True), ("checkpoint_best.pt", True)
    ]  # fmt: skip
    contents = [load_checkpoint(tmp_path / "run" / f"checkpoint_{name}.pt") for name in ("best", "last")]
    assert [content["best"] for content in contents] == [0.45, 0.45] and contents[0]["epoch"] == 3


def test_the_last_checkpoint_of_a_training_must_be_written(tmp_path, monkeypatch):
    disk = Full(monkeypatch)
    tiny_trainer(tmp_path / "run").fit()
    again = Full(monkeypatch, len(disk.writes))
    with pytest.raises(OSError, match="checkpoint_last.pt: could not be written"):
        tiny_trainer(tmp_path / "again").fit()
    assert again.writes[-1] == ("checkpoint_last.pt", False)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resume_continues_every_global_generator(tmp_path, workers):
    """Dropout draws from torch's; loaders, which start anew, must not."""
    draws = []

    class Draws(Net):
        def forward(self, x, targets=None):
            if self.training:
                draws.append((random.random(), np.random.rand(), float(torch.rand(()))))
            return super().forward(x, targets)

    def trainer(folder, epochs):
        kwargs = {"workers": workers, "epochs": epochs, "schedule": tiny_trainer(folder).update.schedule}
        made = tiny_trainer(folder, **kwargs)
        made.model.__class__ = Draws
        return made

    trainer(tmp_path / "whole", 4).fit()
    expected = draws[:]
    draws.clear()
    trainer(tmp_path / "parts", 2).fit()
    random.random(), np.random.rand(), torch.rand(3)
    second = trainer(tmp_path / "parts", 4)
    second.resume(tmp_path / "parts" / "checkpoint_last.pt")
    second.fit()
    assert len(expected) == 8 and draws == expected and same_run(tmp_path / "whole", tmp_path / "parts")


def test_another_number_of_threads_is_said(whole):
    content = load_checkpoint(whole / "checkpoint_last.pt")
    content["machine"] = content["machine"] | {"threads": 63}
    save_checkpoint(whole / "checkpoint_last.pt", content)
    (said,) = tiny_trainer(whole).resume(whole / "checkpoint_last.pt")
    assert "resumed with threads" in said and "after 63" in said


def test_what_killed_writers_left_is_removed_on_a_resume(whole):
    (whole / ".checkpoint_last.pt.17-00ff.partial").write_bytes(b"half")
    tiny_trainer(whole).resume(whole / "checkpoint_last.pt")
    assert not list(whole.glob(".*.partial"))


ODD = (None, 5, -1, 0.5, float("nan"), "x", [], {}, [5], {"a": 1}, torch.ones(2))


@pytest.mark.parametrize("scored", [True, False])
def test_no_ill_formed_checkpoint_is_a_traceback(whole, scored):
    """Every entry absent or of another kind, at the top and one level below: a ValueError that names the file, or none
    where nothing needs the entry."""
    path = whole / "checkpoint_last.pt"
    content = dict(load_checkpoint(path)) | {"scored": scored}
    refused = 0
    for key, value in content.items():
        cases = [{k: v for k, v in content.items() if k != key}, *(content | {key: odd} for odd in ODD)]
        if isinstance(value, dict) and value:
            below = next(iter(value))
            cases += [content | {key: {k: v for k, v in value.items() if k != below}}]
            cases += [content | {key: {**value, below: odd}} for odd in ODD[::3]]
        if isinstance(value, list) and value:
            cases += [content | {key: [odd]} for odd in ODD[::3]]
        for case in cases:
            path.unlink()
            torch.save(case, path)
            trainer = tiny_trainer(whole)
            try:
                trainer.resume(path)
            except ValueError as error:
                assert str(path) in str(error) or "cannot resume: " in str(error)
                refused += 1
    assert refused > 100


def test_drawing_and_logging_that_fail_are_said_once_and_cost_nothing(whole, tmp_path, capsys, monkeypatch):
    def draw(model):
        raise RuntimeError("no font")

    def add_scalar(*_args, **_kwargs):
        raise OSError("disk full")

    monkeypatch.setattr("torch.utils.tensorboard.SummaryWriter.add_scalar", add_scalar)
    tiny_trainer(tmp_path / "run", draw=draw).fit()
    said = capsys.readouterr().out
    assert said.count("drawing validation images failed, and the training goes on without it: no font") == 1
    assert said.count("TensorBoard failed, and the training goes on without it: disk full") == 1
    assert same_run(whole, tmp_path / "run")


def test_an_average_that_is_not_finite_is_never_saved(tmp_path):
    trainer = tiny_trainer(tmp_path / "run", epochs=2)
    trainer.fit()
    trainer.epochs = 3
    trainer.update.ema.module.conv.weight.data[0, 0, 0, 0] = float("nan")
    with pytest.raises(FloatingPointError, match=r"checkpoint_last\.pt: not written, ema\.conv\.weight holds"):
        trainer.fit()
    assert load_checkpoint(tmp_path / "run" / "checkpoint_last.pt")["epoch"] == 2


def test_an_input_that_is_not_finite_in_validation_only_is_said(tmp_path):
    data = Images()
    data.x[6, 0, 0, 0] = float("nan")
    trainer = tiny_trainer(tmp_path / "run")
    trainer.validation = tiny_trainer(tmp_path / "other", data=data).validation
    with pytest.raises(ValueError, match=r"image 6: its input is not finite \(1 of 4 images of the batch\)"):
        trainer.fit()


def test_a_target_box_that_is_not_finite_is_said(tmp_path):
    data = Images()
    data.boxes = torch.tensor([[1.0, 1.0, float("nan"), 5.0]])
    with pytest.raises(ValueError, match=r"image \d: a target box is not finite; check the labels"):
        tiny_trainer(tmp_path / "run", data=data).fit()


class FollowingNet(Net):
    epochs_left = None

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x, targets=None):
        if self.training:
            self.seen.append(self.epochs_left)
        return super().forward(x, targets)


def test_modules_are_told_the_epochs_left_also_after_a_resume(tmp_path, monkeypatch):
    monkeypatch.setattr("tiny_trainer.Net", FollowingNet)
    whole = tiny_trainer(tmp_path / "whole", epochs=3)
    whole.fit()
    assert whole.model.seen == [3, 3, 2, 2, 1, 1]
    assert set(whole.model.state_dict()) == set(Net().state_dict())
    part = tiny_trainer(tmp_path / "part", epochs=1)
    part.fit()
    assert part.model.seen == [1, 1]
    rest = tiny_trainer(tmp_path / "part", epochs=3)
    rest.resume(tmp_path / "part" / "checkpoint_last.pt")
    rest.fit()
    assert rest.model.seen == [2, 2, 1, 1]


def test_checkpoints_that_are_kept(tmp_path):
    trainer = tiny_trainer(tmp_path / "kept", epochs=4, keep_every=3)
    trainer.fit()
    kept = {path.name for path in trainer.folder.glob("checkpoint_*.pt")}
    assert kept == {f"checkpoint_{name}.pt" for name in ("best", "last", "previous", "epoch0", "epoch3", "epoch4")}
    third, last = (load_checkpoint(trainer.folder / f"checkpoint_epoch{n}.pt") for n in (3, 4))
    assert third["epoch"] == 3 and third["metrics"]["epoch"] == 2 and third["scored"]
    assert last["model"]["conv.weight"].equal(
        load_checkpoint(trainer.folder / "checkpoint_last.pt")["model"]["conv.weight"]
    )
