"""evaluate.py: separate folders, settings recorded in metrics.json, drawings of the scored detections."""

import json
import runpy
import shutil
import sys

import pytest
import torch
from PIL import Image
from untrained import EVENTS, IMAGES, untrained_run

import evaluate
from data import eval_loader
from engine.drawn_samples import draw_samples
from engine.ema import build_ema
from engine.evaluation import predictor
from engine.evaluation_options import set_evaluation_options
from engine.runs.open import open_run
from models import create_model
from scoring.detections import read_truth


@pytest.fixture(scope="module")
def untrained(scenes, tmp_path_factory):
    """untrained(data) -> the run folder of a detector that finds much, at random."""
    return lambda *parts, **named: untrained_run(tmp_path_factory.mktemp("run"), scenes, *parts, **named)


@pytest.fixture(scope="module")
def run(untrained):
    return untrained()


@pytest.fixture(scope="module")
def images(untrained):
    return untrained(IMAGES, protocol="coco")


def score(run, *arguments, checkpoint="checkpoint_best.pt", pictures=0):
    return evaluate.main([str(run / checkpoint), "--pictures", str(pictures), *arguments])


def results(run):
    """{folder: metrics} of the evaluations of a run."""
    return {p.parent.name: json.loads(p.read_text()) for p in (run / "eval").glob("*/metrics.json")}


def test_two_evaluations_keep_both_results(untrained):
    run = untrained()
    test = score(run, "--plots", checkpoint="checkpoint_last.pt", pictures=2)
    before = {p: p.read_bytes() for p in (run / "eval").rglob("*") if p.is_file()}
    val = score(run, "--protocol", "coco", "--split", "val", pictures=2)
    assert results(run) == {"test_prophesee_last": test, "val_coco_best": val}
    assert all(path.read_bytes() == content for path, content in before.items())
    detections = run / "eval" / "val_coco_best" / "detections.json"
    with pytest.raises(ValueError, match=r"detections on split 'val' .*truth is split 'test'"):
        evaluate.main([str(run / "config.yaml"), "--detections", str(detections)])
    with pytest.raises(ValueError, match=r"detections on split 'val' .*truth is split .*test_prophesee_last"):
        truth = run / "eval" / "test_prophesee_last" / "annotations.json"
        evaluate.main(["--detections", str(detections), "--truth", str(truth)])
    again = evaluate.main([str(run / "config.yaml"), "--split", "val", "--detections", str(detections)])
    assert again["boxes"] != val["boxes"] and again["data"]["fingerprint"] == val["data"]["fingerprint"]


def test_what_differs_has_a_folder_of_its_own_and_the_same_replaces(untrained, capsys):
    run = untrained()
    changes = [(), ("--weights", "model"), ("data.size=[96,128]",), ("train.precision=bf16",), ("eval.nms_iou=0.3",)]
    for arguments in changes:
        score(run, *arguments)
    assert "replaced" not in capsys.readouterr().out
    score(run, checkpoint="checkpoint_last.pt")
    assert len(results(run)) == len(changes) + 1
    assert {"test_prophesee_best", "test_prophesee_best_weights=model", "test_prophesee_last"} <= set(results(run))
    assert "test_prophesee_best_eval.nms_iou=0.3" in results(run)
    before = set(results(run))
    score(run)
    assert "replaced the same evaluation of epoch 1, of 20" in capsys.readouterr().out and set(results(run)) == before


def test_a_named_folder_holds_one_evaluation(run, tmp_path):
    first = score(run, "--out", str(tmp_path / "a"))
    for other in (["--split", "val"], ["data.size=[96,128]"], ["--protocol", "raw"]):
        with pytest.raises(ValueError, match="a: holds another evaluation .*--out"):
            score(run, "--out", str(tmp_path / "a"), *other)
    assert json.loads((tmp_path / "a" / "metrics.json").read_text()) == first
    score(run, "--out", str(tmp_path / "a"))


def test_every_change_leaves_a_trace(run):
    plain = score(run)
    assert plain["request"]["config_changes"] == {} and plain["input_size"] == [64, 96]
    other = score(run, "data.size=[96,128]", "--split", "val", "eval.max_detections=7")
    assert other["input_size"] == [96, 128] and other["max_detections"] == 7
    assert other["request"]["config_changes"] == {
        "data.size": [[64, 96], [96, 128]],
        "data.test_split": ["test", "val"],
        "eval.max_detections": [None, 7],
    }
    for record in (plain, other):
        assert record["provenance"]["command"].startswith(f"evaluate.py {run}")
        assert {"commit", "dirty", "versions", "machine", "date"} <= set(record["provenance"])
        assert record["provenance"]["machine"]["device"] == "cpu"
        assert len(record["weights_digest"]) == 16 and record["data"]["root"] and record["data"]["boxes"]


def test_annotations_map_ids_to_files(run, images):
    score(run)
    folder = run / "eval" / "test_prophesee_best"
    truth = json.loads((folder / "annotations.json").read_text())
    assert all(image["file_name"].endswith("_td.dat") and image["clip"] for image in truth["images"])
    assert all(isinstance(image["t_us"], int) for image in truth["images"])
    assert truth["info"]["split"] == "test" and truth["info"]["fingerprint"]
    found = json.loads((folder / "detections.json").read_text())
    assert {d["image_id"] for d in found} <= {image["id"] for image in truth["images"]} and len(found) > 10
    score(images)
    truth = read_truth(images / "eval" / "test_coco_best" / "annotations.json")
    assert all(image["file_name"].endswith(".png") for image in truth["images"])


def test_annotations_are_the_truth_of_the_detections_beside_them(run):
    metrics = score(run)
    folder = run / "eval" / "test_prophesee_best"
    again = evaluate.main(
        ["--detections", str(folder / "detections.json"), "--truth", str(folder / "annotations.json")]
        + ["--protocol", "prophesee"]
    )
    assert again["AP"] == metrics["AP"] and again["boxes"] == metrics["boxes"]
    assert again["data"]["checked"].startswith("the same as in ")


def test_detections_without_their_metrics_are_scored_and_said_to_be_unchecked(run, tmp_path, capsys):
    score(run)
    (tmp_path / "found.json").write_bytes((run / "eval" / "test_prophesee_best" / "detections.json").read_bytes())
    metrics = evaluate.main([str(run / "config.yaml"), "--detections", str(tmp_path / "found.json")])
    assert "not checked: no metrics.json of a checkpoint's evaluation" in metrics["data"]["checked"]
    assert "not checked: no metrics.json of a checkpoint's evaluation" in capsys.readouterr().out


def test_figures_show_the_boxes_that_the_protocol_counts(run, monkeypatch):
    """Of small scenes prophesee leaves out most, raw nothing."""
    drawn = []
    monkeypatch.setattr("engine.evaluations.files.plot_precision_recall", lambda *args: drawn.append(args))
    monkeypatch.setattr("engine.evaluations.files.plot_confusion", lambda *args: drawn.append(args))
    boxes = {}
    for protocol in ("prophesee", "raw"):
        metrics = score(run, "--protocol", protocol, "--plots")
        (curves, _, title, ap), (truth, _, _, same) = drawn[-2:]
        assert sum(curve.positives for curve in curves.values()) == len(truth["annotations"]) == metrics["boxes"]
        assert title == same == f"split test, protocol {protocol}: {run.name} (checkpoint_best.pt)"
        assert ap == metrics["per_class_AP50"]
        boxes[protocol] = metrics["boxes"]
    assert 0 < boxes["prophesee"] < boxes["raw"]
    score(run, "--plots", "data.size=[96,128]")
    assert drawn[-1][3].endswith("(checkpoint_best.pt), data.size=[96, 128]")


@pytest.mark.parametrize(
    ("head", "neuron", "model"),
    [("anchor", "lif", "ems_resnet10_ee"), ("dfl", "ilif", "spikeyolo_n"), ("yolox", "lif", "ems_resnet10_ee")],
)
def test_score_threshold_and_nms_are_options(untrained, head, neuron, model):
    run = untrained(model=model, head=head, neuron=neuron)
    own = score(run)
    given = {"score_threshold": 0.2501, "nms_iou": 0.1, "max_detections": 5}
    found = {}
    for key, value in given.items():
        metrics = score(run, f"eval.{key}={value}")
        assert metrics[key] == value != own[key] and {k: metrics[k] for k in given if k != key} == {
            k: own[k] for k in given if k != key
        }
        file = run / "eval" / f"test_prophesee_best_eval.{key}={value}" / "detections.json"
        found[key] = json.loads(file.read_text())
    whole = json.loads((run / "eval" / "test_prophesee_best" / "detections.json").read_text())
    per_image = max(sum(d["image_id"] == i for d in found["max_detections"]) for i in range(1, 11))
    assert per_image == 5
    assert 0 < len(found["nms_iou"]) < len(whole)
    assert found["score_threshold"] == [d for d in whole if d["score"] > 0.2501]


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("eval.score_threshold=1.5", "eval.score_threshold = 1.5: give at least 0|0 or more"),
        ("eval.nms_iou=nan", "eval.nms_iou = nan"),
        ("eval.max_detections=0", "eval.max_detections = 0: give at least 1"),
        ("eval.T=0", "eval.T = 0: give at least 1"),
        ("eval.T=3", "eval.T = 3: only images can be shown for another number of steps. Events come in the 2 frames"),
        (
            "data.args.num_steps=3",
            "data.args.num_steps = 3, but model.T = 2 decides it",
        ),
        ("eval.score_treshold=0.1", "did you mean 'eval.score_threshold'"),
    ],
)
def test_options_that_cannot_be(run, override, says):
    with pytest.raises(ValueError, match=says):
        score(run, override)


def test_images_are_shown_for_another_number_of_steps(images, monkeypatch):
    seen = []
    monkeypatch.setattr("engine.recorded.predictor", lambda model, *a: seen.append(model) or predictor(model, *a))
    own, one, three = score(images), score(images, "eval.T=1"), score(images, "eval.T=3")
    assert [m["T"] for m in (own, one, three)] == [2, 1, 3] == [model.T for model in seen]
    assert {"test_coco_best", "test_coco_best_eval.T=1", "test_coco_best_eval.T=3"} <= set(results(images))
    found = [(images / "eval" / name / "detections.json").read_text() for name in results(images)]
    assert len(set(found)) == len(found)


def test_a_sequential_detector_is_drawn_as_it_was_scored(untrained, monkeypatch):
    """The boxes drawn are those in detections.json; from rest others would be found."""
    run = untrained(EVENTS % ", sampling: sequential, window_ms: 100")
    drawn = []
    draw = draw_samples

    def spy(evaluator, dataset, count):
        def side(x, truth, prediction, names):
            drawn.append(prediction)
            return torch.zeros(3, 8, 8, dtype=torch.uint8)

        images = draw(evaluator, dataset, count, side)
        drawn.append((list(images), dataset))
        return images

    monkeypatch.setattr("engine.evaluations.checkpoint.draw_samples", spy)
    score(run, pictures=3)
    *predictions, (ids, dataset) = drawn
    found = json.loads((run / "eval" / "test_prophesee_best" / "detections.json").read_text())
    assert len(ids) == len(predictions) == 3
    for image_id, prediction in zip(ids, predictions, strict=True):
        mine = [d for d in found if d["image_id"] == image_id]
        assert prediction["scores"].tolist() == [d["score"] for d in mine]
        x, y, w, h = torch.tensor([d["bbox"] for d in mine]).T  # these recordings have the size of the samples
        torch.testing.assert_close(prediction["boxes"].float(), torch.stack([x, y, x + w, y + h], 1))
    carried = predictions[-1]["scores"]

    model = open_run(run).model
    last = next(
        b for b in reversed(list(eval_loader(dataset, 1))) if b.image_ids == ids[-1:] and b.targets[0] is not None
    )
    with torch.inference_mode():
        rest = model(last.to("cpu")[0])[0]["scores"]
    assert len(rest) != len(carried) or not torch.allclose(rest.double(), carried)


def test_images_are_named_by_image_id(images):
    score(images, pictures=2)
    folder = images / "eval" / "test_coco_best"
    ids = [image["id"] for image in json.loads((folder / "annotations.json").read_text())["images"]]
    assert {p.name for p in (folder / "pictures").iterdir()} == {f"image_{ids[0]}.png", f"image_{ids[-1]}.png"}
    with Image.open(folder / "pictures" / f"image_{ids[0]}.png") as image:
        assert image.width > 2 * 96


def test_an_interrupt_is_one_line(monkeypatch, capsys):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("engine.evaluations.checkpoint.open_run", interrupt)
    monkeypatch.setattr(sys, "argv", ["evaluate.py", "a.pt"])
    with pytest.raises(SystemExit, match="^1$"):
        runpy.run_path(evaluate.__file__, run_name="__main__")
    assert capsys.readouterr().err == "interrupted: the results of this evaluation were not written\n"


def test_evaluation_leaves_scenes_of_other_settings_alone(images, scenes, tmp_path):
    root = tmp_path / "mine"
    shutil.copytree(scenes, root)
    (root / "notes.txt").write_text("by hand")
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    other = "data.args.scenes={train: 1, val: 1, test: 1, seconds: 0.5}"
    with pytest.raises(ValueError, match="mine: holds other scenes than data.args.scenes: train is 3, not 1"):
        score(images, f"data.root={root}", other)
    with pytest.raises(ValueError, match="nowhere: has no scenes, and evaluation generates none"):
        score(images, f"data.root={tmp_path / 'nowhere'}")
    metrics = score(images, f"data.root={root}", "data.args.scenes=null")
    assert metrics["images"] == 10
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before
    assert not (tmp_path / "nowhere").exists()


def test_options_change_the_evaluated_copy_alone():
    """As in a training, which validates the averaged model."""
    model = create_model("ems_resnet10_ee", num_classes=2, T=2, in_channels=3, width=0.125)
    before = dict(model.head.selection)
    ema = build_ema(model, 0.9, 1.0)
    used = set_evaluation_options(ema.module, None, T=5, score_threshold=0.5, max_detections=3)
    assert used == {"T": 5, "score_threshold": 0.5, "nms_iou": 0.6, "max_detections": 3}
    assert (model.T, model.head.selection) == (2, before) and ema.module.T == 5


def test_a_head_that_selects_in_its_own_way_takes_no_options():
    model = create_model("ems_resnet10_ee", num_classes=2, T=2, in_channels=3, width=0.125)
    del model.head.selection
    assert set_evaluation_options(model, None) == {
        "T": 2, "score_threshold": None, "nms_iou": None, "max_detections": None
    }  # fmt: skip
    with pytest.raises(ValueError, match="AnchorHead has no iou_threshold in its dict `selection`: leave out"):
        set_evaluation_options(model, None, nms_iou=0.5)
