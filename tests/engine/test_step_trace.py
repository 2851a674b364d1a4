"""train.profile: a trace of some steps, with their phases, read back from the run folder."""

import gzip
import json

import pytest
import torch
from tiny_trainer import tiny_trainer

from engine.config import load_config
from engine.step_trace import StepTrace
from registry import UserError

CPU = torch.device("cpu")


def names(file):
    events = json.loads(gzip.decompress(file.read_bytes()))["traceEvents"]
    return [event.get("name") for event in events if event.get("ph") == "X"]


def test_a_training_writes_the_trace_of_its_steps(tmp_path, capsys):
    plain = tiny_trainer(tmp_path / "plain", epochs=2)
    plain.fit()
    trainer = tiny_trainer(tmp_path / "traced", epochs=2)
    trainer.profile = 2
    trainer.fit()
    file = tmp_path / "traced" / "profile" / "rank0.pt.trace.json.gz"
    assert f"trace of training steps: {file}" in capsys.readouterr().out
    found = names(file)
    steps = min(2, trainer.steps_per_epoch - min(3, trainer.steps_per_epoch - 1))
    for phase in ("forward", "backward", "optimizer"):
        assert found.count(phase) == steps, phase
    assert "data" in found and "aten::convolution" in found and "aten::convolution_backward" in found
    for a, b in zip(plain.model.state_dict().values(), trainer.model.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert not (tmp_path / "plain" / "profile").exists()


def test_an_epoch_that_ends_early_leaves_the_steps_it_had(tmp_path):
    trace = StepTrace(tmp_path, 5, CPU, warm_up=1, say=lambda line: None)
    with trace:
        for _ in range(3):
            trace.phase("forward")
            torch.ones(2).sum()
            trace.step()
    assert names(tmp_path / "rank0.pt.trace.json.gz").count("forward") == 2
    written = (tmp_path / "rank0.pt.trace.json.gz").read_bytes()
    with trace:  # once
        trace.phase("forward")
        trace.step()
    assert (tmp_path / "rank0.pt.trace.json.gz").read_bytes() == written


def test_the_steps_of_a_trace_are_counted():
    with pytest.raises(UserError, match=r"train.profile = 0.*at least 1"):
        load_config("configs/demo.yaml", ["train.profile=0"])
