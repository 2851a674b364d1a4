"""Files of torch.save are read completely; hostile files run no code and cost no unbounded memory or time."""

import io
import os
import pickle
import struct
import subprocess
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tools.inert_pickle import Global, Record, read_pickle
from tools.published_network import read_published
from tools.torch_file import TorchFile

DTYPES = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int16,
    torch.uint8,
    torch.bool,
]
SETTINGS = settings(max_examples=150, deadline=None, derandomize=True)


def rezip(path, change):
    """Write the archive again, each record as change(name, content) gives it; None leaves it out."""
    with zipfile.ZipFile(path) as archive:
        records = {name: change(name, archive.read(name)) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in records.items():
            if content is not None:
                archive.writestr(name, content)


def saved(tmp_path, state=None, legacy=False):
    path = tmp_path / "file.pt"
    torch.save({"w": torch.ones(3)} if state is None else state, path, _use_new_zipfile_serialization=not legacy)
    return path


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_every_tensor_is_read_as_torch_reads_it(tmp_path, legacy):
    base = torch.arange(24.0)
    state = {f"{dtype}": torch.tensor([[0, 1, 2], [3, 4, 5]]).to(dtype) for dtype in DTYPES}
    state |= {"view": base.view(4, 6)[1:3, ::2], "transposed": base.view(2, 12).t(), "scalar": torch.tensor(3.5)}
    state |= {
        "empty": torch.empty(0, 4),
        "tied": base,
        "last": torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last),
    }
    torch.save(state, tmp_path / "state.pt", _use_new_zipfile_serialization=not legacy)
    with open(tmp_path / "state.pt", "rb") as file:
        source = TorchFile(file)
        assert list(source.content) == list(state)
        for key, expected in torch.load(tmp_path / "state.pt", weights_only=True).items():
            tensor = source.tensor(source.content[key])
            assert tensor.dtype == expected.dtype and tensor.is_contiguous() and torch.equal(tensor, expected), key


def test_other_byte_order(tmp_path):
    values = torch.tensor([1.5, -2.25, 3e4])
    torch.save({"w": values}, tmp_path / "a.pt")

    def swap(name, content):
        return b"big" if name.endswith("byteorder") else np.frombuffer(content, "<f4").astype(">f4").tobytes()

    rezip(tmp_path / "a.pt", lambda name, c: swap(name, c) if name.endswith(("byteorder", "data/0")) else c)
    assert torch.equal(read_published(tmp_path / "a.pt").weights["w"], values)


class Calls:
    def __init__(self, *reduced):
        self.reduced = reduced

    def __reduce__(self):
        return self.reduced


SENTINEL = "touched"
MALICIOUS = {
    "os.system": lambda: Calls(os.system, (f"touch {SENTINEL}",)),
    "builtins.eval": lambda: Calls(eval, (f"open({SENTINEL!r}, 'w')",)),
    "builtins.exec": lambda: Calls(exec, (f"open({SENTINEL!r}, 'w')",)),
    "builtins.getattr": lambda: Calls(getattr, (Calls(__import__, ("os",)), "system")),
    "subprocess.Popen": lambda: Calls(subprocess.Popen, (["touch", SENTINEL],)),
    "torch.serialization.load": lambda: Calls(torch.load, (SENTINEL,)),
    "torch.hub.load": lambda: Calls(torch.hub.load, ("a/b", "c")),
}


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", MALICIOUS)
def test_a_file_that_asks_for_code_is_refused(tmp_path, monkeypatch, name, legacy):
    monkeypatch.chdir(tmp_path)
    path = saved(tmp_path, {"ema": {"w": torch.ones(2)}, "x": MALICIOUS[name]()}, legacy)
    called = {"os.system": r"\w+\.system", "builtins.getattr": "builtins.__import__"}.get(name, name)
    with pytest.raises(ValueError, match=rf"file.pt, .*: asks to call {called}.*was not called"):
        read_published(path)
    assert not os.path.exists(SENTINEL)


def opcodes(*parts):
    return b"\x80\x02" + b"".join(parts) + b"."


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


@pytest.mark.parametrize(
    "body",
    [
        b"cos\nsystem\n" + b"(" + text("a") + text("touch x") + b"db",  # state for a function
        b"ctorch._utils\n_rebuild_tensor_v2\n" + b"}" + text("__code__") + b"Nsb",
        b"cos\nsystem\n" + text("touch x") + b"\x85R",
        b"(" + text("touch x") + b"ios\nsystem\n",
        b"(cos\nsystem\n" + text("touch x") + b"o",
        b"Pkey\n",
        b"\x82\x01",
        b"c__main__\nA\n)\x81" + b"\x85R",  # a record, called
        text("x") + b")R",
        b"h\x07",
        b"r\xff\xff\xff\x7f",
        b"\x8d" + b"\xff" * 8,
        b"N" * 3 + b"t",
        b"}" + text("a") + b"u",
        b"\x93",
        b"",
    ],
)
def test_opcodes_that_no_checkpoint_has_are_refused(tmp_path, monkeypatch, body):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="^here: "):
        read_pickle(io.BytesIO(opcodes(body)), "here")
    assert not any(tmp_path.iterdir())


def test_state_is_only_kept():
    evil = text("__class__") + text("x") + text("__setstate__") + text("y") + text("__reduce__") + text("z")
    record = read_pickle(io.BytesIO(opcodes(b"cposix\nsystem\n)\x81}(" + evil + b"ub")), "here")
    assert type(record) is Record and record.type == "posix.system"
    assert record.state == {"__class__": "x", "__setstate__": "y", "__reduce__": "z"}
    assert read_pickle(io.BytesIO(opcodes(b"c__builtin__\neval\n")), "here") == Global("builtins.eval")


def tensor_pickle(key="0", numel=b"K\x03", offset=b"K\x00", size=b"K\x03\x85", stride=b"K\x01\x85"):
    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text(key) + text("cpu") + numel + b"tQ"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + offset + size + stride + b"\x89}tR"
    return opcodes(b"}" + text("w") + tensor + b"s")


@pytest.mark.parametrize(
    "changes",
    [
        {"key": "7"},
        {"key": "../../../etc/passwd"},
        {"key": "../data.pkl"},
        {"numel": b"K\x04"},
        {"numel": b"J\xff\xff\xff\xff"},
        {"numel": b"\x8a\x06" + b"\xff" * 5 + b"\x7f"},
        {"numel": b"N"},
        {"offset": b"K\x01"},
        {"offset": b"J\xff\xff\xff\xff"},
        {"size": b"K\x04\x85"},
        {"size": b"K\x01J\xff\xff\xff\xff\x86", "stride": b"K\x01K\x01\x86"},
        {"size": b"K\x03K\x03\x86"},
        {"size": b"K\xc8K\xc8\x86", "stride": b"K\x00K\x00\x86"},
        {"size": b"K\x00" + b"J\x00\x00\x00\x7f" * 2 + b"\x87", "stride": b"K\x01K\x01K\x01\x87"},
        {"stride": b"K\x02\x85"},
        {"stride": b"J\xff\xff\xff\xff\x85"},
        {"size": b"N"},
    ],
)
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_tensors_outside_their_storage_are_refused(tmp_path, changes, legacy):
    def write(content):
        path = saved(tmp_path, legacy=legacy)
        if legacy:
            raw = path.read_bytes()
            with open(path, "rb") as file:
                begin = [pickle.load(file) and file.tell() for _ in range(3)][-1]
            keys = raw.index(b"\x80\x02]", begin)
            end = raw.index(b".", keys) + 1
            data = struct.pack("<q3f", 3, 1, 1, 1)
            path.write_bytes(raw[:begin] + content + opcodes(b"]" + text("0") + b"a") + raw[end:end] + data)
        else:
            rezip(path, lambda name, old: content if name.endswith("data.pkl") else old)
        return path

    assert torch.equal(read_published(write(tensor_pickle())).weights["w"], torch.ones(3))
    with pytest.raises(ValueError, match="file.pt"):
        read_published(write(tensor_pickle(**changes)))


def test_damaged_archives_are_named(tmp_path):
    whole = saved(tmp_path).read_bytes()

    def refused(match, content=None, change=None):
        path = saved(tmp_path)
        if content is not None:
            path.write_bytes(content)
        if change is not None:
            rezip(path, change)
        with pytest.raises(ValueError, match=match):
            read_published(path)

    refused("zip directory is damaged or cut off", whole[: len(whole) // 2])
    refused("begins with b''", b"")
    refused("begins with b'<htm'", b"<html>")
    refused("a pickle, but not one of torch.save", pickle.dumps([1], 2) * 3)
    refused("damaged: the pickle at byte 0", b"\x80\x02")
    refused("holds a int", change=lambda name, c: opcodes(b"K\x01") if name.endswith("pkl") else c)
    refused("no record 'file/data/0'", change=lambda name, c: None if name.endswith("data/0") else c)
    refused("has 8 bytes, not 12", change=lambda name, c: c[:8] if name.endswith("data/0") else c)
    refused("should hold one data.pkl", change=lambda name, c: None if name.endswith("data.pkl") else c)
    refused("neither 'little' nor 'big'", change=lambda name, c: b"pdp" if name.endswith("byteorder") else c)
    at = whole.index(struct.pack("<3f", 1, 1, 1))
    refused("record 'file/data/0' is damaged", whole[:at] + b"\x01" + whole[at + 1 :])
    with pytest.raises(ValueError, match="no such file"):
        read_published(tmp_path / "none.pt")

    with zipfile.ZipFile(saved(tmp_path), "a") as archive:
        archive.writestr("file/constants.pkl", b"")
    with pytest.raises(ValueError, match="TorchScript"):
        read_published(tmp_path / "file.pt")
    bomb = tmp_path / "bomb.pt"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", b"N" * 10_000_000)
    with pytest.raises(ValueError, match="compressed or encrypted"):
        read_published(bomb)


def test_files_that_grow_in_memory_are_refused(tmp_path):
    def refused(pickled, match):
        path = saved(tmp_path)
        rezip(path, lambda name, old: pickled if name.endswith("data.pkl") else old)
        with pytest.raises(ValueError, match=match):
            read_published(path)

    module = b"c__main__\nA\n)\x81"
    itself = opcodes(module + b"q\x00}" + text("_modules") + b"}" + text("a") + b"h\x00ssb")
    refused(itself, "modules without end")
    doubled = module
    for _ in range(40):
        doubled = module + b"}" + text("_modules") + b"}(" + text("a") + doubled + b"q\x01" + text("b") + b"h\x01usb"
    refused(opcodes(doubled), "modules without end")
    refused(opcodes(module + b"}" + text("_modules") + b"K\x07sb"), "holds no dicts")
    refused(opcodes(b"]" * 200_000 + b"a" * 199_999), "holds a list")
    refused(
        opcodes((module + b"}" + text("_modules") + b"}" + text("a")) * 100_000 + b"N" + b"ssb" * 100_000),
        "without end",
    )
    refused(opcodes(b"]0" * 3_000_000), "more than 4,000,000 pickle opcodes")
    refused(opcodes(text("a" * 2_000) * 2 + b"\x93"), "a name of more than 1000 letters")


def test_one_storage_cannot_fill_the_memory_again_and_again(tmp_path):
    ones = torch.ones(1000)
    assert len(read_published(saved(tmp_path, {"a": ones, "b": ones.view(10, 100)})).weights) == 2
    with pytest.raises(ValueError, match="larger than its storage, or taken again"):
        read_published(saved(tmp_path, {f"w{i}": ones[:] for i in range(100)}))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A small network of both formats, as bytes."""
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).half()
    folder, contents = tmp_path_factory.mktemp("files"), {}
    for legacy in (False, True):
        torch.save({"ema": network, "epoch": 1}, folder / "f.pt", _use_new_zipfile_serialization=not legacy)
        contents["legacy" if legacy else "zip"] = (folder / "f.pt").read_bytes()
    return folder / "f.pt", contents


@pytest.mark.parametrize("kind", ["zip", "legacy"])
@given(data=st.data())
@SETTINGS
def test_damage_gives_weights_or_a_value_error(files, kind, data):
    path, contents = files
    damaged = bytearray(contents[kind])
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(damaged[: data.draw(st.sampled_from([len(damaged), data.draw(st.integers(0, len(damaged)))]))])
    check(path)


@given(st.binary(max_size=60), st.integers(0, 400))
@SETTINGS
def test_any_pickle_gives_weights_or_a_value_error(files, content, at):
    path, contents = files
    path.write_bytes(contents["zip"])
    rezip(path, lambda name, old: old[:at] + content + old[at:] if name.endswith("data.pkl") else old)
    check(path)


def check(path):
    try:
        weights = read_published(path).weights
    except ValueError as error:
        assert str(error).startswith(str(path))
    else:
        assert weights and all(isinstance(w, torch.Tensor) for w in weights.values())
