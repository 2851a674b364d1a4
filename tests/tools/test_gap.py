"""`python -m tools.gap`: two trainings, a table, a json, a csv and an image; a second call trains nothing again."""

import csv
import json
from pathlib import Path

import pytest

from analysis.plots.gap import plot_gap
from tools import gap

PAIR = ["model.neuron=ilif", "train.epochs=2", "--twin", "relu", "train.anneal={margin: [1.0, 0.0]}"]


@pytest.fixture(scope="module")
def config(config_in, tmp_path_factory):
    return Path(config_in(tmp_path_factory.mktemp("gap")))


def test_the_gap_of_a_network_and_its_twin(config, capsys):
    found = gap.main([str(config), *PAIR])
    out = config.parent / "runs" / "gap-tiny"
    assert json.loads((out / "gap.json").read_text()) == found
    assert (out / "gap.png").stat().st_size > 10_000
    assert [point["epoch"] for point in found["points"]] == [0, 1, 2]
    assert found["operations"]["twin"]["synops"] == 0 < found["operations"]["spiking"]["synops"]
    assert [point["step"] for point in found["curves"]["twin"]] == [p["step"] for p in found["curves"]["spiking"]]
    start, end = found["points"][0], found["points"][-1]
    layers = list(end["layers"])
    assert len(layers) == 16 and all(name.rpartition(".")[2].startswith("neuron") for name in layers)
    for name, row in end["layers"].items():
        assert row["dead"] + row["inside"] + row["saturated"] == pytest.approx(1)
        assert row["ratio"] == pytest.approx(row["gradient"] / end["twin"][name]["gradient"])
    assert start["layers"] != end["layers"] and start["twin"] != end["twin"]
    rows = list(csv.DictReader((out / "gap.csv").open()))
    assert len(rows) == 3 * len(layers)
    assert float(rows[-1]["ratio"]) == pytest.approx(end["layers"][rows[-1]["layer"]]["ratio"])
    printed = capsys.readouterr().out
    assert all(f"\n{name} " in printed for name in layers)
    assert "-- twin model.neuron=relu train.anneal={}\n" in printed
    assert "saturated: " in printed and "spiking  operations: " in printed
    checkpoint = out / "spiking" / "checkpoint_last.pt"
    written = checkpoint.stat().st_mtime_ns
    again = gap.main([str(config), *PAIR])
    assert again == found and checkpoint.stat().st_mtime_ns == written


@pytest.mark.parametrize(
    "words, message",
    [
        (["model.neuron=relu"], r"model.neuron = 'relu': has no spikes"),
        (["--twin", "lif"], r"--twin = 'lif': is a spiking neuron; give silu"),
        (["--twin", "sillu"], r"unknown neuron 'sillu'.*silu"),
    ],
)
def test_what_is_no_pair_is_said_before_any_training(config, words, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        gap.main([str(config), "--out", str(tmp_path / "out"), *words])
    assert not (tmp_path / "out").exists()


def test_layers_without_window_or_gradient_are_drawn(tmp_path):
    rows = {"a.neuron": {"gradient": 0.0, "ratio": 0.0}, "$b.neuron": {"gradient": 1.0, "ratio": None, "dead": 1.0}}
    point = {"epoch": 3, "layers": rows, "twin": {}}
    curves = {"spiking": [{"step": 3, "AP50": 0.5}], "twin": []}
    plot_gap({"points": [point], "curves": curves, "images": 1}, tmp_path / "gap.png", "one $point")
    assert (tmp_path / "gap.png").stat().st_size > 10_000
