"""Values that change during training: when they have which value, resumed runs, their checkpoints, refusals."""

import json

import pytest
from ranks import interrupted

import evaluate
import train
from engine.anneal import Anneal, adjustable
from engine.runs.checkpoint import load_checkpoint
from engine.runs.open import open_run
from models import create_model

ILIF = {"name": "ilif", "D": 8, "outside": 0.1}


def model(neuron=ILIF, T=4, **kwargs):
    return create_model("spikeyolo_n", num_classes=2, width=0.125, T=T, neuron=neuron, **kwargs)


def test_values_go_linearly_to_the_last_one_and_stay():
    anneal = Anneal({"margin": [1.0, 0.0], "D": [2, 8], "T": [1, 4]}, 0.5, 8, built := model())
    assert [anneal.values(epoch)["margin"] for epoch in range(8)] == [1.0, 0.75, 0.5, 0.25, 0.0, 0.0, 0.0, 0.0]
    assert [anneal.values(epoch)["D"] for epoch in range(6)] == [2, 4, 5, 6, 8, 8]  # 3.5 and 6.5 to the even
    assert [anneal.values(epoch)["T"] for epoch in (0, 2, 4)] == [1, 2, 4]
    assert anneal.unfinished(0) == {"margin": 1.0, "D": 2, "T": 1} and anneal.unfinished(4) == {}
    assert built.T == 4 and adjustable(built) == {"D": {8}, "margin": {0.0}, "outside": {0.1}}  # as it was built
    for until, epochs in ((1.0, 3), (1.0, 1), (0.01, 3)):
        assert Anneal({"D": [2, 8]}, until, epochs, built).unfinished(epochs - 1) == {}


@pytest.mark.parametrize(
    ("ends", "message"),
    [
        ({"alpha": [0.5, 1]}, r"alpha: no neuron of this network has 'alpha' to change. There are D, margin, outside"),
        ({"margn": [1, 0]}, r"margn: no neuron .* did you mean 'margin'"),
        ({"D": [4, 6]}, r"D = \[4, 6\]: it ends at 6, but the model is built with 8, .* set D in model.neuron to"),
        ({"T": [1, 2]}, r"T = \[1, 2\]: it ends at 2, but the model is built with 4, .* set model.T to"),
        ({"D": [0, 8]}, r"D = \[0, 8\]: .*levels must be a positive integer"),
        ({"T": [0, 4]}, r"T = \[0, 4\]: T must be at least 1"),
        ({"margin": 1.0}, r"margin = 1.0: give the first and the last value, as in \[1.0, 0.0\]"),
        ({"margin": [1.0, "x"]}, r"margin = \[1.0, 'x'\]: give the first and the last value"),
    ],
)
def test_what_cannot_be_is_refused(ends, message):
    with pytest.raises(ValueError, match=rf"train.anneal.{message}"):
        Anneal(ends, 0.5, 4, model())


def test_binary_neurons_have_a_width_and_twins_have_nothing():
    lif = model({"name": "lif", "surrogate": {"name": "rectangle", "alpha": 2.0}})
    assert Anneal({"alpha": [0.5, 2.0]}, 1.0, 4, lif).values(0) == {"alpha": 0.5}
    with pytest.raises(ValueError, match="'D' to change. There are T$"):
        Anneal({"D": [1, 4]}, 0.5, 4, model("relu"))


@pytest.fixture
def options(tmp_path, tiny):
    """A run of 3 epochs on images whose D and T grow."""
    scenes = "{train: 3, val: 3, test: 1, seconds: 1.25, width: 96, height: 64, train_label_hz: 8, workers: 1}"
    return [
        tiny,
        "data.name=scene_images",
        f"data.root={tmp_path / 'images'}",
        f"data.args={{scenes: {scenes}}}",
        "data.size=[64, 96]",
        "data.augment={}",
        "model.name=ems_resnet10_ee",
        "model.neuron={name: ilif, D: 3}",
        "train.anneal={D: [1, 3], margin: [1.0, 0.0], T: [1, 2]}",
        "train.anneal_until=1",
    ]


def test_a_run_is_annealed_resumed_and_evaluated(options, tmp_path, capsys):
    run = train.main(options)
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [record["anneal/D"] for record in records] == [1, 2, 3]
    assert [record["anneal/margin"] for record in records] == [1.0, 0.5, 0.0]
    assert [record["anneal/T"] for record in records] == [1, 2, 2]  # 1.5 to the even
    content = load_checkpoint(run / "checkpoint_last.pt")
    best = load_checkpoint(run / "checkpoint_best.pt")
    assert "annealed" not in best and best["epoch"] == 3, "of the epochs with the last D alone"
    assert "annealed" not in content and content["model_kwargs"]["neuron"]["D"] == 3

    with interrupted(content["steps_per_epoch"] + 1):
        train.main([*options, "name=parts"])
    first = open_run(tmp_path / "runs" / "parts" / "checkpoint_last.pt")
    assert first.content["annealed"] == {"D": 1, "margin": 1.0, "T": 1}
    assert first.model.T == 1 and adjustable(first.model)["D"] == {1}
    capsys.readouterr()
    found = evaluate.main([str(tmp_path / "runs" / "parts" / "checkpoint_last.pt")])
    assert "train.anneal had reached D 1, margin 1, T 1 when" in capsys.readouterr().out
    assert found["T"] == 1 and found["annealed"]["D"] == 1

    parts = train.main([*options, "name=parts", "--resume"])
    other = [json.loads(line) for line in (parts / "metrics.jsonl").read_text().splitlines()]
    assert [{k: v for k, v in r.items() if k not in ("seconds", "peak_gib")} for r in other] == [
        {k: v for k, v in r.items() if k not in ("seconds", "peak_gib")} for r in records
    ]


def test_steps_of_events_are_those_of_their_frames(tiny):
    with pytest.raises(ValueError, match="train.anneal.T: only images can have any T"):
        train.main([tiny, "train.anneal={T: [1, 2]}"])
