"""What a training writes for TensorBoard, read back from its event files."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tensorboard.util import tensor_util
from tiny_trainer import MeanScore, Net, tiny_trainer

from engine.config import BASE, load_config
from engine.inspection import Inspection
from engine.runs.log import RunLog
from engine.validation import Validation
from models import create_model
from registry import UserError
from scoring.voc_ap import Curve

MEASURES = ("firing_rate", "dead", "saturated", "local_saturation_off_objects", "local_saturation_on_objects")


def read(folder):
    return EventAccumulator(str(folder), size_guidance={"images": 0, "tensors": 0}).Reload()


def group(tags, name):
    return {tag.removeprefix(f"{name}/") for tag in tags if tag.startswith(f"{name}/")}


def test_tags_are_in_few_groups_and_layers_in_one(run):
    board = read(run)
    tags = board.Tags()
    groups = {tag.split("/")[0] for tag in tags["scalars"]}
    assert groups == {"loss", "optim", "optim_grad_norm", "peak", "time", "val", "val_layers", "val_spikes"}
    layers = group(tags["scalars"], "val_layers/firing_rate")
    assert len(layers) == 16 and all(group(tags["scalars"], f"val_layers/{name}") == layers for name in MEASURES[1:-1])
    assert group(tags["scalars"], f"val_layers/{MEASURES[-1]}") < layers  # in coarse maps no cell is on an object
    for tag in (tag for tag in tags["scalars"] if tag.startswith(("val_layers/", "val_spikes/"))):
        events = board.Scalars(tag)
        assert len(events) == 3 and (tag == "val_spikes/silent_layers" or all(0 <= e.value <= 1 for e in events)), tag
    rates = [board.Scalars(f"val_layers/firing_rate/{layer}")[-1].value for layer in layers]
    assert board.Scalars("val_spikes/firing_rate")[-1].value == pytest.approx(sum(rates) / 16)
    assert board.Scalars("val_spikes/lowest_firing_rate")[-1].value == min(rates)


def test_images_are_few_and_small(run):
    board = read(run)
    pictures = {f"val_pictures/{i}" for i in range(4)}
    assert set(board.Tags()["images"]) == {"val_layers_pictures/firing", "val_layers_pictures/membranes", *pictures}
    for tag in board.Tags()["images"]:
        (first, *_), images = board.Images(tag), board.Images(tag)
        assert len(images) == 3 and first.width <= 640 and len(first.encoded_image_string) < 50_000
        drawn = Image.open(io.BytesIO(first.encoded_image_string))
        assert drawn.size == (first.width, first.height)


def test_a_network_that_falls_silent_is_reported_once_in_both_places(tmp_path, capsys):
    log, validation = RunLog(tmp_path, 1), Validation(None, None, "coco", None)
    for step, deep in enumerate((0.1, 0.0004, 0.0, 0.0)):
        validation._warn({"stem": 0.2, "deep": deep, "deeper": deep / 2}, log, step)
    log.close()
    said = capsys.readouterr().out
    assert said.count("warning:") == 1 and "2 of 3 spiking layers are silent" in said and "deep (0.04 %)" in said
    board = read(tmp_path)
    assert [event.value for event in board.Scalars("val_spikes/silent_layers")] == [0, 2, 2, 2]
    (event,) = board.Tensors("warnings/text_summary")
    assert event.step == 1 and b"2 of 3" in event.tensor_proto.string_val[0]


@pytest.mark.parametrize("neuron", ["relu", "ternary_if", "ilif"])
def test_any_neuron_can_be_inspected(neuron):
    model = create_model("ems_resnet10_ee", num_classes=2, T=2, width=0.125, neuron=neuron).eval()
    with torch.inference_mode(), Inspection(model) as seen:
        batch = type("Batch", (), {"targets": [{"boxes": torch.tensor([[8.0, 8.0, 40.0, 40.0]])}]})
        seen.first(lambda x, batch: [model(x)])(torch.rand(1, 3, 64, 64), batch)
    spiking = neuron != "relu"
    tags, images = seen.scalars(), seen.images()
    assert ("val_spikes/firing_rate" in tags) == spiking and "val_spikes/dead" in tags
    assert bool(group(tags, "val_layers/spikes_negative")) == (neuron == "ternary_if")
    assert set(images) == {"val_layers_pictures/membranes", *(["val_layers_pictures/firing"] if spiking else [])}
    assert all(0 <= value <= 1 for value in tags.values())


def test_a_network_without_neurons_has_no_such_tags(tmp_path):
    with Inspection(Net()) as seen:
        pass
    assert seen.scalars() == {} == seen.images()
    tiny_trainer(tmp_path, epochs=1).fit()
    assert not {tag for tag in read(tmp_path).Tags()["scalars"] if tag.startswith(("val_spikes", "val_layers"))}


def test_points_of_a_step_have_the_gradient_of_each_stage(run):
    board = read(run)
    stages = group(board.Tags()["scalars"], "optim_grad_norm")
    assert {"stem", "stages.0", "head"} <= stages
    total = [event.value for event in board.Scalars("optim/grad_norm")]
    of_stages = zip(*([e.value for e in board.Scalars(f"optim_grad_norm/{stage}")] for stage in stages), strict=True)
    assert [sum(v * v for v in values) ** 0.5 for values in of_stages] == pytest.approx(total, rel=1e-5)


def test_points_of_a_long_training_are_bounded(tmp_path):
    assert RunLog(tmp_path, 20, steps=100_000).every == 20
    assert RunLog(tmp_path, 20, steps=1_000_000).every == 200
    assert RunLog(tmp_path, 20).every == 20


def test_precision_and_recall_of_each_class_and_of_all(run):
    board = read(run)
    curves = group(board.Tags()["tensors"], "val_precision_recall")
    assert curves == {"car", "pedestrian", "all classes"}
    true, false, _, missed, precision, recall = tensor_util.make_ndarray(
        board.Tensors("val_precision_recall/all classes")[-1].tensor_proto
    )
    assert len(true) == 101 and true[0] + missed[0] == 13  # boxes of the validation split
    assert (recall == true / 13).all() and (precision == true / (true + false).clip(1)).all()
    assert (np.diff(true) <= 0).all() and (np.diff(false) <= 0).all()


def test_counts_above_a_score():
    curve = Curve(np.array([True, False, True]), np.array([0.9, 0.5, 0.5]), positives=4)
    true, false = curve.counts(np.array([0.0, 0.5, 0.6, 0.95]))
    assert true.tolist() == [2, 2, 1, 0] and false.tolist() == [1, 1, 0, 0]
    assert [part.tolist() for part in Curve(np.zeros(0, bool), np.zeros(0), 3).counts(np.array([0.5]))] == [[0], [0]]


def test_runs_can_be_compared_by_their_settings(run):
    content = HParamsPluginData.FromString(read(run).PluginTagToContent("hparams")["_hparams_/session_start_info"])
    found = {key: value.number_value or value.string_value for key, value in content.session_start_info.hparams.items()}
    assert found["model.name"] == "ems_resnet10_ee" and found["model.neuron"] == "lif" and found["train.epochs"] == 3
    assert found["model.args.width"] == 0.125 and found["train.ema_decay"] == pytest.approx(0.9)
    assert found["data.name"] == "gen1" and "counts" in found["data.args"] and len(found) < 25
    assert not {"data.root", "optim.weight_decay", "train.log_every", "device"} & found.keys()
    content = HParamsPluginData.FromString(read(run).PluginTagToContent("hparams")["_hparams_/experiment"])
    metrics = [metric.name.tag for metric in content.experiment.metric_infos]
    assert metrics == ["val/AP", "val/AP50"] and set(metrics) <= set(read(run).Tags()["scalars"])


def test_weights_are_scored_beside_their_average(tmp_path):
    trainer = tiny_trainer(tmp_path, epochs=2, both=True)
    trainer.fit()
    average, weights = ([e.value for e in read(tmp_path).Scalars(f"val/{key}")] for key in ("AP", "AP_of_weights"))
    assert len(average) == len(weights) == 2 and average != weights
    evaluator = MeanScore()
    trainer.validation._fill(evaluator, trainer.model, trainer.execution.device, "fp32")
    assert evaluator.score("coco")["AP"] == pytest.approx(weights[-1])
    with pytest.raises(UserError, match="no average beside the weights"):
        load_config(BASE.parent / "demo.yaml", ["train.eval_both=true", "train.ema_decay=0"])


def test_an_image_of_few_colours_is_written_as_it_is(tmp_path):
    image = torch.zeros(3, 20, 30, dtype=torch.uint8)
    image[:, 5:, :7] = torch.tensor([255, 92, 92])[:, None, None]
    log = RunLog(tmp_path, 1)
    log.images({"picture": image}, 4)
    log.close()
    (event,) = read(tmp_path).Images("picture")
    drawn = np.array(Image.open(io.BytesIO(event.encoded_image_string)).convert("RGB"))
    assert event.step == 4 and (drawn == image.permute(1, 2, 0).numpy()).all()
