"""The benchmarks run, and their tables have the documented columns."""

import re
from pathlib import Path

import pytest
import torch

from engine.config import config_to_plain, load_config, model_kwargs
from engine.runs.checkpoint import save_checkpoint
from models import create_model
from tools.benchmark import detector, events, neurons, simulation

ROOT = Path(__file__).parent.parent.parent


def test_neurons_against_spikingjelly(capsys):
    arguments = "--shape 4,1,4,8,8 --repeats 2 --backends torch --only lif,plif,sth,ternary_lif"
    neurons.main(arguments.split())
    rows = [line for line in capsys.readouterr().out.splitlines() if " torch " in line and "MiB" not in line]
    assert [row[:24].strip() for row in rows] == [
        "lif", "lif, sigmoid", "plif", "ternary_lif", "ternary_lif, rectangle", "sth"
    ]  # fmt: skip
    assert all("x" in row for row in rows[:5]) and "x" not in rows[5]
    # x holds 4 KiB: 2 bits a step are 0.25 KiB; what is worked out again keeps the input alone.
    assert rows[0].endswith("0.00") and rows[2].endswith("0.00 + 0.00")


def test_detector_beside_its_convolutions(capsys, monkeypatch):
    monkeypatch.setattr(torch, "set_num_threads", lambda n: None)
    detector.main("ems_resnet10_ee --T 1 --batch 1 --size 64,64 --repeats 1".split())
    out = capsys.readouterr().out
    assert "training step" in out and "x its convolutions" in out and "separable" not in out


def test_a_sampler_beside_its_detector(capsys, monkeypatch):
    monkeypatch.setattr(torch, "set_num_threads", lambda n: None)
    monkeypatch.setattr(detector, "create_model", lambda name, **kwargs: create_model(name, width=0.125, **kwargs))
    detector.main("eas_snn_s --T 3 --batch 1 --size 64,64 --repeats 1".split())
    lines = [line for line in capsys.readouterr().out.splitlines() if "of it the sampler" in line]
    assert len(lines) == 2 and all(0 < float(line.split()[-1].removesuffix("%")) < 100 for line in lines)


def test_detector_of_a_config_and_of_a_checkpoint(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(torch, "set_num_threads", lambda n: None)
    config = ["configs/demo.yaml", "model.args={width: 0.125}", "model.T=2", "data.size=[32, 64]"]
    known = ["--classes", "2", "--channels", "2"]
    monkeypatch.chdir(ROOT)
    detector.main([*config, *known, "--batch", "1", "--repeats", "1"])
    assert "configs/demo.yaml T=2, 1 x 2 x 32 x 64" in capsys.readouterr().out

    tiny = "{train: 1, val: 1, test: 1, seconds: 0.5, width: 64, height: 64, workers: 1}"
    scenes = [f"data.args.scenes={tiny}", f"data.root={tmp_path / 'tiny'}"]
    detector.main([*config[:3], *scenes, "data.size=null", "--batch", "1", "--repeats", "1"])
    assert "T=2, 1 x 2 x 64 x 64" in capsys.readouterr().out  # classes, channels and size of its dataset

    cfg = load_config(config[0], config[1:])
    kwargs = model_kwargs(cfg, 2, 2)
    weights = create_model(**kwargs).state_dict()
    path = tmp_path / "a.pt"
    content = {"model_kwargs": kwargs, "ema": weights, "config": config_to_plain(cfg), "class_names": ["a", "b"]}
    save_checkpoint(path, content)
    detector.main([str(path), "--batch", "1", "--repeats", "1", "--size", "64,32"])
    assert "a.pt T=2, 1 x 2 x 64 x 32" in capsys.readouterr().out
    for arguments, words in (
        ([str(path), "--T", "4"], "--T: the checkpoint decides that"),
        ([str(path), "model.T=4"], "model.T=4: the checkpoint decides that"),
        ([config[0], "--T", "4"], "--T: set model.T"),
        (["ems_resnet10_ee", "model.T=4"], "model.T=4: for configs only"),
        ([config[0], "data.args={}", "data.name=gen1", "data.root=nowhere"], "Or give --classes and --channels"),
        (["ems_resnet11"], "did you mean 'ems_resnet18'"),
    ):
        with pytest.raises(SystemExit, match=re.escape(words)):
            detector.main(arguments)


def test_events_beside_the_published_loaders(capfd, monkeypatch, tmp_path):
    monkeypatch.setattr(torch, "set_num_threads", lambda n: None)
    arguments = f"--events 60000 --seconds 8 --windows 3 --loader-seconds 0.01 --folder {tmp_path}"
    events.main(arguments.split())
    out = capfd.readouterr().out
    (written,) = tmp_path.glob("train/*_td.dat")
    before = written.stat()
    assert events.write_recording(tmp_path, 60_000, 8, 0) == written and written.stat() == before  # used again
    rows = {line[:36].strip(): line.split() for line in out.splitlines() if line.endswith("%") or " .. " in line}
    # The published loaders give what ours do, cell by cell.
    assert {rows[name][-1] for name in ("last_event", "stacked_histogram, bins 5, events")} == {"0.00%"}
    assert "1.0x" in rows["EMS-YOLO, SpikeYOLO"] and "30 windows of a file of 0 MiB" in out


def test_command_line_names_what_there_is(command):
    done = command("-m", "tools.benchmark", "nothing")
    assert done.returncode == 1 and "{detector,events,neurons,simulation}" in done.stderr


def test_simulation_beside_spikingjelly(capsys, monkeypatch):
    monkeypatch.setattr(torch, "set_num_threads", lambda n: None)
    simulation.main("--width 0.125 --size 64 64 --turns 1 --steps 0".split())
    rows = {line[:12].strip(): line.split()[-1] for line in capsys.readouterr().out.splitlines()}
    assert float(rows["SpikingJelly"]) == 1 and float(rows["ours"]) > 0
