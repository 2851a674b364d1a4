"""evaluate.py --noise: AP under salt-and-pepper noise, in two of five steps of a spiking detector."""

import json

import pytest
import torch
from untrained import EVENTS, IMAGES, parts, untrained_run

import evaluate
from engine.curve_options import curve_options
from engine.evaluation import evaluate as evaluate_split
from engine.evaluation import predictor
from engine.robustness import noisy
from engine.runs import open_run
from models.noise import SaltAndPepper


def score(run, *arguments):
    return evaluate.main([str(run / "checkpoint_best.pt"), "--pictures", "0", *arguments])


@pytest.mark.parametrize("data, neuron", [(IMAGES, "lif"), (IMAGES, "relu"), (EVENTS % "", "lif")])
def test_each_density_is_an_evaluation_of_the_noisy_network(scenes, tmp_path, data, neuron):
    run = untrained_run(tmp_path, scenes, data, neuron=neuron, protocol="raw")
    metrics = score(run, "--noise", "0.3,0.05")
    (folder,) = (run / "eval").iterdir()
    assert "noise=0-0.05-0.3" in folder.name and (folder / "robustness.png").read_bytes().startswith(b"\x89PNG")
    written = json.loads((folder / "robustness.json").read_text())
    assert [row["density"] for row in written["densities"]] == [0, 0.05, 0.3]
    assert written["images"] == written["expected_images"] == 10 and "first 2 of every 5 steps" in written["noise"]
    assert written["densities"][0]["points"][0]["AP50"] == metrics["AP50"] and metrics["T"] == 2
    model, loader, new_evaluator = parts(run)
    for row in written["densities"]:
        every = (2, 5) if neuron == "lif" else (1, 1)
        detector = open_run(run).model
        detector.encoder = SaltAndPepper(detector.encoder, row["density"], *every)
        evaluator = new_evaluator()
        with predictor(detector, loader) as predict:
            evaluate_split(predict, loader, [evaluator], torch.device("cpu"))
        assert row["points"][0]["AP"] == pytest.approx(evaluator.score("raw")["AP"], abs=1e-6) and row["ann"] is None


def test_noise_ends_with_the_block(scenes, tmp_path):
    model = open_run(untrained_run(tmp_path, scenes, IMAGES)).model
    x, clean = torch.rand(2, 3, 64, 96), model.encoder
    with torch.no_grad(), pytest.raises(ZeroDivisionError), noisy(model, None, 0.2):
        steps = model.encode(x)
        assert not torch.equal(steps[0], x) and not torch.equal(steps[0], steps[1])
        raise ZeroDivisionError
    assert model.encoder is clean and torch.equal(model.encode(x)[0], x)


@pytest.mark.parametrize("densities", ["", "1.5", "-0.1", "a", "nan"])
def test_densities_that_are_none(densities):
    with pytest.raises(ValueError, match=f"--noise {densities}: give shares of the pixels"):
        curve_options(None, None, False, noise=densities)
