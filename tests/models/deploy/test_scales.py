"""ScaleTable: an ordered mapping, saved exactly, and what is wrong with it is named."""

import json

import pytest
import torch

from models.deploy.scales import ScaleTable


def table():
    scales = {"b.neuron": torch.tensor([0.1, 2.5e-7, 3.0]), "a.neuron": torch.rand(5, dtype=torch.float64) + 1e-3}
    return ScaleTable(scales, {"images": 7, "percentile": 99.9, "statistic": "all"}, {"b.neuron": 1e-3})


def test_is_a_mapping_in_the_order_given():
    scales = table()
    assert list(scales) == ["b.neuron", "a.neuron"] and len(scales) == 2 and "c" not in scales
    assert scales["b.neuron"].dtype == torch.float64 and scales["b.neuron"].shape == (3,)
    assert repr(scales) == "ScaleTable(2 layers, 8 channels, images=7, percentile=99.9, statistic=all)"


def test_does_not_follow_changes_of_the_given_tensor():
    lam = torch.ones(2, dtype=torch.float64)
    scales = ScaleTable({"a": lam})
    lam.zero_()
    assert scales["a"].tolist() == [1, 1]


def test_is_read_as_it_was_written(tmp_path):
    scales = table()
    scales.save(tmp_path / "scales.json")
    again = ScaleTable.load(tmp_path / "scales.json")
    assert list(again) == list(scales) and all(torch.equal(again[k], scales[k]) for k in scales)
    assert again.origin == scales.origin and again.clipped == scales.clipped
    assert [p.name for p in tmp_path.iterdir()] == ["scales.json"]
    assert sum(line.strip().startswith(('"a.neuron": [', '"b.neuron": [')) for line in open(tmp_path / "scales.json"))


def test_a_table_without_origin_is_written_too(tmp_path):
    ScaleTable({"a": torch.ones(1)}).save(tmp_path / "s")
    assert ScaleTable.load(tmp_path / "s").origin == {}


@pytest.mark.parametrize(
    ("lam", "message"),
    [
        (torch.tensor([1.0, float("nan")]), "a, channel 1: scale nan"),
        (torch.tensor([1.0, 2.0, float("inf")]), "a, channel 2: scale inf"),
        (torch.tensor([0.0]), "a, channel 0: scale 0; scales must be finite and above 0"),
        (torch.tensor([2.0, -1.5]), "a, channel 1: scale -1.5"),
        (torch.ones(2, 2), r"a: scales must be a tensor of one number per channel, \[C\], got torch.float32 \[2, 2\]"),
        (torch.ones(0), "a: scales must be a tensor"),
        (3.0, "a: scales must be a tensor of one number per channel, .* got 3.0"),
    ],
)
def test_wrong_scales_are_named(lam, message):
    with pytest.raises(ValueError, match=message):
        ScaleTable({"a": lam})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[: len(text) // 2], "not a readable file of scales"),
        (lambda text: "[" * 100_000, "not a readable file of scales"),
        (lambda text: "[1, 2]", "not a file of scales"),
        (lambda text: text.replace("scales-1", "scales-9"), "not a file of scales .no format 'spikesight-scales-1'"),
        (lambda text: text.replace("3.0]", "NaN]"), "b.neuron, channel 2: scale nan is no finite number"),
        (lambda text: text.replace("3.0]", "-3.0]"), "b.neuron, channel 2: scale -3"),
        (lambda text: text.replace("3.0]", '"3"]'), "b.neuron, channel 2: scale '3' is no finite number"),
        (lambda text: text.replace("3.0]", f"1{'0' * 400}]"), "b.neuron: a scale is beyond the range"),
        (lambda text: json.dumps(json.loads(text) | {"scales": [1]}), r"scales = \[1\] is no mapping"),
        (lambda text: json.dumps(json.loads(text) | {"scales": {"a": 1.5}}), "a: scales 1.5 are no list"),
        (lambda text: json.dumps(json.loads(text) | {"clipped": {"a": "much"}}), "clipped has 'a': 'much', no plain"),
        (lambda text: json.dumps(json.loads(text) | {"origin": {"images": [1]}}), r"origin has 'images': \[1\], no"),
    ],
)
def test_damaged_and_wrong_files_are_named(change, message, tmp_path):
    path = tmp_path / "scales.json"
    table().save(path)
    path.write_text(change(path.read_text()))
    with pytest.raises(ValueError, match=f"scales.json: {message}"):
        ScaleTable.load(path)


def test_files_that_cannot_be_read_or_written_are_named(tmp_path):
    with pytest.raises(ValueError, match="none.json: scales cannot be read: No such file"):
        ScaleTable.load(tmp_path / "none.json")
    (tmp_path / "binary").write_bytes(bytes(range(256)))
    with pytest.raises(ValueError, match="binary: not a readable file of scales"):
        ScaleTable.load(tmp_path / "binary")
    with pytest.raises(ValueError, match="scales.json: scales cannot be written"):
        table().save(tmp_path / "none" / "scales.json")


def test_of_layers_orders_and_widens():
    fitted = ScaleTable.of_layers({"b": torch.tensor([2.0]), "a": torch.tensor([1.0, 3.0])}, {"a": 2, "b": 3})
    assert list(fitted) == ["a", "b"] and fitted["b"].tolist() == [2, 2, 2]


@pytest.mark.parametrize(
    ("channels", "message"),
    [
        ({"a": 2}, "scales of layer 'b', which the network does not have.* There are a"),
        ({"a": 2, "b": 1, "c": 4}, r"no scales for layer 'c': give lam \[4\]"),
        ({"a": 3, "b": 1}, "a: 2 scales for 3 channels"),
    ],
)
def test_scales_of_another_network_are_named(channels, message):
    with pytest.raises(ValueError, match=message):
        ScaleTable.of_layers({"a": torch.ones(2), "b": torch.ones(1)}, channels)
