"""Whole runs on tiny data: reproducible, resumable after SIGKILL, on several processes; evaluated and refused."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.optim.optimizer import register_optimizer_step_post_hook

import evaluate
import train
from data import create_dataset, input_from_plain
from data.recordings import open_events
from engine.config import dataset_kwargs, load_config
from engine.runs.checkpoint import load_checkpoint, save_checkpoint
from engine.training import run as training

ROOT = Path(__file__).parent.parent.parent


def same_weights(a: Path, b: Path) -> bool:
    a, b = (load_checkpoint(p / "checkpoint_last.pt") for p in (a, b))
    return all(torch.equal(a[part][key], b[part][key]) for part in ("model", "ema") for key in a[part])


def losses(folder: Path) -> list[dict]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("seconds", "peak_gib")} for line in lines]


def test_same_seed_same_losses_whatever_the_workers(run, tiny):
    again = train.main([tiny, "data.workers=2"])
    assert again == run.with_name("tiny-2") and losses(again) == losses(run) and same_weights(run, again)
    other = train.main([tiny, "seed=1", "train.epochs=1"])
    assert losses(other)[0] != losses(run)[0]


def test_a_run_with_the_yolox_head_has_its_l1_loss_in_the_last_epochs(tiny):
    head = "model.head={name: yolox, l1_epochs: 1}"
    first = train.main([tiny, head, "train.epochs=1", "name=first"])
    rest = train.main([tiny, head, "train.epochs=2", "--resume", str(first)])
    whole = train.main([tiny, head, "train.epochs=2", "train.precision=bf16", "train.channels_last=true"])
    assert ["loss/l1" in record for record in losses(whole)] == [False, True]
    assert ["loss/l1" in record for record in losses(rest)] == [
        True,
        True,
    ]  # each was the last epoch when it was trained
    assert all(record["val/AP"] >= 0 for record in losses(whole))


def test_a_run_keeps_the_input_of_its_evaluation(run, tiny):
    cfg = load_config(tiny)
    name, kwargs = dataset_kwargs(cfg)
    dataset = create_dataset(name, cfg.data.val_split, generate=False, **kwargs)
    kept = input_from_plain(load_checkpoint(run / "checkpoint_last.pt")["input"])
    image = dataset.ground_truth()["images"][0]
    x, place = kept(open_events(dataset.recordings[0]), image["t_us"] - kept.window_us, image["t_us"])
    assert torch.equal(x, dataset[0].x) and place == dataset[0].placement


def test_micro_bins_are_refused_before_a_run_begins(tiny, tmp_path):
    with pytest.raises(ValueError, match="micro-bins.*set data.args.representation to"):
        train.main([tiny, "data.args.representation=micro_bins", f"out={tmp_path / 'none'}"])
    assert not (tmp_path / "none").exists()


def test_event_frames_that_are_images(tiny, monkeypatch):
    """Trained on and drawn; and the loader knows how many epochs there are, for augmentation that ends early."""
    loaders = []
    make = training.train_loader
    monkeypatch.setattr(training, "train_loader", lambda *args: loaders.append(make(*args)) or loaders[-1])
    run = train.main([tiny, "data.args.representation=last_event", "data.args.newest_first=true", "train.epochs=1"])
    assert losses(run)[0]["val/AP"] >= 0 and loaders[0].sampler.epochs == 1
    assert next(iter(loaders[0])).x.shape[2] == 3
    assert len([tag for tag in EventAccumulator(str(run)).Reload().Tags()["images"] if "val_pictures/" in tag]) == 4


def test_run_folder_holds_what_is_promised(run):
    names = {p.name for p in run.iterdir()}
    assert {"config.yaml", "metrics.jsonl", "checkpoint_last.pt", "checkpoint_best.pt"} <= names
    board = EventAccumulator(str(run)).Reload()
    scalars = set(board.Tags()["scalars"])
    assert {"loss/box", "loss/total", "optim/lr", "optim/grad_norm", "time/step", "time/data", "val/AP50"} <= scalars
    assert sorted({tag.split("/")[0] for tag in scalars})[:2] == ["loss", "optim"]  # the groups that TensorBoard opens
    assert load_checkpoint(run / "checkpoint_last.pt")["epoch"] == 3


KILLED = """
import os, signal, sys, train
from torch.optim import optimizer

steps = []
def kill(*_):
    steps.append(1)
    if len(steps) == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)

optimizer.register_optimizer_step_post_hook(kill)
train.main(sys.argv[2:])
"""


def test_resume_after_sigkill_equals_the_uninterrupted_run(trained, tiny, tmp_path):
    steps = load_checkpoint(trained / "checkpoint_last.pt")["steps_per_epoch"]
    options = ["train.save_minutes=1e-6", "data.workers=1"]
    command = [sys.executable, "-c", KILLED, str(steps + 3), tiny, *options]  # in the second epoch of three
    assert subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL).returncode == -signal.SIGKILL
    folder = tmp_path / "runs" / "tiny"
    content = load_checkpoint(folder / "checkpoint_last.pt")
    assert (content["epoch"], content["batch"]) == (1, 2)
    (folder / ".checkpoint_last.pt.1-ff.partial").write_bytes(b"half of a checkpoint")
    assert train.main([tiny, "--resume"]) == folder and not list(folder.glob(".*.partial"))
    assert same_weights(trained, folder) and losses(folder) == losses(trained)


def test_resume_can_be_told_to_go_on_longer(run, tiny):
    folder = train.main([tiny, "train.epochs=4", "--resume", str(run)])
    assert folder == run and load_checkpoint(run / "checkpoint_last.pt")["epoch"] == 4
    assert [line["epoch"] for line in losses(run)] == [0, 1, 2, 3]
    starts = [json.loads(line) for line in (run / "provenance.jsonl").read_text().splitlines()]
    assert [start["command"] for start in starts] == [
        f"train.py {tiny}", f"train.py {tiny} train.epochs=4 --resume {run}"
    ]  # fmt: skip
    assert all(start["versions"]["torch"] and start["machine"]["device"] == "cpu" for start in starts)


def test_resume_refuses_to_be_another_run(run, tiny, scenes, tmp_path):
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    fewer = tmp_path / "fewer"
    shutil.copytree(scenes, fewer)
    for path in (fewer / "train").glob("scene_0000*"):
        path.unlink()
    for override, what in (
        ("train.batch_size=2", "= 2 samples of a step, and .*tiny has 4: .*set train.batch_size=4 train.accumulate=1"),
        (f"data.root={fewer}", "cannot resume: .*data boxes changed.*data samples changed"),
    ):
        with pytest.raises(ValueError, match=what):
            train.main([tiny, override, "train.epochs=4", "--resume", str(run)])
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


def test_a_resumed_run_records_what_it_changes_and_says_what_becomes_of_the_rate(run, tiny, capsys):
    train.main([tiny, "train.epochs=4", "eval.protocol=voc10", "--resume", str(run)])
    assert "epochs: 4" in (run / "config.yaml").read_text()
    said = capsys.readouterr().out
    assert "train.epochs changed from 3 to 4: the schedule is that of 4 epochs, so that the rate, planned as" in said
    assert "the best score starts anew: protocol changed from coco to voc10" in said
    best, last = (load_checkpoint(run / f"checkpoint_{which}.pt") for which in ("best", "last"))
    assert best["epoch"] == last["epoch"] == 4 and best["judged_by"]["protocol"] == "voc10"


def test_a_finished_run_is_not_trained_again(run, tiny, capsys):
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    assert train.main([tiny, "--resume"]) == run == train.main([tiny, "--resume", "auto"])
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before
    assert "is finished: 3 of 3 epochs trained, best score" in capsys.readouterr().out


def test_fewer_samples_than_a_batch_train(tiny, capsys):
    run = train.main([tiny, "train.batch_size=999", "train.epochs=1", "optim.warmup_epochs=0"])
    assert losses(run)[0]["step"] == 0 and load_checkpoint(run / "checkpoint_last.pt")["steps_per_epoch"] == 1
    said = capsys.readouterr().out
    assert "neuron lif, head anchor, T=2 (the model's own: 4), input 2 x 64 x 96, cpu" in said
    assert "1 step an epoch, of 999 samples, the last batch of" in said and "compiles the neurons" in said


def test_mistakes_fail_before_the_work_and_leave_no_folder(tiny, tmp_path):
    for override, message in (
        ("eval.protocol=prophese", "did you mean 'prophesee'"),
        ("optim.name=adam", "optim.name = 'adam', did you mean 'adamw'"),
        ("train.precision=fp8", "train.precision = 'fp8'"),
        ("train.log_every=0", "train.log_every = 0: give at least 1"),
        ("model.T=0", "model.T = 0: give at least 1"),
        ("data.args.num_steps=3", "data.args.num_steps = 3, but model.T = 2 decides it"),
    ):
        with pytest.raises(ValueError, match=message):
            train.main([tiny, override])
    assert not (tmp_path / "runs").exists()


def test_an_earlier_run_goes_only_when_the_new_one_begins(run, tiny):
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    for override in ("model.name=ems_resnet11", "data.augment={hflip: 2}", "optim.momentum=1.5"):
        with pytest.raises(ValueError):
            train.main([tiny, "overwrite=true", override])
        assert {path.name: path.read_bytes() for path in run.iterdir()} == before
        assert list(run.parent.iterdir()) == [run]
    assert train.main([tiny, "overwrite=true", "train.epochs=1"]) == run and len(losses(run)) == 1


def test_validation_is_never_augmented(tiny, scenes):
    folder = train.main([tiny, "train.epochs=1", "data.val_split=train", "data.augment.hflip=1.0"])
    kwargs = {"root": scenes, "num_steps": 2, "representation": {"name": "counts", "clip": 8}}
    assert load_checkpoint(folder / "checkpoint_last.pt")["metrics"]["val/images"] > 0
    cfg = load_config(folder / "config.yaml")
    assert "augment" not in dataset_kwargs(cfg)[1] and dataset_kwargs(cfg, augment=True)[1]["augment"]
    assert {k: v for k, v in dataset_kwargs(cfg)[1].items() if k in kwargs} == kwargs | {"root": str(scenes)}


def test_batches_of_one_value_per_channel(tiny, tmp_path):
    one_cell = ["model.T=1", "data.size=[32, 32]", "train.batch_size=1", "model.neuron=relu"]
    with pytest.raises(ValueError, match="BatchNorm needs more than one value.*train.batch_size.*data.size"):
        train.main([tiny, *one_cell])
    assert not list((tmp_path / "runs").iterdir())  # as any mistake, it leaves no folder


def test_evaluate_writes_its_numbers_beside_their_protocol(run, tmp_path, capsys):
    out = tmp_path / "scores"
    with pytest.raises(ValueError, match="model.neuron=relu.*the checkpoint decides"):
        evaluate.main([str(run / "checkpoint_last.pt"), "model.neuron=relu"])
    with pytest.raises(ValueError, match="trained on 2 channels, test has 5"):
        evaluate.main([str(run / "checkpoint_last.pt"), "data.args.representation=voxel_grid"])
    metrics = evaluate.main([str(run / "checkpoint_last.pt"), "--out", str(out), "--spikes", "--plots"])
    written = json.loads((out / "metrics.json").read_text())
    assert written == metrics
    needed = {"protocol", "rule", "AP", "AP50", "AP75", "images", "expected_images", "T", "parameters"}
    assert needed <= set(written) and written["protocol"] == "coco" and written["T"] == 2
    assert written["images"] == written["expected_images"] > 0
    assert isinstance(json.loads((out / "detections.json").read_text()), list)
    drawn = {kind: len(list((out / "pictures").glob(f"{kind}_*.png"))) for kind in ("image", "worst")}
    assert drawn["image"] == min(8, written["images"]) and drawn["worst"] == len(written["worst_images"]) > 0
    assert (out / "precision_recall.png").exists() and (out / "confusion.png").exists()
    printed = capsys.readouterr().out
    assert "AP50" in printed and str(out) in printed and written["rule"] in printed


def test_images_of_a_split_in_a_folder_below(tiny, scenes, tmp_path):
    """As VOC2007/test is one."""
    shutil.copytree(scenes, tmp_path / "data" / "year")
    splits = [f"data.{name}_split=year/{name}" for name in ("train", "val", "test")]
    run = train.main([tiny, f"data.root={tmp_path / 'data'}", *splits, "train.epochs=1"])
    evaluate.main([str(run / "checkpoint_last.pt"), "--pictures", "1"])
    assert [path.name for path in (run / "eval").glob("year-test_coco_last*/pictures/*")] == ["image_1.png"]


def test_the_detections_of_a_run_are_scored_again_without_its_model(run):
    folder = run / "eval" / "test_coco_last"
    checkpoint, detections = str(run / "checkpoint_last.pt"), str(folder / "detections.json")
    with pytest.raises(ValueError, match="prophesee_1mpx"):
        evaluate.main([checkpoint, "--protocol", "prophesee_1mpx"])
    assert not (run / "eval").exists()  # rejected before any work
    metrics = evaluate.main([checkpoint, "--pictures", "0"])
    for source in (checkpoint, str(run / "config.yaml")):
        again = evaluate.main([source, "--detections", detections])
        assert again["data"].pop("checked") == f"the same as in {folder / 'metrics.json'}"
        differs = {key for key in again if again[key] != metrics.get(key)}
        assert differs == {"data", "detections", "request", "provenance"}
        assert again["data"] == {key: metrics["data"][key] for key in again["data"]}
    assert evaluate.main([checkpoint, "--detections", detections, "--protocol", "raw"])["rule"] != metrics["rule"]
    assert {p.name for p in folder.glob("detections_*")} == {"detections_test_coco", "detections_test_raw"}
    assert json.loads((folder / "metrics.json").read_text()) == metrics


def test_averaged_weights_are_evaluated_unless_the_last_are_asked_for(run):
    content = load_checkpoint(run / "checkpoint_last.pt")
    averaged = evaluate.main([str(run / "checkpoint_last.pt"), "--pictures", "0"])
    last = evaluate.main([str(run / "checkpoint_last.pt"), "--pictures", "0", "--weights", "model"])
    assert (averaged["weights"], last["weights"]) == ("ema", "model")
    assert averaged["weights_digest"] != last["weights_digest"]
    save_checkpoint(run / "checkpoint_last.pt", content | {"ema": content["model"]})
    same = evaluate.main([str(run / "checkpoint_last.pt"), "--pictures", "0", "--out", str(run / "same")])
    assert same["weights_digest"] == last["weights_digest"] and same["AP"] == last["AP"]
    folders = ("eval/test_coco_last", "eval/test_coco_last_weights=model", "same")
    found = [(run / folder / "detections.json").read_text() for folder in folders]
    assert found[0] != found[1] == found[2]


def test_evaluate_on_binary_spikes(tiny, run, capsys):
    spikeyolo = [
        "model.name=spikeyolo_n",
        "model.neuron={name: ilif, D: 3}",
        "model.args={width: 0.1}",
    ]
    checkpoint = str(train.main([tiny, *spikeyolo, "train.epochs=1"]) / "checkpoint_last.pt")
    integer = evaluate.main([checkpoint, "--pictures", "0"])
    binary = evaluate.main([checkpoint, "--pictures", "0", "--binary"])
    assert binary["parameters"] == integer["parameters"] and binary["AP"] == pytest.approx(integer["AP"], abs=0.05)
    assert binary["binary"]["largest logit difference in float64"] < 1e-9
    assert "binary: share of ones" in capsys.readouterr().out
    with pytest.raises(ValueError, match="no SpikeConv layers"):
        evaluate.main([str(run / "checkpoint_last.pt"), "--binary"])


def test_evaluate_refuses_when_recordings_are_missing(command, run, scenes, tmp_path):
    root = tmp_path / "moved"
    for path in scenes.rglob("*"):
        if path.is_file():
            target = root / path.relative_to(scenes)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(path)
    (root / "test" / "scene_0001_td.dat").unlink()
    words = ["evaluate.py", str(run / "checkpoint_last.pt"), f"data.root={root}"]
    refused = command(*words)
    assert refused.returncode == 1 and "scene_0001_td.dat" in refused.stderr and "allow" in refused.stderr
    allowed = command(*words, "--allow-missing")
    assert allowed.returncode == 0, allowed.stderr
    (folder,) = (run / "eval").glob("*allow_missing*")
    written = json.loads((folder / "metrics.json").read_text())
    assert 0 < written["images"] < written["expected_images"] and written["request"]["allow_missing"]


def test_images_without_boxes_train(tiny, scenes, tmp_path, capsys):
    root = tmp_path / "empty"
    for split in ("train", "val"):
        (root / split).mkdir(parents=True)
        for path in (scenes / "train").glob("*_td.dat"):
            (root / split / path.name).symlink_to(path)
            boxes = np.load(scenes / "train" / path.name.replace("_td.dat", "_bbox.npy"), allow_pickle=False)
            labelled = split == "train" and path.name == "scene_0000_td.dat"
            np.save(root / split / path.name.replace("_td.dat", "_bbox.npy"), boxes if labelled else boxes[:0])
    folder = train.main([tiny, f"data.root={root}", "train.epochs=1", "train.batch_size=2", "train.fit_anchors=false"])
    assert "split 'val': none of its 3 images has a box: nothing can be found" in capsys.readouterr().out
    assert "val/AP" not in losses(folder)[0] and losses(folder)[0]["loss/box"] > 0


@pytest.mark.parametrize("stop, code", [(signal.SIGTERM, 75), (signal.SIGUSR1, 75), (signal.SIGHUP, 1)])
def test_a_signal_ends_a_training_in_one_line_that_says_how_to_continue(
    command, trained, tiny, stop, code, tmp_path, monkeypatch
):
    """In the second step of the second epoch, which is saved; also by the run alone, without a config."""
    steps = load_checkpoint(trained / "checkpoint_last.pt")["steps_per_epoch"]
    taken = []

    def kill(*_):
        taken.append(1)
        if len(taken) == steps + 2:
            os.kill(os.getpid(), stop)

    hook = register_optimizer_step_post_hook(kill)
    before = signal.signal(stop, signal.SIG_DFL)  # nohup has SIGHUP ignored
    try:
        done = command("train.py", tiny)
    finally:
        signal.signal(stop, before)
        hook.remove()
    assert done.returncode == code and "epoch 1/3" in done.stdout
    said = done.stderr.strip().splitlines()
    folder = tmp_path / "runs" / "tiny"
    assert said[-1] == f"interrupted: epoch 2, batch 2 of {steps} is saved: continue there with --resume {folder}"
    assert not any("Traceback" in line for line in said)
    done = command("train.py", "--resume", str(folder))
    assert done.returncode == 0 and f"after epoch 1 and batch 2 of {steps} of the next" in done.stdout
    assert same_weights(trained, folder) and losses(folder) == losses(trained)
