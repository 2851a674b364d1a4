"""Every registered model, and every form of one, goes through the commands: spikes and energy, prediction, ONNX."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from family_members import MEMBERS
from PIL import Image
from quantised_spikes import rounding_of_spikes
from untrained import untrained_run

import convert
import evaluate
import export
import predict
from data.recordings import write_boxes, write_dat
from data.recordings.boxes import BOX_DTYPE
from data.sample import collate
from engine.build import build_dataset
from engine.config import config_from_plain
from engine.runs.open import Run, open_run
from models import has_sampler, list_models
from models.deploy.onnx_graph.check import check
from models.deploy.onnx_graph.session import Session
from neurons import MultiStepNeuron
from registry import UserError

PHOTOS = "name: yolo, args: {class_names: [car, pedestrian]}"
EVENTS = "name: gen1, args: {window_ms: 100, classes: [car, pedestrian]%s}"
SEQUENCE = EVENTS % ", sampling: sequential"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """{"photos", "events"}: two images, or a recording of two windows, for each split; 64 x 96 pixels."""
    photos, events = (tmp_path_factory.mktemp(name) for name in ("photos", "events"))
    rng = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for folder in (photos / split / "images", photos / split / "labels", events / split):
            folder.mkdir(parents=True)
        for k in range(2):
            pixels = rng.integers(0, 256, (64, 96, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(photos / split / "images" / f"{k}.png")
            (photos / split / "labels" / f"{k}.txt").write_text(f"{k} 0.5 0.5 0.4 0.6\n")
        t = np.sort(rng.integers(0, 200_000, 6000))
        x, y, p = (rng.integers(0, n, len(t)) for n in (96, 64, 2))
        write_dat(events / split / "a_td.dat", t, x, y, p, 96, 64)
        boxes = [(100_000 * k, 10, 12, 40, 30, k % 2, 1, 1.0) for k in (1, 2)]
        write_boxes(events / split / "a_bbox.npy", np.array(boxes, BOX_DTYPE))
    return {"photos": photos, "events": events}


@pytest.fixture
def made(folders, tmp_path, monkeypatch):
    """made(name, data, **arguments of untrained_run) -> (checkpoint, source of predict.py) of a small detector."""

    monkeypatch.setattr("engine.export.onnx_file.REPEATS", 1)  # calls and steps whose time is printed
    monkeypatch.setattr("engine.conversion_table.TIMED", 1)

    def make(name, data=None, **kwargs):
        data = data or (EVENTS % "" if has_sampler(name) else PHOTOS)
        root = folders["photos" if data == PHOTOS else "events"]
        settings = {"head": "null", "neuron": "null", "protocol": "raw"} | kwargs
        run = untrained_run(tmp_path / "run", root, data, name, **settings)
        return run / "checkpoint_best.pt", root / "test" / ("images" if data == PHOTOS else "")

    return make


@pytest.fixture(scope="module")
def leaky(folders, tmp_path_factory):
    """A converted network whose read-out has a leak."""
    folder, spec = tmp_path_factory.mktemp("leaky") / "run", ("spiking_yolov3", "null", "null")
    run = untrained_run(folder, folders["photos"], PHOTOS, *spec, protocol="raw")
    return convert.main([str(run), "--images", "2", "--T", "2", "--leak", "0.9"])


def spikes_and_energy(run: Run, *words: str) -> None:
    """Of every spiking layer the rate, of the network the energies."""
    metrics = evaluate.main([str(run.checkpoint), "--spikes", "--energy", "--pictures", "0", *words])
    (file,) = run.checkpoint.parent.glob("eval/*/energy.json")
    energy = json.loads(file.read_text())
    layers = run.model.spiking_layers()
    assert metrics.get("firing_rates", {}).keys() == layers.keys()
    assert (energy["total"]["synops"] > 0) == bool(layers) and energy["total"]["papers_mJ"] > 0
    assert energy["samples"] == metrics["images"] == 2


def boxes(run: Run, source: Path) -> None:
    out = predict.main([str(run.checkpoint), str(source), "--save-json", "--no-draw", "--score", "0.001"])
    found = json.loads((out / "predictions.json").read_text())
    assert {entry["image_id"] for entry in found} == {1, 2}


def inputs(run: Run) -> torch.Tensor:
    """The two samples of the test split."""
    samples = build_dataset(config_from_plain(run.config), "test")
    return collate([samples[0], samples[1]], samples.scale).to("cpu")[0]


def same_in_onnxruntime(run: Run) -> None:
    """The file gives boxes and scores of PyTorch; where a value at a threshold differs, all layers agree without."""
    path = export.main([str(run.checkpoint), "--format", "onnx"])
    model, x = run.model, inputs(run)
    neurons = [name for name, module in model.named_modules() if isinstance(module, MultiStepNeuron)]
    agreement = check(onnx.load(path), model, neurons, x)
    with torch.no_grad():
        wanted = model.head.candidates(model.raw(x))
    found = Session(path)(x)
    close = [torch.allclose(found[k], v, 1e-3, 1e-3) for k, v in zip(("boxes", "scores"), wanted, strict=True)]
    assert all(close) or agreement.given_spikes is not None


@pytest.mark.parametrize("name", list_models())
def test_every_model(name, made):
    """One model of each family whole, with T = 2; the others, which differ in size, with T = 1, to the file's check."""
    whole = name in MEMBERS.values()
    checkpoint, source = made(name, T=2 if whole else 1)
    run = open_run(checkpoint)
    spikes_and_energy(run)
    if whole:
        boxes(run, source)
        same_in_onnxruntime(run)
    else:
        export.main([str(checkpoint), "--format", "onnx", "--batch", "2"])  # kept if it computes the same


MEMORY = ", memory: {name: leaky, levels: null}"
TERNARY = "{name: ternary_if, v_threshold: 0.1}"
FORMS = {
    "event frames in sequence, gated memory": ("ems_resnet10_ee", SEQUENCE, {"args": ", memory: gated"}),
    "event frames in sequence, leaky memory": ("ems_resnet10", SEQUENCE, {"args": MEMORY}),
    "temporal encoder, learned read-out": ("ems_resnet10", PHOTOS, {"args": ", encoder: temporal, readout: learned"}),
    "ternary, another head": ("ems_resnet10", PHOTOS, {"neuron": TERNARY, "head": "dfl"}),
    "twin, pixels of published weights": (
        "spiking_yolox_nano", PHOTOS, {"neuron": "silu", "args": ", pixels: bgr255"},
    ),
    "rsnn, backbone and neck": ("eas_snn_s", EVENTS % "", {"args": ", sampler: rsnn, spiking: backbone_neck"}),
    "snn, backbone": ("eas_snn_s", EVENTS % "", {"args": ", sampler: snn, spiking: backbone"}),
    "counts, an ANN": ("eas_snn_s", EVENTS % "", {"args": ", sampler: count, spiking: none"}),
    "two frames": ("eas_snn_s", EVENTS % "", {"args": ", sampler: {out_steps: 2, rpd: false}, stem: spiking"}),
    "bins forwards, in sequence": ("eas_snn_s", SEQUENCE, {"args": ", sampler: {reverse: false, readout: avg}"}),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_every_form(form, made, capsys):
    name, data, kwargs = FORMS[form]
    checkpoint, source = made(name, data, **kwargs)
    run = open_run(checkpoint)
    spikes_and_energy(run)
    boxes(run, source)
    capsys.readouterr()
    same_in_onnxruntime(run)
    assert ("begins every window in the reset state" in capsys.readouterr().out) == (data == SEQUENCE)


SYMMETRIC = "--neuron symmetric --decode spike_count --encoder bernoulli --bias-at 2 --T 3"
CONVERTED = {
    "if, event frames": ("ems_resnet10", EVENTS % "", "relu", ""),
    "signed_if, gated pools": ("spiking_yolo", PHOTOS, "leaky_relu", "--T 3"),
    "qcfs": ("spiking_yolov3_fc", PHOTOS, "{name: qcfs, L: 4, per_channel: true}", "--T 3"),
    "sth, accumulated pools": ("double_threshold_tiny", PHOTOS, "sth", "--T 3 --pool accumulated --v-init 0.9"),
    "symmetric, spike counts, Bernoulli": ("ems_resnet10_ee", PHOTOS, "relu", SYMMETRIC),
    "corrected_if, latency": ("spiking_yolov3", PHOTOS, "relu", "--T 3 --neuron corrected_if --encoder latency"),
    "sampler": ("eas_snn_s", EVENTS % "", "relu", "--T 3"),
    "Fourier units": ("spiking_yolox_nano", PHOTOS, "relu", "--T 3"),
}


@pytest.mark.parametrize("form", CONVERTED)
def test_every_conversion(form, made):
    name, data, neuron, options = CONVERTED[form]
    checkpoint, source = made(name, data, neuron=neuron, args=", spike_stages: full" if "yolox" in name else "")
    run = open_run(convert.main([str(checkpoint), "--images", "2", *options.split()]))
    spikes_and_energy(run, "--steps", "2")
    boxes(run, source)
    same_in_onnxruntime(run)


INT8 = {"spikeyolo_n": "ilif", "spiking_yolov3": "relu"}


@pytest.mark.parametrize("name", INT8)
def test_int8_rounds_no_spike(name, made, capsys):
    """Of integers and of a converted network; of EMS-YOLO: test_onnx_file.py."""
    checkpoint, _ = made(name, neuron=INT8[name])
    if INT8[name] == "relu":
        checkpoint = convert.main([str(checkpoint), "--images", "2", "--T", "3"])
    path = export.main([str(checkpoint), "--format", "onnx", "--int8", "--images", "2"])
    said = capsys.readouterr().out
    assert "checkpoint: AP" in said and "file: AP" in said
    about = json.loads(path.with_name(f"{path.name}.json").read_text())["int8"]["convolutions"]
    assert about["int8"] >= about["exact"] > 0 and about["float"] >= 2
    model = onnx.load(path)
    spikes = rounding_of_spikes(model)
    values = Session(model, [*spikes, *spikes.values()])(inputs(open_run(checkpoint)))
    assert all(torch.equal(values[name], values[rounded]) for name, rounded in spikes.items())
    assert sum(int(values[name].count_nonzero()) for name in spikes) > 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("onnx", r"leak = 0\.9: the read-out .* is a mean: convert it without a leak"),
        ("torch", r"leak = 0\.9: the read-out .* is a mean: convert it without a leak"),
        ("nir", "neurons of a converted network have a soft reset.* Train a spiking network with a hard reset"),
        ("safetensors", "a converted network has the weights of its source.*: export the source"),
        ("onnx --binary", "no SpikeConv layers: .* SpikeYOLO family. Leave --binary out"),
    ],
)
def test_what_a_converted_network_cannot_become(words, says, leaky):
    with pytest.raises(UserError, match=says):
        export.main([str(leaky), "--format", *words.split()])
