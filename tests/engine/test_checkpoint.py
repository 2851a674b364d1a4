"""Checkpoints hold no code, survive crashes, and rebuild their model."""

import os

import pytest
import torch

from engine.checkpoint import init_from, load_checkpoint, load_detector, save_checkpoint
from engine.run_folder import new_run_folder, run_to_resume
from models import create_model

KWARGS = {"name": "ems_resnet10_ee", "num_classes": 2, "T": 2, "width": 0.125, "neuron": {"name": "lif", "tau": 1.5}}


def test_a_model_comes_back(tmp_path):
    model = create_model(**KWARGS).eval()
    save_checkpoint(tmp_path / "c.pt", {"model_kwargs": KWARGS, "ema": model.state_dict(), "model": {}})
    loaded, _ = load_detector(tmp_path / "c.pt")
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert all(torch.equal(a, b) for a, b in zip(model.raw(x), loaded.raw(x), strict=True))


class Evil:
    def __reduce__(self):
        return os.mkdir, ("evil",)


def test_a_pickle_with_code_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"format": "spikesight-1", "ema": Evil()}, "evil.pt")
    with pytest.raises(ValueError, match="evil.pt: not a readable checkpoint"):
        load_checkpoint("evil.pt")
    assert not os.path.exists("evil")


@pytest.mark.parametrize("content", [b"", b"garbage", None])
def test_what_is_no_checkpoint_is_named(tmp_path, content):
    path = tmp_path / "x.pt"
    if content is None:
        torch.save({"epoch": 1}, path)
    else:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.pt: not a"):
        load_checkpoint(path)
    with pytest.raises(ValueError, match="is a folder; name a checkpoint in it"):
        load_checkpoint(tmp_path)
    with pytest.raises(ValueError, match="no such checkpoint"):
        load_checkpoint(tmp_path / "y.pt")


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    save_checkpoint(tmp_path / "c.pt", {"epoch": 1})

    def crash(content, path):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", crash)
    with pytest.raises(OSError, match=r"c\.pt: could not be written.*disk full; [\d,]+ bytes are free"):
        save_checkpoint(tmp_path / "c.pt", {"epoch": 2})
    assert load_checkpoint(tmp_path / "c.pt")["epoch"] == 1 and len(list(tmp_path.iterdir())) == 1


def test_starting_from_another_run_takes_what_fits(tmp_path):
    source = create_model(**KWARGS)
    save_checkpoint(tmp_path / "c.pt", {"ema": source.state_dict()})
    other = create_model(**KWARGS | {"num_classes": 5, "T": 3})
    said = init_from(other, tmp_path / "c.pt")
    assert "151 of 155" in said and "head.predict" in said
    assert torch.equal(other.network.stem.conv.weight, source.network.stem.conv.weight)


def test_run_folders_overwrite_only_when_told_and_only_runs(tmp_path):
    first, second = new_run_folder(str(tmp_path), "a"), new_run_folder(str(tmp_path), "a")
    assert (first.name, second.name) == ("a", "a-2")
    (first / "notes.txt").touch()
    with pytest.raises(ValueError, match="not overwritten, it has no config.yaml"):
        new_run_folder(str(tmp_path), "a", overwrite=True)
    (first / "config.yaml").touch()
    assert new_run_folder(str(tmp_path), "a", overwrite=True) == first and not list(first.iterdir())
    with pytest.raises(ValueError, match="no run named a with a checkpoint"):
        run_to_resume(str(tmp_path), "a", "")
    (second / "checkpoint_last.pt").touch()
    assert run_to_resume(str(tmp_path), "a", "") == second
    with pytest.raises(ValueError, match="no checkpoint_last.pt to resume"):
        run_to_resume(str(tmp_path), "a", str(first))


def test_weights_of_an_earlier_wiring_are_refused(tmp_path):
    kwargs = {"name": "spikeyolo_n", "num_classes": 2, "width": 0.125}
    model = create_model(**kwargs)
    state = model.state_dict()
    save_checkpoint(tmp_path / "now.pt", {"model_kwargs": kwargs, "ema": state, "model": {}})
    load_detector(tmp_path / "now.pt")
    assert "tensors start from" in init_from(create_model(**kwargs), tmp_path / "now.pt")
    state._metadata["network"]["version"] = 1  # as torch wrote it before the blocks moved behind the upsampling
    save_checkpoint(tmp_path / "before.pt", {"model_kwargs": kwargs, "ema": state, "model": {}})
    for load in (load_detector, lambda path: init_from(create_model(**kwargs), path)):
        with pytest.raises(ValueError, match=r"before\.pt: (?s:.)*before the upsampling(?s:.)*Train again"):
            load(tmp_path / "before.pt")
