"""The benchmarks run, and their tables have the documented columns."""

import json
import re
from pathlib import Path

import pytest
import torch

from engine.config import config_to_plain, load_config, model_kwargs
from engine.runs.checkpoint import save_checkpoint
from models import create_model
from tools.benchmark import events, infer, neurons, simulation, train
from tools.benchmark._rate import network_flops

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


@pytest.fixture
def measured(capsys, monkeypatch, tmp_path):
    """A function of the arguments of `train` or `infer`: (its printed table, its JSON)."""
    monkeypatch.setattr(torch, "set_num_threads", lambda n: None)
    monkeypatch.chdir(ROOT)

    def run(module, *arguments):
        module.main([*arguments, "train.batch_size=1", "--turns", "1", "--json", str(tmp_path / "found.json")])
        return capsys.readouterr().out, json.loads((tmp_path / "found.json").read_text())

    return run


TINY = ["data.size=64", "model.args={width: 0.125}"]


def test_training_beside_its_rivals(measured):
    rivals = [
        word for name in ("published", "silu", "convolutions", "train.precision=bf16") for word in ("--rival", name)
    ]
    out, found = measured(train, "ems_resnet10_ee", "model.T=2", *TINY, *rivals)
    ours, published, twin, convolutions, bf16 = found["rows"]
    assert found["input"] == [3, 64, 64] and found["T"] == 2 and found["provenance"]["versions"]["torch"]
    phases = ["data", "forward", "loss", "backward", "optimizer"]
    for row in (ours, published, twin, bf16):
        assert list(row["ms"]) == phases and min(row["ms"].values()) > 0
        assert sum(row["ms"].values()) == pytest.approx(row["ms_total"]) and row["images_per_second"] > 0
        assert f"{row['ms_total']:10.1f}" in out
    assert list(convolutions["ms"]) == ["forward", "backward"]
    assert ours["first_over_this"] == 1
    assert published["first_over_this"] == pytest.approx(ours["ms_total"] / published["ms_total"])
    assert ours["share_of_matrix_rate"] > 0 and twin["share_of_matrix_rate"] is None
    if Path("/proc/self/clear_refs").exists():
        weights = 4 * sum(p.numel() for p in create_model("ems_resnet10_ee", width=0.125).parameters())
        assert ours["peak_bytes"] > 3 * weights  # the average and gradients, too


def test_inference_with_fused_weights(measured):
    out, found = measured(infer, "spikeyolo_n", "data.size=32", "model.args={width: 0.0625}", "--rival", "dense")
    assert [row["name"] for row in found["rows"]] == ["spikeyolo_n", "dense"]
    assert all(list(row["ms"]) == ["data", "forward", "decode"] for row in found["rows"]) and "first/" in out


def test_flops_of_all_steps_counted_from_the_layers():
    model = create_model("ems_resnet10_ee", num_classes=2, T=3, width=0.125)
    macs = []
    hooks = [
        layer.register_forward_hook(lambda m, x, y: macs.append(y.numel() * m.weight[0].numel()))
        for layer in model.modules()
        if isinstance(layer, torch.nn.Conv2d)
    ]
    model.raw(torch.rand(2, 3, 64, 64))  # records gradients: the stem runs for all steps
    for hook in hooks:
        hook.remove()
    assert network_flops(model, torch.rand(2, 3, 64, 64)) == 2 * sum(macs) / 2


def test_a_sampler_beside_its_detector(measured):
    arguments = ["eas_snn_s", "model.T=3", *TINY, "--rival", "sampler"]
    for module in (train, infer):
        _, found = measured(module, *arguments)
        assert found["rows"][1]["first_over_this"] > 1


def test_a_config_its_loader_and_a_checkpoint(measured, tmp_path):
    config = ["configs/demo.yaml", "model.args={width: 0.125}", "model.T=2", "data.size=[32, 64]"]
    out, found = measured(infer, *config, "--classes", "2", "--channels", "2")
    assert found["input"] == [2, 32, 64] and "configs/demo.yaml T=2, 1 x 2 x 32 x 64" in out

    tiny = "{train: 1, val: 1, test: 1, seconds: 0.5, width: 64, height: 64, workers: 1}"
    scenes = [f"data.args.scenes={tiny}", f"data.root={tmp_path / 'tiny'}", "data.workers=0"]
    _, found = measured(train, *config[:3], *scenes, "data.size=null", "--data")
    assert found["input"] == [2, 64, 64] and found["rows"][0]["ms"]["data"] > 0  # of its dataset

    cfg = load_config(config[0], config[1:])
    kwargs = model_kwargs(cfg, 2, 2)
    weights = create_model(**kwargs).state_dict()
    path = tmp_path / "a.pt"
    content = {"model_kwargs": kwargs, "ema": weights, "config": config_to_plain(cfg), "class_names": ["a", "b"]}
    save_checkpoint(path, content)
    out, found = measured(train, str(path), "data.size=[64, 32]")
    assert "a.pt T=2, 1 x 2 x 64 x 32" in out
    for arguments, words in (
        ([str(path), "model.T=4"], "model.T=4: the checkpoint decides that"),
        ([str(path), "eval.T=4"], "eval.T = 4: only images"),
        ([str(path), "--classes", "4"], "--classes: the checkpoint decides that"),
        ([str(path), "--rival", "relu"], "model.neuron=relu: the checkpoint decides that"),
        ([*config[:3], "--data", "--rival", "relu"], "--data: leave out --rival"),
        ([config[0], "data.args={}", "data.name=gen1", "data.root=nowhere"], "Or give --classes and --channels"),
        (["ems_resnet11"], "did you mean 'ems_resnet18'"),
        (["ems_resnet10", "data.size=32", "--rival", "publishd"], "did you mean 'published'"),
    ):
        with pytest.raises(SystemExit, match=re.escape(words)):
            measured(train, *arguments)


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
    assert done.returncode == 1 and "{events,infer,neurons,simulation,tensorboard,train}" in done.stderr


def test_simulation_beside_spikingjelly(capsys, monkeypatch):
    monkeypatch.setattr(torch, "set_num_threads", lambda n: None)
    simulation.main("--width 0.125 --size 64 64 --turns 1 --steps 0".split())
    rows = {line[:12].strip(): line.split()[-1] for line in capsys.readouterr().out.splitlines()}
    assert float(rows["SpikingJelly"]) == 1 and float(rows["ours"]) > 0
