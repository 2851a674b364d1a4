"""Descriptors, threads and event files do not grow with the length of a training."""

import mmap
import os
from pathlib import Path

import pytest

import train
from engine.runs.log import RunLog
from registry import UserError
from tools import growth

pytestmark = pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="need /proc of Linux")


def test_usage_counts_files_and_memory(tmp_path):
    before = growth.usage(os.getpid())
    with open(tmp_path / "open", "w"):
        block = mmap.mmap(-1, 1 << 25)  # not from the heap, which may hold this much in freed pages
        block.write(bytes(range(256)) * (1 << 17))
        after = growth.usage(os.getpid())
    assert after.files == before.files + 1 and after.threads == before.threads >= 1
    assert len(block) == 1 << 25 and after.own - before.own > 30 and after.rss >= after.own
    assert growth.Usage(1, 2, 3.0, 4.0) + growth.Usage(1, 1, 1.0, 1.0) == growth.Usage(2, 3, 4.0, 5.0)


def test_epochs_leave_nothing_open(config_in, tmp_path, monkeypatch):
    """Of the training and of its loader workers, with an evaluation and TensorBoard points after each epoch."""
    seen, written, log_epoch = [], [], RunLog.epoch

    def epoch(log, record):
        log_epoch(log, record)
        workers = growth.children(os.getpid())
        seen.append([(u.files, u.threads) for u in map(growth.usage, [os.getpid(), *workers])])
        written.append(growth.event_bytes(log.folder))

    monkeypatch.setattr(RunLog, "epoch", epoch)
    train.main([config_in(tmp_path), "train.epochs=5", "data.workers=1"])
    assert len(seen) == 5 and len(seen[0]) >= 3
    assert seen[1] == seen[2] == seen[3] == seen[4]
    sizes = [b - a for a, b in zip(written, written[1:], strict=False)]
    assert max(sizes[1:]) < 1.1 * min(sizes[1:])


def test_the_training_that_is_watched_may_fail(config_in, tmp_path):
    with pytest.raises(UserError, match="(?s)the training failed: .*split"):
        growth.main([config_in(tmp_path), "data.train_split=none"])
