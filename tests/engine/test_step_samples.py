"""A resume on another number of processes: the samples of a step and their order stay."""

import json

import pytest
import torch
from omegaconf import OmegaConf
from ranks import on_ranks

import train
from data.loader import EpochSampler
from engine.runs.checkpoint import load_checkpoint
from engine.runs.step_samples import keep_samples


def config(batch_size, accumulate, bptt=1):
    return OmegaConf.create({"train": {"batch_size": batch_size, "accumulate": accumulate, "bptt": bptt}})


def saved(cfg, ranks, **entries):
    train = cfg.train
    samples = train.batch_size * train.accumulate * train.bptt * ranks
    return {"samples_per_step": samples, "config": OmegaConf.to_container(cfg), **entries}


@pytest.mark.parametrize(
    "before, ranks, now, after",
    [
        ((4, 1), 4, 2, (4, 2)),
        ((4, 1), 4, 1, (4, 4)),
        ((4, 2), 2, 4, (4, 1)),
        ((4, 1), 2, 8, (1, 1)),
        ((6, 1), 2, 3, (4, 1)),  # 12 samples
        ((8, 1), 3, 4, (6, 1)),  # 24
        ((12, 1), 4, 3, (8, 2)),  # 48: batches do not grow
        ((4, 1), 2, 2, (4, 1)),
    ],
)
def test_batches_are_split_otherwise_and_do_not_grow(before, ranks, now, after, tmp_path):
    cfg = config(*before)
    content = saved(cfg, ranks)
    keep_samples(cfg, content, {"train.epochs"}, now, tmp_path)
    assert (cfg.train.batch_size, cfg.train.accumulate) == after


def test_within_an_epoch_of_recordings_the_rows_stay(tmp_path):
    cfg = config(4, 2, bptt=3)
    keep_samples(cfg, saved(cfg, 2, streams={"model": [[None], [None]]}), (), 1, tmp_path)
    assert (cfg.train.batch_size, cfg.train.accumulate) == (8, 2)
    with pytest.raises(ValueError, match="48 samples, which 3 processes cannot share equally. Start 1, 2, 4, 8 proc"):
        cfg = config(4, 2, bptt=3)
        keep_samples(cfg, saved(cfg, 2, streams={"model": [[None], [None]]}), (), 3, tmp_path)


def test_what_cannot_be_kept_says_what_to_do(tmp_path):
    cfg = config(4, 1)
    with pytest.raises(ValueError, match="16 samples, which 3 processes cannot share equally. Start 1, 2, 4, 8, 16 pr"):
        keep_samples(cfg, saved(cfg, 4), (), 3, tmp_path)
    content = saved(cfg, 4)
    cfg.train.accumulate = 3
    with pytest.raises(ValueError) as error:
        keep_samples(cfg, content, {"train.accumulate"}, 2, tmp_path)
    assert "train.batch_size=4 x train.accumulate=3 x 2 processes = 24 samples of a step" in str(error.value)
    assert "has 16: leave out train.accumulate, or set train.batch_size=4 train.accumulate=2" in str(error.value)


def test_a_step_has_the_same_samples_on_any_number_of_ranks():
    """Also after a resume between two steps."""

    def steps(ranks, batch_size, accumulate, skipped=0):
        keys = []
        for rank in range(ranks):
            sampler = EpochSampler(41, 3, rank, ranks)
            sampler.set_epoch(1, skipped * batch_size * accumulate)
            keys.append([index for index, *_ in sampler])
        each = batch_size * accumulate
        return [{i for part in keys for i in part[k * each : (k + 1) * each]} for k in range(-(-len(keys[0]) // each))]

    whole = steps(4, 2, 1)
    assert len(whole) == 6 and whole[:5] == steps(1, 2, 4)[:5] == steps(2, 4, 1)[:5] and whole[5] >= steps(1, 8, 1)[5]
    assert steps(2, 2, 2, skipped=3)[:2] == whole[3:5]


def trained(config, *options):
    train.main([config, "train.batch_size=2", *options])


def resumed(config, *options):
    train.main([config, *options, "--resume"])
    return float(torch.rand(()))  # of the generators, as dropout draws them


def test_four_processes_then_two_then_one(tiny, tmp_path):
    """Each trains an epoch."""
    on_ranks(4, tmp_path, trained, tiny, "train.epochs=1", "optim.warmup_epochs=0.5")
    folder = tmp_path / "runs" / "tiny"
    states = load_checkpoint(folder / "checkpoint_last.pt")["generators"]
    assert len({str(state["torch"].tolist()) for state in states}) == 4
    two = on_ranks(2, tmp_path, resumed, tiny, "train.epochs=2")
    said = two[0][1]
    assert "train.accumulate changed from 1 to 2: the samples of a step are split otherwise" in said
    resumed(tiny, "train.epochs=3")
    content = load_checkpoint(folder / "checkpoint_last.pt")
    assert content["epoch"] == 3 and content["samples_per_step"] == 8 and content["config"]["train"]["accumulate"] == 4
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [k * content["steps_per_epoch"] - 1 for k in (1, 2, 3)]
    four = on_ranks(4, tmp_path, resumed, tiny, "train.epochs=4")
    assert len({drawn for drawn, _ in four}) == 4  # generators, of which one was saved, differ by rank
