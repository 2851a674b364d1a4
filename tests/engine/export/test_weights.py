"""Weights as safetensors, read like a checkpoint."""

import json
import struct

import pytest
import torch

import export
from engine.runs.open import open_run
from registry import UserError


def test_weights_come_back_as_the_same_detector(run):
    path = export.main([str(run), "--format", "safetensors"])
    assert path == run / "best.safetensors"
    here, there = open_run(run), open_run(path)
    x = torch.rand(2, 2, 2, 64, 96)
    with torch.no_grad():
        for a, b in zip(here.model.raw(x), there.model.raw(x), strict=True):
            assert torch.equal(a, b)
    assert there.class_names == here.class_names and there.config == here.config
    assert there.input.to_plain() == here.input.to_plain()
    with pytest.raises(UserError, match="without entry 'model'"):
        open_run(path, "model")


def test_a_file_of_another_program_and_a_damaged_one_are_refused(run):
    path = export.main([str(run), "--format", "safetensors"])
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="best.safetensors: damaged"):
        open_run(path)
    for metadata, message in (({}, "another program"), ({"spikesight": '["abc"]'}, "damaged")):
        header = json.dumps({"__metadata__": metadata}).encode()
        path.write_bytes(struct.pack("<Q", len(header)) + header)
        with pytest.raises(UserError, match=f"best.safetensors: .*{message}"):
            open_run(path)


def test_options_of_other_formats_are_refused(run):
    with pytest.raises(UserError, match="the checkpoint decides that"):
        export.main([str(run), "--format", "safetensors", "model.T=3"])
