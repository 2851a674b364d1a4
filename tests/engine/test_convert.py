"""convert.py: the checkpoint it writes, opened and evaluated; options, errors; AP against T beside the ANN's."""

import copy
import json
import shutil

import pytest
import torch
from untrained import EVENTS, IMAGES, parts, untrained_run

import convert
import evaluate
from data.loader import calibration_loader
from engine.build import build_dataset
from engine.config import config_from_plain
from engine.runs.checkpoint import load_checkpoint, save_checkpoint
from engine.runs.open import open_run
from models.deploy import ScaleTable, calibrate, calibrate_bias
from models.deploy import convert as convert_model
from models.encoders import BernoulliEncoder


@pytest.fixture(scope="module")
def twins(scenes, tmp_path_factory):
    return untrained_run(tmp_path_factory.mktemp("twin"), scenes, IMAGES, neuron="relu", protocol="coco")


@pytest.fixture
def twin(twins, tmp_path):
    """The run folder of an ANN, to work on."""
    return shutil.copytree(twins, tmp_path / "twin")


def images_of(run, count):
    """The first images that convert.py measures."""
    cfg = config_from_plain(open_run(run).config)
    dataset = build_dataset(cfg, "train", generate=False)
    return [batch.to("cpu")[0] for batch in calibration_loader(dataset, 4, count, cfg.seed)]


def same(a, b):
    return all(torch.equal(p, q) for p, q in zip(a, b, strict=True))


def test_the_file_is_the_conversion_in_python(twin, capsys):
    assert convert.main([str(twin), "--images", "512", "--percentile", "99.9"]).name == "converted.pt"
    path = convert.main([str(twin), "--images", "8"])
    assert path == twin / "converted_images=8.pt"
    run, ann = open_run(path), open_run(twin).model
    snn = convert_model(ann, calibrate(ann, images_of(twin, 8)))
    x = torch.rand(2, 3, 64, 96)
    run.model.T = snn.T = 12
    with torch.no_grad():
        assert same(run.model.raw(x), snn.raw(x)) and run.model.spike_counts() == snn.spike_counts()
        assert same(run.ann.raw(x), ann.raw(x)) and run.class_names == ["car", "pedestrian"]
    content = load_checkpoint(path)
    assert "optimizer" not in content and content["epoch"] == 1
    assert content["conversion"]["origin"]["images"] == 8
    said = capsys.readouterr().out
    for layer, neuron in snn.spiking_layers().items():
        assert any(line.startswith(layer) and type(neuron).__name__ in line for line in said.splitlines())
    assert f"python evaluate.py {path}" in said and "16 layers" in said and "for 2048" in said


def test_options_are_in_the_file_and_its_name(twin):
    arguments = ["--neuron", "symmetric", "--v-init", "0.25", "--decode", "spike_count", "--encoder", "bernoulli"]
    measuring = ["--percentile", "99", "--statistic", "per_image_max", "--granularity", "layer", "--images", "all"]
    path = convert.main([str(twin / "checkpoint_last.pt"), *arguments, *measuring, "--T", "8", "--bias-at", "4"])
    assert path.name.startswith("converted_last_images=all_percentile=99.0_statistic=per_image_max_granularity=layer_n")
    ann, images = open_run(twin).model, images_of(twin, None)
    assert len(images) > 2
    table = calibrate(ann, images, 99, "per_image_max", "layer", readout=True)
    snn = convert_model(ann, table, "symmetric", 0.25, "spike_count", BernoulliEncoder(8))
    snn = calibrate_bias(snn, ann, images_of(twin, convert.BIAS_IMAGES), 4)
    opened = open_run(path).model
    x = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        assert opened.T == 8 and opened.calibrated_at == 4 and same(opened.raw(x), snn.raw(x))


def test_scales_come_from_a_file(twin):
    ann = open_run(twin).model
    measured = convert.main([str(twin), "--images", "4", "--save-scales", str(twin / "scales.json")])
    table = ScaleTable.load(twin / "scales.json")
    assert all(torch.equal(table[name], lam) for name, lam in calibrate(ann, images_of(twin, 4)).items())
    ScaleTable({name: torch.full((1,), 2.0) for name in table}).save(twin / "two.json")
    path = convert.main([str(twin), "--scales", str(twin / "two.json")])
    assert path.name == "converted_scales=two.pt" and path != measured
    assert all((lam == 2).all() for lam in open_run(path).model.scales.values())
    with pytest.raises(ValueError, match="--scales measures nothing: leave out --images and --percentile"):
        convert.main([str(twin), "--scales", str(twin / "two.json"), "--images", "4", "--percentile", "99"])
    (twin / "two.json").write_text(json.dumps(json.loads((twin / "two.json").read_text()) | {"scales": {"a": [1.0]}}))
    with pytest.raises(ValueError, match="scales of layer 'a', which the network does not have"):
        convert.main([str(twin), "--scales", str(twin / "two.json")])


def test_a_curve_stands_beside_the_ann_that_was_converted(twin):
    path = convert.main([str(twin), "--images", "8", "--out", str(twin / "snn.pt")])
    metrics = evaluate.main([str(path), "--pictures", "0", "--steps", "2,8", "--split", "val", "eval.nms_iou=0.4"])
    (folder,) = (twin / "eval").iterdir()
    curve = json.loads((folder / "curve.json").read_text())
    alone = evaluate.main([str(twin / "checkpoint_best.pt"), "--pictures", "0", "--split", "val", "eval.nms_iou=0.4"])
    assert curve["ann"]["AP50"] == alone["AP50"] and curve["ann"]["AP"] == alone["AP"]
    assert metrics["parameters"] == alone["parameters"] and metrics["T"] == 8
    assert metrics["neuron"] == "IF, converted from relu"
    assert metrics["conversion"]["calibration"]["images"] == 8 and metrics["conversion"]["encoder"]["name"] == "direct"
    assert {"smallest_T_within_1_percent", "smallest_T_within_1_point"} <= curve.keys()
    assert list(curve["neurons"]) == list(open_run(path).model.spiking_layers())
    model, loader, _ = parts(twin)
    assert curve["points"][1]["spikes_per_neuron"] > curve["points"][0]["spikes_per_neuron"] > 0


def test_a_converted_network_is_scored_at_many_T_unless_told_otherwise(twin, monkeypatch):
    monkeypatch.setattr("engine.curve_options.CONVERTED", [1, 3])
    path = convert.main([str(twin), "--images", "4"])
    metrics = evaluate.main([str(path), "--pictures", "0", "--noise", "0.3"])
    folder = twin / "eval" / "test_coco_converted_images=4_noise=0-0.3"
    robustness = json.loads((folder / "robustness.json").read_text())
    assert [point["T"] for point in robustness["densities"][1]["points"]] == [1, 3] and metrics["T"] == 3
    assert robustness["densities"][1]["ann"]["AP50"] is not None
    with pytest.raises(ValueError, match="eval.T=2 is for one T, and this evaluation has T = .1, 3.: leave it out"):
        evaluate.main([str(path), "eval.T=2"])


def test_a_network_trained_in_bf16_is_simulated_in_fp32(scenes, tmp_path):
    run = untrained_run(tmp_path / "run", scenes, EVENTS % "", neuron="relu", precision="bf16")
    path = convert.main([str(run), "--images", "2"])
    assert evaluate.main([str(path), "--pictures", "0", "--steps", "1,2"])["precision"] == "fp32"


def test_events_are_simulated_for_their_frames(scenes, tmp_path):
    run = untrained_run(tmp_path / "run", scenes, EVENTS % "", neuron="relu")
    path = convert.main([str(run), "--images", "4"])
    assert open_run(path).model.T == 2
    metrics = evaluate.main([str(path), "--pictures", "0"])
    assert [point["T"] for point in metrics["curve"]["points"]] == [2]
    for words, says in (
        (["--T", "4"], "--T 4: events have the 2 steps"),
        (["--encoder", "latency"], "a code of images"),
    ):
        with pytest.raises(ValueError, match=says):
            convert.main([str(run), *words])


def test_the_frame_of_a_sampler_is_shown_as_long_as_an_image(scenes, tmp_path):
    data = "name: gen1, args: {window_ms: 200}"
    run = untrained_run(tmp_path / "run", scenes, data, "eas_snn_s", "yolox", "relu")
    assert [open_run(convert.main([str(run), "--images", "2", *words])).model.T for words in ([], ["--T", "5"])] == [
        256,
        5,
    ]


def test_what_does_not_convert_is_named_before_anything_is_measured(scenes, tmp_path, twin, monkeypatch):
    monkeypatch.setattr(convert, "calibrate", None)
    run = untrained_run(tmp_path / "run", scenes, IMAGES)
    with pytest.raises(ValueError, match="network.stages.0.residual.neuron1.*LIF.*model.neuron=relu"):
        convert.main([str(run)])
    for arguments, says in (
        (["--images", "0"], "--images 0: give a number of training images, at least 1, or all"),
        (["--images", "few"], "--images few: give a number"),
        (["model.T=2"], "the checkpoint decides that"),
    ):
        with pytest.raises(ValueError, match=says):
            convert.main([str(twin), *arguments])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--neuron", "iff"], "neuron = 'iff'.*did you mean 'if'"),
        (["--encoder", "bernouli"], "encoder = 'bernouli'.*did you mean 'bernoulli'"),
        (["--decode", "vmem"], "decode = 'vmem'"),
        (["--percentile", "0"], "percentile = 0"),
    ],
)
def test_options_that_cannot_be(twin, arguments, says):
    with pytest.raises(ValueError, match=says):
        convert.main([str(twin), "--images", "4", *arguments])


def test_a_converted_checkpoint_is_bound_to_its_weights_and_checked(twin):
    path = convert.main([str(twin), "--images", "4", "--weights", "model"])
    with pytest.raises(ValueError, match="converted_weights=model_images=4.pt: was converted from the weights 'model'"):
        open_run(path)
    open_run(path, "model")
    with pytest.raises(ValueError, match="is converted already"):
        convert.main([str(path), "--weights", "model"])
    content = {key: value for key, value in load_checkpoint(path).items() if key != "format"}
    for key, value, says in (
        ("scales", {}, "no scales for layer"),
        ("encoder", {"name": "direct", "T": 4, "x": 1}, "argument .x"),
        ("encoder", {"name": "none"}, "encoder = 'none'"),
        ("arguments", {"nothing": 1}, "nothing"),
        ("bias_at", "4", "damaged"),
        ("origin", {"images": torch.ones(1)}, "holds a Tensor, not plain values"),
        (None, None, "its entry 'conversion' is damaged"),
    ):
        broken = copy.deepcopy(content)
        if key is None:
            broken["conversion"] = {}
        else:
            broken["conversion"][key] = value
        save_checkpoint(twin / "broken.pt", broken)
        with pytest.raises(ValueError, match=f"broken.pt: .*{says}"):
            open_run(twin / "broken.pt", "model")
