"""Checkpoints that are damaged, hostile, ill-formed or not finite: refused by name, never loaded silently."""

import io
import pickle
import zipfile

import numpy as np
import pytest
import torch

from engine.runs.checkpoint import load_checkpoint, save_checkpoint
from engine.runs.open import open_run
from models import create_model

KWARGS = {"name": "ems_resnet10_ee", "num_classes": 2, "T": 2, "width": 0.125}
NAN = float("nan")


@pytest.fixture
def whole(tmp_path):
    path = tmp_path / "c.pt"
    weights = {f"layer{i}.weight": torch.randn(40, 30) for i in range(6)}
    save_checkpoint(path, {"model": weights, "ema": weights, "epoch": 3, "config": {"seed": 0}})
    return path


def refused(path, message):
    with pytest.raises(ValueError, match=rf"{path.name}: .*{message}"):
        load_checkpoint(path)


def test_every_flipped_bit_is_found(whole):
    data, random = whole.read_bytes(), np.random.default_rng(0)
    ends = [*range(200), *range(len(data) - 200, len(data))]  # headers; directory, checksum
    for place in [*ends, *random.integers(len(data), size=300).tolist()]:
        damaged = bytearray(data)
        damaged[place] ^= 1 << int(random.integers(8))
        whole.write_bytes(damaged)
        refused(whole, "")


def test_zeros_swapped_blocks_and_cuts_are_found(whole):
    data = whole.read_bytes()
    for damaged in (
        data[:5000] + bytes(4096) + data[9096:],
        data[:5000] + data[6000:7000] + data[5000:6000] + data[7000:],
        data[:-1], data[:-90], data[: len(data) // 2], data[:100], data + b"\0",
    ):  # fmt: skip
        whole.write_bytes(damaged)
        refused(whole, "damaged|not a readable")


def test_a_file_of_an_earlier_version_is_held_against_its_crcs(tmp_path):
    path = tmp_path / "old.pt"
    torch.save({"format": "spikesight-1", "ema": {"w": torch.ones(3000)}}, path)
    assert load_checkpoint(path)["ema"]["w"].sum() == 3000
    data = bytearray(path.read_bytes())
    data[data.index(b"\x00\x00\x80\x3f" * 8) + 4000] ^= 1
    path.write_bytes(data)
    refused(path, "damaged, the CRC of record .*data/0")


def test_an_archive_that_unpacks_to_more_than_its_size_is_refused(whole):
    bomb = whole.with_name("bomb.pt")
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as target:
        for record in source.infolist():
            target.writestr(record.filename, source.read(record))
        target.writestr("c/data/99", bytes(1 << 24))
    assert bomb.stat().st_size < 1 << 20
    refused(bomb, "compressed or encrypted archive")


def test_a_tensor_larger_than_what_is_stored_is_refused(tmp_path):
    torch.save({"format": "spikesight-1", "ema": {"w": torch.zeros(1).expand(1 << 40)}}, tmp_path / "c.pt")
    refused(tmp_path / "c.pt", "ema.w is a tensor larger than what is stored")
    torch.save({"format": "spikesight-1", "ema": {"w": torch.empty(1 << 40, device="meta")}}, tmp_path / "c.pt")
    refused(tmp_path / "c.pt", "ema.w is a tensor that is not stored as numbers")


def test_lists_repeated_without_end_are_refused(tmp_path):
    values = []
    for _ in range(40):
        values = [values] * 40
    torch.save({"format": "spikesight-1", "config": {"a": values}}, tmp_path / "c.pt")
    refused(tmp_path / "c.pt", "more than 1,000,000 values")


@pytest.mark.parametrize("content", [[], 5, "x", None, {"format": []}, {"format": "spikesight-1", "epoch": "3"}])
def test_odd_contents_are_refused(tmp_path, content):
    torch.save(content, tmp_path / "c.pt")
    refused(tmp_path / "c.pt", "not a checkpoint of this project|entry 'epoch' is of type str, not int")


@pytest.mark.parametrize(
    "entry, message",
    [
        ({"ema": [1]}, "entry 'ema' is of type list, not dict"),
        ({"ema": {"w": 1.0}}, "entry 'ema' holds 'w' of type float, no tensor"),
        ({"ema": {3: torch.ones(1)}}, "entry 'ema' holds 3 of type Tensor"),
        ({"epoch": True}, "entry 'epoch' is of type bool, not int"),
        ({"epoch": -3}, "entry 'epoch' is -3, which no training writes"),
        ({"best": NAN}, "entry 'best' is nan, which no training writes"),
        ({"best": float("inf")}, "entry 'best' is inf, which no training writes"),
        ({"model_kwargs": None}, "entry 'model_kwargs' is of type NoneType, not dict"),
        ({"class_names": "cat"}, "entry 'class_names' is of type str, not list"),
    ],
)
def test_entries_of_an_odd_type_are_named(tmp_path, entry, message):
    save_checkpoint(tmp_path / "c.pt", entry)
    refused(tmp_path / "c.pt", message)


def test_absent_entries_and_models_that_cannot_be_built_are_named(tmp_path):
    path, weights = tmp_path / "c.pt", create_model(**KWARGS).state_dict()
    for content, message in (
        ({"model_kwargs": KWARGS}, "without entry 'ema'"),
        ({"ema": weights}, "without entry 'model_kwargs'"),
        ({"ema": weights, "model_kwargs": {}}, "cannot be built from model_kwargs"),
        ({"ema": weights, "model_kwargs": KWARGS | {"name": 5}}, "cannot be built from model_kwargs"),
        ({"ema": weights, "model_kwargs": KWARGS | {"what": 5}}, "cannot be built from model_kwargs"),
        ({"ema": weights, "model_kwargs": KWARGS | {"width": "wide"}}, "cannot be built from model_kwargs"),
        ({"ema": weights, "model_kwargs": KWARGS | {"num_classes": 3}}, "size mismatch"),
        ({"ema": {}, "model_kwargs": KWARGS}, "Missing key"),
    ):
        save_checkpoint(path, content)
        with pytest.raises(ValueError, match=rf"c\.pt: .*(?s:.*){message}"):
            open_run(path)


def test_files_that_are_no_archive_are_refused(tmp_path):
    legacy, stream = io.BytesIO(), io.BytesIO()
    torch.save({"format": "spikesight-1"}, legacy, _use_new_zipfile_serialization=False)
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("notes.txt", "hello")
    for data in (legacy.getvalue(), stream.getvalue(), pickle.dumps({"format": "spikesight-1"}), b"PK\x03\x04"):
        (tmp_path / "c.pt").write_bytes(data)
        refused(tmp_path / "c.pt", "not a readable checkpoint")


def test_a_file_that_cannot_be_read_is_named(whole, monkeypatch):
    def fails(*_args, **_kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", fails)
    refused(whole, "cannot be read: Permission denied")


@pytest.mark.parametrize("value", [NAN, float("inf"), -float("inf")])
@pytest.mark.parametrize("entry", ["model", "ema", "optimizer"])
def test_a_checkpoint_that_is_not_finite_is_never_written(tmp_path, entry, value):
    save_checkpoint(tmp_path / "c.pt", {"epoch": 1})
    weights = {"fine": torch.ones(2), "bn.running_var": torch.tensor([1.0, value, 2.0]), "count": torch.tensor(3)}
    with pytest.raises(FloatingPointError, match=rf"c\.pt: not written, {entry}\.bn\.running_var holds 1 of 3 values"):
        save_checkpoint(tmp_path / "c.pt", {"epoch": 2, entry: weights})
    assert load_checkpoint(tmp_path / "c.pt")["epoch"] == 1


def test_a_checkpoint_that_is_not_finite_is_not_loaded(tmp_path):
    """An AP of such a network looks like one of a healthy one, for its neurons are silent."""
    weights = create_model(**KWARGS).state_dict()
    name = next(key for key in weights if key.endswith("running_var"))
    weights[name][1] = NAN
    torch.save({"format": "spikesight-1", "model_kwargs": KWARGS, "ema": weights}, tmp_path / "c.pt")
    with pytest.raises(ValueError, match=rf"c\.pt: ema\.{name} holds 1 of \d+ values that are not finite"):
        open_run(tmp_path / "c.pt")


@pytest.mark.parametrize("value", [np.float64(0.5), torch.__version__, {1}, b"x", pytest])
def test_a_checkpoint_that_could_not_be_loaded_is_not_written(tmp_path, value):
    with pytest.raises(ValueError, match=r"metrics\.a\.1 is of type \w+, neither a tensor nor a plain value"):
        save_checkpoint(tmp_path / "c.pt", {"metrics": {"a": [0, value]}})
    assert not list(tmp_path.iterdir())
