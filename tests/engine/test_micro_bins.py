"""A model with a learned sampler is trained and evaluated from raw recordings by the config alone."""

import json
import shutil
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import evaluate
import train
from engine.config import dataset_kwargs, load_config
from engine.runs.checkpoint import load_checkpoint

EAS = """
model: {{name: eas_snn_s, T: 2, args: {{width: 0.125}}}}
data:
  name: gen1
  root: {scenes}
  augment: {{hflip: 0.5, translate: 0.1, zoom: 0.2, polarity: 0.5, drop: 0.2, drop_time: 0.2}}
  args: {{window_ms: 200}}
  workers: 0
optim: {{name: adamw, lr: 0.003, warmup_epochs: 0}}
train: {{epochs: 1, batch_size: 8, ema_decay: 0.9, ema_ramp: 10, log_every: 1}}
eval: {{protocol: coco, batch_size: 4}}
threads: 1
device: cpu
out: {out}
"""
SAMPLER = "model.args={width: 0.125, sampler: {name: arsnn, out_steps: 2, k: 3, depth: 1}}"


@pytest.fixture
def eas(scenes, tmp_path) -> str:
    (tmp_path / "eas.yaml").write_text(EAS.format(scenes=scenes, out=tmp_path / "runs"))
    return str(tmp_path / "eas.yaml")


@pytest.fixture(scope="module")
def eas_run(scenes, tmp_path_factory) -> Path:
    """A run of the config `eas`."""
    folder = tmp_path_factory.mktemp("eas")
    (folder / "eas.yaml").write_text(EAS.format(scenes=scenes, out=folder / "runs"))
    return train.main([str(folder / "eas.yaml")])


def kwargs_of(config: str, *overrides: str) -> dict:
    return dataset_kwargs(load_config(config, list(overrides)))[1]


def test_a_sample_is_one_window_of_micro_bins_unless_set(eas):
    found = kwargs_of(eas)
    assert (found["num_steps"], found["representation"]) == (1, "micro_bins")
    found = kwargs_of(eas, "data.args={num_steps: 3, representation: counts}")
    assert (found["num_steps"], found["representation"]) == (3, "counts")
    found = kwargs_of(eas, "model.name=ems_resnet10_ee", "model.T=4")
    assert found["num_steps"] == 4 and "representation" not in found
    found = kwargs_of(eas, "data.name=rvt", "data.args={}")
    assert found["num_steps"] == 1 and "representation" not in found  # its frames are made already
    assert "num_steps" not in kwargs_of(eas, "data.name=coco", "data.args={}")


def test_a_run_from_raw_recordings(eas_run):
    content = load_checkpoint(eas_run / "checkpoint_last.pt")
    assert content["input"]["representation"] == {"name": "micro_bins", "bins": 4, "span": "window"}
    assert content["input"]["num_steps"] == 1 and content["model_kwargs"]["T"] == 2
    (record,) = (json.loads(line) for line in (eas_run / "metrics.jsonl").read_text().splitlines())
    assert record["val/AP50"] is not None


def test_one_frame_is_shown_for_any_number_of_steps(eas_run):
    checkpoint = str(eas_run / "checkpoint_last.pt")
    found = evaluate.main([checkpoint, "eval.T=3", "--pictures", "1"])
    assert found["T"] == 3 and found["images"] == found["expected_images"]
    found = evaluate.main([checkpoint, "--steps", "1,3", "--pictures", "1"])
    assert [point["T"] for point in found["curve"]["points"]] == [1, 3]


def test_evaluations_and_logs_show_when_frames_close(eas_run, tmp_path):
    found = evaluate.main([str(eas_run / "checkpoint_last.pt"), "--plots", "--pictures", "2", "--out", str(tmp_path)])
    (row,) = found["closing_times"].values()
    assert list(row) == ["bin 1", "bin 2", "bin 3", "bin 4", "open"] and sum(row.values()) == pytest.approx(1)
    assert len(list(tmp_path.glob("pictures/closing_*.png"))) == 2
    board = EventAccumulator(str(eas_run)).Reload()
    assert {f"val_closing/frame_1/{name.replace(' ', '_')}" for name in row} <= set(board.Tags()["scalars"])
    assert {"val_closing_pictures/0", "val_closing_pictures/1"} <= set(board.Tags()["images"])


def test_several_frames_are_the_steps(eas, tmp_path):
    run = train.main([eas, SAMPLER, "data.args={window_ms: 200, representation: {name: micro_bins, span: events}}"])
    with pytest.raises(ValueError, match="eval.T = 3"):
        evaluate.main([str(run / "checkpoint_last.pt"), "eval.T=3"])


def test_in_sequence(eas):
    """Forward bins: the sampler's potentials are carried from window to window, as those of the network."""
    sampler = "model.args={width: 0.125, sampler: {name: arsnn, reverse: false, k: 3, depth: 1}}"
    run = train.main([eas, sampler, "data.args={window_ms: 100, sampling: sequential}"])
    found = evaluate.main([str(run / "checkpoint_last.pt"), "--pictures", "1"])
    assert found["images"] == found["expected_images"] > 0


def test_a_run_is_resumed(eas_run, eas, tmp_path):
    shutil.copytree(eas_run, tmp_path / "runs" / "eas")
    folder = train.main([eas, "train.epochs=2", "--resume", str(tmp_path / "runs" / "eas")])
    assert load_checkpoint(folder / "checkpoint_last.pt")["epoch"] == 2


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.args.num_steps=3"], "T=2 steps, but 3 windows of 4 micro-bins give 3 frames.*Set data.args.num_steps"),
        (["data.args.num_steps=0"], "data.args.num_steps"),
        (["model.args.sampler={name: snn, out_steps: 2}"], "model.args.sampler.out_steps = 2"),
        (["model.args.sampler={name: arsn}"], "model.args.sampler.name: unknown sampler 'arsn', did you mean 'arsnn'"),
        (["model.args.sampler={name: arsnn, k: 2}"], "model.args.sampler.k = 2"),
        (["model.args.sampler={name: arsnn, depht: 2}"], "did you mean 'depth'"),
    ],
)
def test_what_does_not_fit_is_refused_before_a_run_begins(eas, tmp_path, overrides, message):
    with pytest.raises(ValueError, match=message):
        train.main([eas, *overrides])
    assert not (tmp_path / "runs").exists()


def test_a_window_of_one_bin_is_allowed_and_told(eas, capsys):
    train.main([eas, "data.args={representation: counts}"])
    assert (
        "1 window of 1 micro-bin gives 1 frame, repeated for T=2; data.args.representation" in capsys.readouterr().out
    )
