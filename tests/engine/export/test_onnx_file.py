"""export.py --format onnx: the file, its metadata, its check, its AP; int8 whose spikes are not rounded."""

import json

import onnx
import pytest
import torch
from quantised_spikes import rounding_of_spikes

import export
from data.loader import calibration_loader
from data.sample import collate
from engine.build import build_dataset
from engine.config import config_from_plain
from engine.export.score import score, score_file
from engine.runs.open import open_run
from models.deploy.onnx_graph.session import OnnxDetector, Session
from registry import UserError


def split_of(run, name):
    return build_dataset(config_from_plain(open_run(run).config), name, generate=False)


def test_a_file_says_what_a_reader_needs_and_detects_the_same(run, capsys):
    path = export.main([str(run), "--format", "onnx"])
    assert path == run / "best.onnx" and "outputs agree to" in capsys.readouterr().out
    opened, dataset = open_run(run), split_of(run, "val")
    about = json.loads(Session(path).metadata()["spikesight"])
    assert about["classes"] == ["car", "pedestrian"] and about["T"] == 2 and about["D"] == 1 and not about["binary"]
    assert about["input"] == opened.input.to_plain() and about["selection"] == opened.model.head.selection
    beside = json.loads(path.with_name("best.onnx.json").read_text())
    assert beside["check"]["on"] == "4 samples of split val" and beside["bytes"] == path.stat().st_size
    x, _ = collate([dataset[i] for i in range(3)], dataset.scale).to("cpu")
    with torch.no_grad():
        boxes, scores = opened.model.head.candidates(opened.model.raw(x))
    found = Session(path)(x)
    assert torch.allclose(found["boxes"], boxes, 1e-3, 1e-3) and torch.allclose(found["scores"], scores, 1e-3, 1e-4)
    exact = score(opened.model, dataset, "coco")
    found = score_file(path, opened.model.head, dataset)
    assert found["images"] == len(dataset) and found["AP50"] == pytest.approx(exact["AP50"], abs=1e-6)


def test_int8_rounds_no_spike(run, capsys):
    """QuantizeLinear and DequantizeLinear give back every value of a spike tensor, bit by bit."""
    path = export.main([str(run), "--format", "onnx", "--int8", "--raw", "--images", "6"])
    said = capsys.readouterr().out
    assert path == run / "best_raw_int8.onnx" and "checkpoint: AP" in said and "file: AP" in said
    beside = json.loads(path.with_name("best_raw_int8.onnx.json").read_text())
    convolutions = beside["int8"]["convolutions"]
    assert convolutions["int8"] >= convolutions["exact"] > 15  # the others take membranes past a shortcut
    assert {"checkpoint", "file"} < beside["score"].keys()
    model = onnx.load(path)
    spikes = rounding_of_spikes(model)
    dataset = split_of(run, "test")
    x, _ = next(iter(calibration_loader(dataset, 2))).to("cpu")
    values = Session(model, [*spikes, *spikes.values()])(x)
    fired = 0
    for name, rounded in spikes.items():
        assert torch.equal(values[name], values[rounded]), name
        fired += int(values[name].count_nonzero())
    assert len(spikes) > 10 and fired > 0
    zero = {i.name: onnx.numpy_helper.to_array(i) for i in model.graph.initializer}
    of_spikes = [n for n in model.graph.node if n.op_type == "QuantizeLinear" and n.input[0] in spikes]
    assert all(zero[n.input[2]].item() == 0 for n in of_spikes)


def test_a_fixed_batch_is_filled_up_and_sizes_are_of_the_file(run):
    path = export.main([str(run), "--format", "onnx", "--batch", "3", "--size", "96,96", "--raw"])
    assert path == run / "best_raw_size=96-96_batch=3.onnx"
    session, head = Session(path), open_run(run).model.head
    assert session.shape == [2, 3, 2, 96, 96]
    assert len(OnnxDetector(session, head)(torch.rand(2, 2, 2, 96, 96))) == 2
    assert json.loads(session.metadata()["spikesight"])["input"]["size"] == [96, 96]


def test_without_data_it_is_checked_on_random_input(run, capsys):
    export.main([str(run), "--format", "onnx", "data.root=/nowhere"])
    said = capsys.readouterr().out
    assert "on random input, as the data could not be read (" in said and "/nowhere" in said
    with pytest.raises(UserError, match="/nowhere"):
        export.main([str(run), "--format", "onnx", "--int8", "data.root=/nowhere"])


def test_options_that_do_not_apply_are_refused(run):
    with pytest.raises(UserError, match="--int8: --format safetensors does not have it"):
        export.main([str(run), "--format", "safetensors", "--int8"])
    with pytest.raises(UserError, match="--batch 0: give a number"):
        export.main([str(run), "--format", "onnx", "--batch", "0"])
    with pytest.raises(UserError, match="there are no binary slots|covers the SpikeYOLO family"):
        export.main([str(run), "--format", "onnx", "--binary"])
    with pytest.raises(UserError, match="--split: --format onnx without --score does not have it"):
        export.main([str(run), "--format", "onnx", "--split", "test"])
    with pytest.raises(UserError, match="--images 0: give a number"):
        export.main([str(run), "--format", "onnx", "--int8", "--images", "0"])
    with pytest.raises(UserError, match="'eval.T=2': --format nir does not have it"):
        export.main([str(run), "--format", "nir", "eval.T=2"])


def test_a_place_that_cannot_be_written_is_refused_before_anything_is_computed(run):
    places = {
        str(run): "is a folder. Name a file in it",
        str(run / "deep" / "x.onnx"): "there is no folder .*deep. Make it",
        str(run / "checkpoint_best.pt"): "is the checkpoint itself",
    }
    for out, message in places.items():
        with pytest.raises(UserError, match=message):
            export.main([str(run), "--format", "onnx", "--out", out])
