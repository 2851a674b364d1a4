"""Import of published checkpoints, written here with classes of packages that are not installed when reading."""

import argparse
import json
import pathlib
import sys
import types

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.io import write_png

import evaluate
from engine.runs.checkpoint import load_checkpoint
from engine.runs.open import open_run
from models import create_model, to_published_state_dict
from models.registry import model_defaults
from tools.import_weights import main
from tools.published_network import read_published

FAMILIES = {
    "ems_resnet18_ee": ("models.yolo", "Model", "models.common", "BasicBlock_ms"),
    "spikeyolo_n": ("ultralytics.nn.tasks", "DetectionModel", "ultralytics.nn.modules.yolo_spikformer", "MS_Block"),
}
NAMES = ["car", "pedestrian", "bus"]


class Extras:
    """What published files hold besides: best_fitness, paths, namespaces, sets."""

    def __init__(self):
        self.best_fitness, self.score = np.array([0.25]), np.float64(0.25)
        self.where, self.opt, self.seen = pathlib.PurePosixPath("/a/b"), argparse.Namespace(lr=0.1), {1, 2}
        self.inner = types.SimpleNamespace(a=1)


@pytest.fixture
def published(monkeypatch, tmp_path):
    """published(model, family, legacy=False, content=...) -> a file as its authors' code writes it, in fp16.

    The classes live in packages of the authors' names only while the file is written. `content` makes the saved dict
    from the network.
    """

    def write(model, family, legacy=False, content=None, weights=None):
        root_module, root_name, block_module, block_name = FAMILIES[family]
        with monkeypatch.context() as patch:
            for module in (root_module, block_module):
                parts = module.split(".")
                for i in range(1, len(parts) + 1):
                    name = ".".join(parts[:i])
                    if name not in sys.modules:
                        patch.setitem(sys.modules, name, types.ModuleType(name))

            def fake(module, name):
                cls = type(name, (nn.Module,), {"__module__": module, "__qualname__": name})
                setattr(sys.modules[module], name, cls)
                return cls

            root, block = fake(root_module, root_name)(), fake(block_module, block_name)
            for name, tensor in (weights or to_published_state_dict(model)).items():
                *path, leaf = name.split(".")
                at = root
                for part in path:
                    if part not in at._modules:
                        at.add_module(part, block())
                    at = at._modules[part]
                if leaf in ("weight", "bias"):
                    at.register_parameter(leaf, nn.Parameter(tensor.clone()))
                else:
                    at.register_buffer(leaf, tensor.clone())
            root.register_buffer("scratch", torch.zeros(3), persistent=False)
            root.names, root.yaml, root.stride = (
                NAMES,
                {"nc": 3, "path": pathlib.PurePosixPath("a.yaml")},
                torch.ones(2),
            )
            root.half()
            saved = (content or (lambda network: {"model": None, "ema": network, "epoch": 6, "extras": Extras()}))(root)
            path = tmp_path / "published.pt"
            torch.save(saved, path, _use_new_zipfile_serialization=not legacy)
        return path

    return write


def small(family, **kwargs):
    torch.manual_seed(0)
    model = create_model(family, num_classes=3, width=0.125, **kwargs)
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_()
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 2)
    for p in [*model.parameters(), *model.buffers()]:
        if p.is_floating_point():
            p.data = p.data.half().float()  # as the file will hold it
    return model.eval()


@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
@pytest.mark.parametrize(
    "family, legacy", [("ems_resnet18_ee", False), ("ems_resnet18_ee", True), ("spikeyolo_n", False)]
)
def test_a_published_file_gives_the_network_it_came_from(published, family, legacy, tmp_path, capsys):
    model = small(family)
    path = published(model, family, legacy)
    loaded_modules = set(sys.modules)
    read_published(path)
    assert set(sys.modules) == loaded_modules  # neither their packages nor a file of our room of the same name
    out = main([str(path), "--model", family, "model.args.width=0.125", "--out", str(tmp_path / "new" / "out.pt")])
    said = capsys.readouterr().out
    assert f"{'legacy' if legacy else 'zip'} format, 'ema' ({'.'.join(FAMILIES[family][:2])})" in said
    assert "3 classes (read off the head)" in said and " 0 missing, 0 unexpected, 0 of another shape" in said
    run = open_run(out)
    back, content = run.model, run.content
    assert content["class_names"] == NAMES and content["epoch"] == 7 and back.T == model.T
    for key, value in model.state_dict().items():
        assert torch.equal(back.state_dict()[key], value), key
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert all(torch.equal(a, b) for a, b in zip(model.raw(x), back.raw(x), strict=True))


def test_which_part_of_the_file(published, tmp_path):
    model = small("ems_resnet18_ee")
    first = "model.0.conv.weight"

    def both(network):
        half = {name: torch.zeros_like(w) for name, w in network.state_dict().items()}
        return {"ema": network, "model": half, "optimizer": {"state": {0: {"momentum": torch.ones(2)}}}, "epoch": -1}

    path = published(model, "ems_resnet18_ee", content=both)
    assert read_published(path).weights[first].any() and not read_published(path, "model").weights[first].any()
    assert read_published(path).epochs == 0
    with pytest.raises(ValueError, match="no network or weights under 'optimizer'; its keys: ema, model, optimizer"):
        read_published(path, "optimizer")
    whole = read_published(published(model, "ems_resnet18_ee", content=lambda network: network))
    assert whole.class_names == NAMES and "scratch" not in whole.weights
    stripped = published(model, "ems_resnet18_ee", content=lambda network: {"model": network, "ema": None})
    assert read_published(stripped).weights.keys() == whole.weights.keys()


def test_what_does_not_fit_is_refused_unless_told(published, tmp_path, capsys):
    model = small("ems_resnet18_ee")
    weights = to_published_state_dict(model)
    del weights["model.0.conv.weight"]
    weights["model.9.residual_function.2.bn.bias"] = torch.zeros(5)
    weights["stray.weight"] = torch.full((2,), torch.inf)
    path, out = published(model, "ems_resnet18_ee", weights=weights), tmp_path / "out.pt"
    command = [str(path), "--model", "ems_resnet18_ee", "model.args.width=0.125", "--out", str(out)]
    with pytest.raises(ValueError, match="1 missing, 1 unexpected, 1 of another shape. Nothing was written"):
        main(command)
    said = capsys.readouterr().out
    assert "  missing: model.0.conv.weight\n  unexpected: stray.weight\n  of another shape: model.9.res" in said
    assert "[5], here [16]" in said and "holds inf or nan: stray.weight" in said and not out.exists()

    main([*command, "--allow-missing", "--verbose"])
    assert "  matched: model.0.bn.bn.weight" in capsys.readouterr().out
    assert torch.equal(open_run(out).model.network.stem.bn.weight, model.network.stem.bn.weight)
    with pytest.raises(ValueError, match="exists already"):
        main([*command, "--allow-missing"])


def test_arguments_of_the_command(published, tmp_path):
    model = small("ems_resnet18_ee", in_channels=2)
    path = published(model, "ems_resnet18_ee")
    config = tmp_path / "c.yaml"
    config.write_text("model: {name: ems_resnet18_ee, T: 3, neuron: relu, args: {width: 0.125}}\ndata: {root: /d}\n")
    out = main([str(path), "--config", str(config), "--T", "5", "--class-names", "a,b,c", f"out={tmp_path}"])
    assert out == tmp_path / "published" / "checkpoint_imported.pt"
    content = load_checkpoint(out)
    assert content["config"]["data"]["root"] == "/d" and content["class_names"] == ["a", "b", "c"]
    assert content["model_kwargs"] == {
        "name": "ems_resnet18_ee", "num_classes": 3, "T": 5, "neuron": "relu", "head": "anchor", "in_channels": 2,
        "width": 0.125,
    }  # fmt: skip
    for arguments, message in (
        (["--model", "ems_resnet18"], "is no model|does not hold the weights"),
        (["--model", "ems_resnet18e"], "did you mean 'ems_resnet18"),
        (["--model", "ems_resnet18_ee", "--class-names", "a,b"], "3 classes, but 2 names"),
        (["--model", "ems_resnet18_ee", "--num-classes", "0"], "--num-classes 0: give at least 1"),
        (["--model", "spikeyolo_s"], "no shape there tells the classes of spikeyolo_s"),
    ):
        with pytest.raises(ValueError, match=message):
            main([str(path), *arguments, "--out", str(tmp_path / "no.pt")])
    assert not (tmp_path / "no.pt").exists()


def test_evaluate_takes_what_was_imported(published, tmp_path):
    (tmp_path / "val").mkdir()
    write_png(torch.randint(0, 255, (3, 64, 64), dtype=torch.uint8), str(tmp_path / "val" / "a.png"))
    labels = {
        "images": [{"id": 1, "file_name": "a.png", "width": 64, "height": 64}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [4, 4, 30, 30], "area": 900, "iscrowd": 0}],
        "categories": [{"id": k, "name": name} for k, name in enumerate(NAMES, 1)],
    }
    (tmp_path / "val.json").write_text(json.dumps(labels))
    path = published(small("ems_resnet18_ee", T=1), "ems_resnet18_ee")
    overrides = [f"data.root={tmp_path}", "data.size=64", "data.test_split=val", "data.workers=0", "device=cpu"]
    main([str(path), "--model", "ems_resnet18_ee", "--T", "1", "model.args.width=0.125", "threads=1", *overrides,
          "--out", str(tmp_path / "out.pt")])  # fmt: skip
    metrics = evaluate.main([str(tmp_path / "out.pt")])
    assert metrics["images"] == 1 and metrics["model"] == "ems_resnet18_ee" and metrics["epochs"] == 7


def test_the_command_exits_with_1_and_says_why(command, tmp_path):
    done = command("-m", "tools.import_weights", str(tmp_path / "none.pt"), "--model", "spikeyolo_s")
    assert done.returncode == 1 and done.stderr == f"error: {tmp_path / 'none.pt'}: no such file\n"


def test_spiking_yolov3_is_imported_with_the_anchors_that_are_given(tmp_path):
    """A state dict under `model` as its code saves it, with the counters of operations that a profiler left there."""
    torch.manual_seed(0)
    coco = [[[23, 27], [37, 58], [81, 82]], [[81, 82], [135, 169], [344, 319]]]
    head = {"name": "anchor", "coding": "yolov3", "anchors": coco}
    theirs = create_model("spiking_yolov3", num_classes=3, head=head).eval()
    weights = to_published_state_dict(theirs) | {"module_list.0.total_ops": torch.zeros(1)}
    torch.save({"epoch": 4, "best_fitness": 0.5, "model": weights, "optimizer": None}, tmp_path / "best.pt")
    out = main(
        [
            str(tmp_path / "best.pt"), "--model", "spiking_yolov3", "--class-names", ",".join(NAMES),
            "--out", str(tmp_path / "out.pt"), "data.root=/nowhere",
            f"model.head={{name: anchor, coding: yolov3, anchors: {coco}}}",
        ]
    )  # fmt: skip
    ours, x = open_run(out).model.eval(), torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        for a, b in zip(ours.head.decode_dense(ours.raw(x)), theirs.head.decode_dense(theirs.raw(x)), strict=True):
            torch.testing.assert_close(a, b)


def eas_checkpoint(weights):
    """As the trainer of YOLOX saves it."""
    optimizer = {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": np.float64(0.001), "params": [0]}]}
    return {"start_epoch": 30, "model": weights, "optimizer": optimizer, "best_ap": np.float64(0.3), "curr_ap": 0}


def in_container(weights):
    """As SpikingYOLOX's training script saves it."""
    return {f"0.{name}": weight for name, weight in weights.items()}


@pytest.mark.parametrize(
    "name, arguments, saved, says, epochs",
    [
        ("eas_snn_s", {}, eas_checkpoint, "zip format, 'model', ", 30),
        ("eas_snn_m", {"spiking": "backbone", "stem": "spiking", "in_channels": 3}, eas_checkpoint, "'model', ", 30),
        ("spiking_yolox_plif_s", {}, eas_checkpoint, "'model', ", 30),
        ("spiking_yolox_nano", {}, in_container, "int64, names without their leading '0.'\n", 0),
        ("spiking_yolox_s", {"spike_stages": "backup"}, in_container, "names without their leading '0.'\n", 0),
        ("spiking_yolox_s", {"in_channels": 1}, lambda weights: weights, "a state dict, ", 0),
    ],
)
def test_state_dicts_of_yolox_networks(name, arguments, saved, says, epochs, tmp_path, capsys):
    """Classes and input channels are read off, also where `in_channels` is not the model's own."""
    torch.manual_seed(0)
    theirs = create_model(name, num_classes=7, width=0.25, **arguments).eval()
    torch.save(saved(to_published_state_dict(theirs)), tmp_path / "best.pth")
    given = [f"model.args.{key}={value}" for key, value in arguments.items() if key != "in_channels"]
    command = [str(tmp_path / "best.pth"), "--model", name, "model.args.width=0.25", "data.root=/nowhere", *given]
    run = open_run(main([*command, "--out", str(tmp_path / "out.pt")]))
    said = capsys.readouterr().out
    channels = arguments.get("in_channels", model_defaults(name)["in_channels"])
    assert says in said and f"7 classes (read off the head), {channels} input channels" in said
    assert " 0 missing, 0 unexpected, 0 of another shape" in said and "not used" not in said
    assert run.content["epoch"] == epochs
    x = torch.rand(1, 1, 4, channels, 64, 64) if name.startswith("eas") else torch.rand(1, channels, 64, 64)
    with torch.no_grad():
        assert all(torch.equal(a, b) for a, b in zip(run.model.eval().raw(x), theirs.raw(x), strict=True))


def test_another_variant_of_a_yolox_network_is_said(tmp_path, capsys):
    weights = to_published_state_dict(create_model("eas_snn_s", width=0.125))
    torch.save(eas_checkpoint(weights), tmp_path / "best.pth")
    command = [str(tmp_path / "best.pth"), "--model", "eas_snn_s", "model.args.width=0.125", "data.root=/nowhere"]
    out = ["--out", str(tmp_path / "out.pt")]
    with pytest.raises(
        ValueError, match="tells the classes of eas_snn_s: choose another --model or model.args, or give"
    ):
        main([*command, *out, "model.args.spiking=backbone"])
    with pytest.raises(
        ValueError, match="does not hold the weights of eas_snn_s as built here: .* Nothing was written"
    ):
        main([*command, *out, "model.args.spiking=backbone", "--num-classes", "2"])
    assert "  missing: backbone." in capsys.readouterr().out
    main([*command, *out, "model.args.sampler={name: arsnn, depth: 1}"])
    said = capsys.readouterr().out
    assert "  unexpected: embedding.gate_conv.2.bias" in said
    assert "unexpected weights are not used; if the published network computes with them, model.args differ" in said
