"""A folder that does not take the checkpoints of a training is an error before it."""

import shutil
from types import SimpleNamespace

import pytest

import train
from engine.ema import build_ema
from engine.runs.checkpoint import load_checkpoint
from engine.runs.room import check_room, checkpoint_bytes
from models import create_model


def free(monkeypatch, size):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=size))


def test_a_full_disk_is_an_error_before_the_training(tiny, tmp_path, monkeypatch):
    free(monkeypatch, 4_000_000)
    with pytest.raises(ValueError, match=r"has 4,000,000 bytes free, but 4 checkpoints of about 1,\d+,\d+ bytes each"):
        train.main([tiny])
    assert not (tmp_path / "runs" / "tiny").exists()


def test_a_resume_needs_room_for_one_more(run, tiny, monkeypatch):
    size = (run / "checkpoint_last.pt").stat().st_size
    free(monkeypatch, size // 2)
    with pytest.raises(ValueError, match="but 1 checkpoints of about"):
        train.main([tiny, "--resume", str(run), "train.epochs=4"])
    assert load_checkpoint(run / "checkpoint_last.pt")["epoch"] == 3
    free(monkeypatch, 2 * size)
    check_room(run, size)


def test_the_size_is_near_that_of_the_file(trained):
    content = load_checkpoint(trained / "checkpoint_last.pt")
    model = create_model(**content["model_kwargs"])
    size = checkpoint_bytes(model, SimpleNamespace(ema=build_ema(model, 0.9, 1.0)))
    assert 0.5 < size / (trained / "checkpoint_last.pt").stat().st_size < 1.5


def test_a_folder_that_cannot_be_written(tmp_path):
    with pytest.raises(ValueError, match="nowhere: checkpoints cannot be written there: No such file"):
        check_room(tmp_path / "nowhere", 1)
