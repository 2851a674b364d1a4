"""`evaluate.py --energy` writes energy.json, a brief of it in metrics.json, and prints it; also of several T."""

import json

import pytest
from untrained import IMAGES, untrained_run

import evaluate
from registry import UserError


@pytest.fixture(scope="module")
def run(scenes, tmp_path_factory):
    return untrained_run(tmp_path_factory.mktemp("run"), scenes, IMAGES, protocol="coco")


def test_energy_of_a_run(run, capsys):
    plain = evaluate.main([str(run / "checkpoint_best.pt"), "--pictures", "0"])
    command = [str(run / "checkpoint_best.pt"), "--energy", "--energy-memory", "qualia", "--pictures", "0", "--spikes"]
    metrics = evaluate.main(command)
    energy = json.loads((run / "eval" / "test_coco_best" / "energy.json").read_text())
    printed = capsys.readouterr().out
    assert "energy" not in plain and plain["AP"] == metrics["AP"]  # counting changes no detection
    assert energy["samples"] == metrics["images"] == len(energy["of_samples"]["synops"])
    assert metrics["energy"]["movement_mJ"] == energy["total"]["movement_mJ"] and energy["total"]["memory"] == "qualia"
    assert energy["total"]["synops"] == pytest.approx(metrics["operations"]["synops"])
    assert energy["total"]["macs"] == pytest.approx(metrics["operations"]["macs"])
    assert energy["provenance"]["commit"] and "moving data, qualia" in printed and "Davidson & Furber" in printed
    with pytest.raises(UserError, match="horowitz45"):
        evaluate.main([str(run / "checkpoint_best.pt"), "--energy-memory", "horowitz"])


def test_energy_at_each_T_is_that_of_the_evaluation_at_that_T(run):
    def score(*arguments):
        return evaluate.main([str(run / "checkpoint_best.pt"), "--energy", "--pictures", "0", *arguments])

    metrics = score("--steps", "1,2", "--report")
    folder = run / "eval" / "test_coco_best_steps=1-2"
    energy = json.loads((folder / "energy.json").read_text())
    assert energy["T"] == 2 == energy["mean_T"] and energy["samples"] == metrics["images"]
    assert energy["total"]["memory"] == "horowitz45"
    for point in metrics["curve"]["points"]:
        alone = score(f"eval.T={point['T']}")["energy"]
        assert point["synops"] == pytest.approx(alone["synops"]) and point["synops"] > 0
        assert point["papers_mJ"] == pytest.approx(alone["papers_mJ"])
        moved = [point["movement_low_mJ"], point["movement_high_mJ"]]
        assert moved == pytest.approx(alone["movement_mJ"], rel=0.15)  # step by step membranes are kept in between
    assert point["papers_mJ"] == pytest.approx(metrics["energy"]["papers_mJ"])
    assert moved == pytest.approx(metrics["energy"]["movement_mJ"])
    assert (folder / "ap_over_energy.png").read_bytes().startswith(b"\x89PNG")
    text = (folder / "report.html").read_text()
    assert "AP over the energy as papers estimate it" in text and f"{point['papers_mJ']:.3g}" in text
