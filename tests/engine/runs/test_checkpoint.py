"""Checkpoints hold no code, survive crashes, and rebuild their model."""

import os

import pytest
import torch

from engine.runs.checkpoint import init_from, load_checkpoint, save_checkpoint
from engine.runs.open import open_run
from models import create_model

KWARGS = {"name": "ems_resnet10_ee", "num_classes": 2, "T": 2, "width": 0.125, "neuron": {"name": "lif", "tau": 1.5}}


def test_a_model_comes_back(tmp_path):
    model = create_model(**KWARGS).eval()
    content = {"model_kwargs": KWARGS, "ema": model.state_dict(), "config": {}, "class_names": ["a", "b"]}
    save_checkpoint(tmp_path / "c.pt", content)
    loaded = open_run(tmp_path / "c.pt").model
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
    save_checkpoint(tmp_path / "c.pt", {"ema": source.state_dict(), "class_names": ["car", "dog"]})
    other = create_model(**KWARGS | {"num_classes": 5, "T": 3})
    said = init_from(other, tmp_path / "c.pt", ["cat", "dog", "bus", "cow", "van"])
    assert "151 of 155 tensors fit, 27 of 27 convolutions" in said
    assert "4 of the head by class: dog (new: cat, bus, cow, van)" in said
    assert torch.equal(other.network.stem.conv.weight, source.network.stem.conv.weight)
    rows = [m.head.predict[0].bias.unflatten(0, (3, -1)) for m in (source, other)]
    assert torch.equal(rows[1][:, :5], rows[0][:, :5]) and torch.equal(rows[1][:, 6], rows[0][:, 6])


@pytest.mark.parametrize(
    "other", [{"width": 0.25}, {"name": "ems_resnet10_ee", "width": 0.5}, {"name": "spikeyolo_n", "head": "dfl"}]
)
def test_starting_from_another_width_or_family_is_refused_with_numbers(tmp_path, other):
    save_checkpoint(tmp_path / "c.pt", {"ema": create_model(**KWARGS).state_dict(), "class_names": ["a", "b"]})
    model = create_model(**KWARGS | other)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"c.pt: does not fit the model: .*, 0 of \d+ convolutions") as error:
        init_from(model, tmp_path / "c.pt", ["a", "b"])
    assert ("shapes differ: network.stem" in str(error.value)) == ("name" not in other or "ems" in other["name"])
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_checkpoint_in_the_home_folder(tmp_path, monkeypatch):
    save_checkpoint(tmp_path / "c.pt", {"epoch": 1})
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_checkpoint("~/c.pt")["epoch"] == 1
