"""AP against T: one pass gives what an evaluation at each T gives; interrupted runs; early exit; two processes."""

import json

import pytest
import torch
from untrained import EVENTS, IMAGES, parts, untrained_run

import evaluate
from analysis.firing_rate import FiringRates
from engine import curve as curves
from engine.curve import Curve, smallest_T
from engine.early_exit import EarlyExit
from engine.evaluation import evaluate as evaluate_split
from models.layers.step_weights import StepWeights

CPU = torch.device("cpu")


@pytest.fixture
def images(scenes, tmp_path):
    return untrained_run(tmp_path, scenes, IMAGES, protocol="coco")


def score(run, *arguments):
    return evaluate.main([str(run / "checkpoint_best.pt"), "--pictures", "0", *arguments])


def read(folder):
    return json.loads((folder / "curve.json").read_text())


def test_each_point_is_the_evaluation_at_that_T(images):
    metrics = score(images, "--steps", "4,1,2", "--spikes")
    folder = images / "eval" / "test_coco_best_steps=1-2-4"
    curve = read(folder)
    assert [point["T"] for point in curve["points"]] == [1, 2, 4] and metrics["T"] == 4
    assert curve["complete"] and curve["images"] == curve["expected_images"] == 10
    assert curve["protocol"] == "coco" and curve["split"] == "test" and curve["ann"] is None
    assert curve["provenance"] == metrics["provenance"] and curve["request"]["steps"] == [1, 2, 4]
    assert "smallest_T_within_1_percent" not in curve and curve["early_exit"] is None
    for point in curve["points"]:
        alone = score(images, f"eval.T={point['T']}", "--spikes")
        assert point["AP50"] == pytest.approx(alone["AP50"], abs=1e-9) and point["AP"] == pytest.approx(alone["AP"])
        rates = {layer: spikes / curve["neurons"][layer] / point["T"] for layer, spikes in point["spikes"].items()}
        assert rates == pytest.approx(alone["firing_rates"])
        of_all = sum(point["spikes"].values()) / sum(curve["neurons"].values())
        assert point["spikes_per_neuron"] == pytest.approx(of_all) and of_all > 0.01
        assert point["spikes_per_neuron_and_step"] == pytest.approx(of_all / point["T"])
    assert metrics["AP50"] == curve["points"][-1]["AP50"] and metrics["firing_rates"] == pytest.approx(rates)
    assert (folder / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((folder / "detections.json").read_text())


@pytest.mark.parametrize(
    "data, steps, args",
    [
        (IMAGES, [1, 2, 5], ""),
        (IMAGES, [1, 2, 5], ", encoder: temporal, readout: learned"),
        (EVENTS % "", [1, 2], ""),
        (EVENTS % "", [1, 2], ", readout: learned"),
    ],
)
def test_the_detections_at_each_T_are_those_of_the_first_T_steps(scenes, tmp_path, data, steps, args):
    model, loader, new_evaluator = parts(untrained_run(tmp_path, scenes, data, args=args))
    with torch.no_grad():
        for weights in (m.weight for m in model.modules() if isinstance(m, StepWeights)):
            weights.uniform_(0.2, 0.8)
    curve = Curve(model, steps, new_evaluator)
    curve.run(loader, CPU)
    found = {T: curve.scored[T].detections() for T in steps}
    assert len({str(detections) for detections in found.values()}) == len(steps)
    for T in steps:

        def predict(x, batch, T=T):
            model.T = T
            yield model(x[:T] if x.dim() == 5 else x)

        alone = new_evaluator()
        evaluate_split(predict, loader, [alone], CPU)
        assert len(alone.detections()) == len(found[T]) > 20
        for a, b in zip(alone.detections(), found[T], strict=True):
            assert a["image_id"] == b["image_id"] and a["bbox"] == pytest.approx(b["bbox"], abs=1e-2)
            assert a["score"] == pytest.approx(b["score"], abs=1e-4)


def test_events_are_scored_after_each_of_their_frames(scenes, tmp_path):
    run = untrained_run(tmp_path, scenes, EVENTS % "")
    metrics = score(run, "--steps", "1,2")
    curve = read(run / "eval" / "test_prophesee_best_steps=1-2")
    assert curve["points"][1]["AP50"] == metrics["AP50"] == pytest.approx(score(run)["AP50"])
    assert curve["points"][0]["spikes_per_neuron"] < curve["points"][1]["spikes_per_neuron"]
    with pytest.raises(ValueError, match="--steps 1,3: a window of events has 2 frames, so T is at most 2"):
        score(run, "--steps", "1,3")
    with pytest.raises(ValueError, match="no first step: leave out --steps and --noise, or add "):
        score(run, "--steps", "1", "data.args.sampling=sequential", "data.args.window_ms=100")


@pytest.mark.parametrize("steps", ["", "0,2", "a", "1.5", "-1"])
def test_steps_that_are_none(images, steps):
    with pytest.raises(ValueError, match=f"--steps {steps}: give whole numbers above 0"):
        score(images, f"--steps={steps}")


def test_what_has_no_curve_is_refused(scenes, tmp_path):
    twin = untrained_run(tmp_path, scenes, IMAGES, neuron="relu", protocol="coco")
    with pytest.raises(ValueError, match="no spiking neurons, so every T .*python convert.py CHECKPOINT"):
        score(twin, "--steps", "1,2")
    with pytest.raises(ValueError, match="--early-exit compares the detections at several T: add them"):
        score(twin, "--early-exit")
    with pytest.raises(ValueError, match="--binary is for one T, and this evaluation has T = .2.: leave it out"):
        evaluate.main(
            [str(untrained_run(tmp_path / "b", scenes, IMAGES) / "checkpoint_best.pt"), "--binary", "--steps=2"]
        )


def stopped_at(monkeypatch, count, error=KeyboardInterrupt):
    """The simulation of batch number `count` ends with `error` after its first T."""
    simulate, begun = curves.simulate, []

    class Stops:
        def __init__(self, simulation):
            self.simulation = simulation

        def __iter__(self):
            yield next(self.simulation)
            raise error

        def __getattr__(self, name):
            return getattr(self.simulation, name)

    def stopping(*arguments):
        begun.append(1)
        return Stops(simulate(*arguments)) if len(begun) == count else simulate(*arguments)

    monkeypatch.setattr(curves, "simulate", stopping)


def test_an_interrupted_run_leaves_the_curve_of_the_images_seen(images, monkeypatch):
    folder = images / "eval" / "test_coco_best_steps=1-2"
    command = ("--steps", "1,2", "eval.batch_size=4")
    whole = score(images, *command, "--out", str(images / "whole"))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt, match="no curve"):
        stopped_at(patch, 1)
        score(images, *command)
    folder = next((images / "eval").glob("*steps=1-2*"), None)
    assert folder is None
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt, match=r"curve.json .* 4 of 10 images so far"):
        stopped_at(patch, 2)
        score(images, *command)
    (folder,) = (images / "eval").glob("*steps=1-2*")
    assert {path.name for path in folder.iterdir()} == {"curve.json", "curve.png", "metrics.json"}
    part = read(folder)
    assert not part["complete"] and part["images"] == 4 and part["expected_images"] == 10
    model, loader, new_evaluator = parts(images)
    alone = Curve(model, [1, 2], lambda: new_evaluator(allow_missing=True))
    alone.run(list(loader)[:2], CPU)
    points = alone.summary("coco")["points"]
    for ours, other in zip(part["points"], points, strict=True):
        assert ours["AP50"] == pytest.approx(other["AP50"]) and ours["spikes"] == pytest.approx(other["spikes"])
    assert "incomplete" in json.loads((folder / "metrics.json").read_text())

    again = score(images, *command)
    assert again["AP50"] == whole["AP50"] and read(folder)["points"] == read(images / "whole")["points"]
    complete = read(folder)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt, match="earlier evaluation are as they were"):
        stopped_at(patch, 2)
        score(images, *command)
    assert read(folder) == complete


def test_an_error_after_the_run_does_not_lose_the_curve(images, monkeypatch):
    monkeypatch.setattr("engine.evaluations.checkpoint.draw_samples", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        score(images, "--steps", "1,2")
    folder = images / "eval" / "test_coco_best_steps=1-2"
    assert read(folder)["complete"] and read(folder)["images"] == 10
    assert "incomplete" in json.loads((folder / "metrics.json").read_text())


def test_the_curve_is_written_during_the_run_and_before_an_error(images, monkeypatch):
    model, loader, new_evaluator = parts(images)
    seen = []
    curve = Curve(model, [1, 2], new_evaluator)
    save = lambda: seen.append(curve.summary("coco")["images"])  # noqa: E731
    stopped_at(monkeypatch, 4, error=ZeroDivisionError)
    with pytest.raises(ZeroDivisionError):
        curve.run(loader, CPU, save=save, every=0)
    assert seen[0] == 2 and seen[-1] == 6


def image(*rows):
    """Detections with rows of (x, score, label)."""
    boxes = torch.tensor([[x, 0, x + 20, 20] for x, _, _ in rows], dtype=torch.float32).reshape(-1, 4)
    scores, labels = (torch.tensor([row[k] for row in rows]) for k in (1, 2))
    return {"boxes": boxes, "scores": scores, "labels": labels}


def test_detections_that_have_settled():
    settled = EarlyExit(0.3)
    before = image((0, 0.8, 1), (50, 0.6, 0), (90, 0.1, 0))
    assert settled(before, image((50.5, 0.62, 0), (0, 0.76, 1)))
    for now in (
        image((0, 0.8, 1)),  # fewer
        image((0, 0.8, 1), (50, 0.6, 1)),  # another label
        image((0, 0.8, 1), (53, 0.6, 0)),  # IoU 0.74
        image((0, 0.7, 1), (50, 0.6, 0)),  # another score
        image((0, 0.8, 1), (0, 0.8, 1)),  # as many, but one without a partner
    ):
        assert not settled(before, now) and not settled(now, before)
    assert not settled(image(), image()) and not settled(image((0, 0.2, 1)), image((0, 0.2, 1)))


def test_an_image_that_has_settled_keeps_its_detections_and_a_settled_batch_ends(images):
    """The first batch settles at T = 2 and 4, of the others one image, at T = 8."""
    model, loader, new_evaluator = parts(images)
    asked, done, steps = [], [], [1, 2, 4, 8]

    def exits(before, now):
        asked.append(1)
        return len(asked) in (1, 3, 9)  # T = 2: both images, T = 4: the one left; then the other batches

    exits.rule = "by number"
    whole = Curve(model, steps, new_evaluator)
    whole.run(loader, CPU)
    early = Curve(model, steps, new_evaluator, early_exit=exits, progress=done.append)
    early.run(loader, CPU)
    assert sum(done) == 10 * 8 and len(asked) == 3 + 4 * 6
    points = early.summary("coco")["points"]
    assert [point["mean_T"] for point in points] == [1, 2, (2 + 9 * 4) / 10, (2 + 4 + 8 * 8) / 10]
    assert points[3]["spikes_per_neuron"] / points[3]["spikes_per_neuron_and_step"] == pytest.approx(
        (2 * 4 + 8 * 8) / 10
    )
    first, second = next(iter(loader)).image_ids
    kept, full = ({T: dict(evaluator.state()) for T, evaluator in c.scored.items()} for c in (early, whole))
    for T in steps:
        for name, rows in kept[T].items():
            assert rows.tolist() == full[min(T, {first: 2, second: 4}.get(name, 8))][name].tolist()
    assert full[8][first].tolist() != full[2][first].tolist()
    assert points[3]["spikes"] != whole.summary("coco")["points"][3]["spikes"]


def test_early_exit_on_the_command_line(images):
    metrics = score(images, "--steps", "1,2,4", "--early-exit", "0.4")
    (folder,) = (images / "eval").glob("*early_exit*")
    curve = read(folder)
    assert "score >= 0.4" in curve["early_exit"] and all(point["mean_T"] <= point["T"] for point in curve["points"])
    assert metrics["request"]["early_exit"] == 0.4


def test_the_smallest_T_near_the_ann():
    points = [{"T": T, "AP50": ap} for T, ap in ((16, 0.1), (32, 0.496), (64, 0.494), (128, 0.4899))]
    assert smallest_T(points, {"AP50": 0.5}) == {"smallest_T_within_1_percent": 32, "smallest_T_within_1_point": 32}
    assert smallest_T(points[2:], {"AP50": 0.5}) == {
        "smallest_T_within_1_percent": None, "smallest_T_within_1_point": 64
    }  # fmt: skip
    assert smallest_T(points, None) == {} == smallest_T(points, {"AP50": None})


def test_firing_rates_of_a_curve_are_those_of_a_recorder(images):
    model, loader, new_evaluator = parts(images)
    model.T = 3
    with FiringRates(model) as firing, torch.inference_mode():
        for batch in loader:
            model(batch.to("cpu")[0])
    curve = Curve(model, [3], new_evaluator)
    curve.run(loader, CPU)
    assert curve.firing_rates() == pytest.approx(firing.rates(), rel=1e-4)
    assert curve.spike_shares() == {} == firing.shares()
