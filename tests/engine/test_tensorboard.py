"""What a training writes for TensorBoard, read back from its event files."""

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_trainer import Net, tiny_trainer

from engine.inspection import Inspection
from models import create_model

MEASURES = ("firing_rate", "dead", "saturated", "local_saturation_off_objects", "local_saturation_on_objects")


def read(folder):
    return EventAccumulator(str(folder), size_guidance={"images": 0, "tensors": 0}).Reload()


def group(tags, name):
    return {tag.removeprefix(f"{name}/") for tag in tags if tag.startswith(f"{name}/")}


def test_tags_are_in_few_groups_and_layers_in_one(run):
    board = read(run)
    tags = board.Tags()
    groups = {tag.split("/")[0] for tag in tags["scalars"]}
    assert groups == {"loss", "optim", "peak", "time", "val", "val_layers", "val_spikes"}
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
        assert len(images) == 3 and first.width <= 640 and len(first.encoded_image_string) < 100_000


def test_a_network_that_falls_silent_is_reported_once_in_both_places(tmp_path, capsys):
    """The neurons of the deeper layers get a threshold that nothing reaches."""
    from engine.runs.log import RunLog
    from engine.validation import Validation

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
