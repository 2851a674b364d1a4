"""train.patience: a training ends where its score has not grown for some evaluations."""

import json

import pytest
import torch
from tiny_trainer import tiny_trainer

import train
from engine.best_score import BestScore
from engine.runs.checkpoint import load_checkpoint

SCORES = [0.1, 0.3, 0.2, 0.3, 0.25, 0.4, 0.1, 0.1]


def trainer(folder, patience, epochs=8, **options):
    """One whose scores are `SCORES`."""

    class Scores:
        def __init__(self):
            self.epoch = made.epoch

        def add(self, outputs, batch):
            pass

        def score(self, protocol):
            return {"AP": SCORES[self.epoch - 1]}

    made = tiny_trainer(folder, epochs, new_evaluator=Scores, best=BestScore(patience), **options)
    return made


def last(folder):
    return load_checkpoint(folder / "checkpoint_last.pt")


@pytest.mark.parametrize(("patience", "epochs"), [(None, 8), (1, 3), (2, 4), (3, 5), (4, 8)])
def test_it_ends_after_so_many_evaluations_without_a_better_score(tmp_path, capsys, patience, epochs):
    """An equal score is not better. The last epoch is kept and saved like that of a whole training."""
    made = trainer(tmp_path / "run", patience, keep_every=100)
    assert len(made.fit()) == epochs and made.ended
    said = capsys.readouterr().out
    best = max(SCORES[:epochs])
    why = f"train.patience = {patience}, {patience} evaluation{'s' * (patience != 1)} since the best score, {best:.3f}"
    ended = f"ended after epoch {epochs} of 8: {why}"
    assert (ended in said) == (epochs < 8)
    content = last(tmp_path / "run")
    assert content["epoch"] == epochs and content["scored"] and content["best"] == best
    assert (tmp_path / "run" / f"checkpoint_epoch{epochs}.pt").exists()


def test_a_resume_goes_on_counting(tmp_path):
    whole = trainer(tmp_path / "whole", 3)
    whole.fit()
    trainer(tmp_path / "parts", None, epochs=4).fit()
    parts = trainer(tmp_path / "parts", 3)
    parts.resume(tmp_path / "parts" / "checkpoint_last.pt")
    assert parts.best.waited == 2 and len(parts.fit()) == 1 and parts.ended
    one, other = last(tmp_path / "whole"), last(tmp_path / "parts")
    assert one["waited"] == other["waited"] == 3
    assert all(torch.equal(value, other["model"][name]) for name, value in one["model"].items())


def test_evaluations_are_counted_not_epochs(tmp_path):
    made = trainer(tmp_path / "run", 1, every=2)  # scores .3, .3
    assert len(made.fit()) == 4


def test_patience_waits_for_annealed_values():
    best, record = BestScore(1, value=0.5), {"val/protocol": "coco", "val/AP": 0.4}
    assert not best.improved(record, counts=False) and not best.exhausted
    assert not best.improved({"loss/box": 1.0}) and not best.exhausted  # no evaluation
    assert not best.improved({"val/protocol": "coco"}) and best.exhausted  # without a score
    best.starts_anew()
    assert not best.exhausted and best.improved(record) and best.value == 0.4


def test_a_run_that_ended_says_so_and_can_be_continued(tiny, capsys):
    """Learning nothing, no score is better than the first."""
    still = [tiny, "optim.lr=0", "optim.warmup_bias_lr=0", "train.epochs=9"]
    folder = train.main([*still, "train.patience=2", "train.ema_decay=0", "train.freeze=['*.bn.*']"])
    said = capsys.readouterr().out
    assert "ended after epoch 3 of 9: train.patience = 2, 2 evaluations since the best score" in said
    assert f"done: {folder}" in said and last(folder)["epoch"] == 3
    for resume in (["--resume"], ["--resume", "auto"]):
        assert train.main([tiny, *resume]) == folder
        said = capsys.readouterr().out
        assert f"{folder} is finished: ended after epoch 3 of 9" in said and "train.patience=null --resume" in said
    train.main([tiny, "train.patience=4", "--resume", str(folder)])
    assert "train.patience changed from 2 to 4" in (said := capsys.readouterr().out)
    assert "ended after epoch 5 of 9" in said and last(folder)["waited"] == 4
    assert [json.loads(line)["epoch"] for line in (folder / "metrics.jsonl").open()] == [0, 1, 2, 3, 4]
