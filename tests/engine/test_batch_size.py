"""train.batch_size=auto, with the memory of a GPU that these tests make up."""

import pytest
import torch
from omegaconf import OmegaConf

import train
from engine import batch_size
from engine.batch_size import largest_batch
from engine.runs.checkpoint import load_checkpoint

GIB = 2**30


class Gpu:
    """A step takes `fixed` + n * `each` bytes; above `memory` it fails."""

    def __init__(self, fixed, each, memory=10**9):
        self.fixed, self.each, self.memory, self.tried = fixed, each, memory, []

    def __call__(self, size):
        self.tried.append(size)
        used = self.fixed + size * self.each
        if used > self.memory:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return used


@pytest.mark.parametrize(
    ("fixed", "each", "budget", "expected"),
    [(100, 10, 1000, 90), (0, 10, 10, 1), (0, 10, 29, 2), (5, 7, 10**6, 142856), (100, 10, 179, 7), (0, 1, 64, 64)],
)
@pytest.mark.parametrize("fails", [False, True])
def test_the_largest_that_fits(fixed, each, budget, expected, fails):
    gpu = Gpu(fixed, each, budget if fails else 10**9)
    assert largest_batch(gpu, budget, 10**9) == expected
    assert expected in gpu.tried and len(gpu.tried) < 25


def test_it_is_not_above_the_samples_there_are():
    assert largest_batch(Gpu(0, 1), 10**6, 23) == 23


def test_memory_that_is_not_linear():
    """More than predicted: the prediction is lowered until it fits."""

    def memory(size):
        return size * 10 + (10_000 if size > 35 else 0)

    found = largest_batch(memory, 500, 100)
    assert 32 <= found <= 35


def test_no_sample_fits():
    with pytest.raises(ValueError, match="a step with one sample needs more than 1.00 GiB.*train.checkpoint"):
        largest_batch(Gpu(2 * GIB, 1, GIB), GIB, 8)


def test_a_cpu_is_refused(tiny, tmp_path):
    with pytest.raises(ValueError, match="train.batch_size = auto: .*but device is cpu: give a number"):
        train.main([tiny, "train.batch_size=auto"])
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("value", ["automatic", "0", "2.5", "true", "null"])
def test_other_words_are_refused(tiny, value):
    with pytest.raises(ValueError, match="train.batch_size = .*give at least 1.*, or auto"):
        train.main([tiny, f"train.batch_size={value}"])


def test_the_number_is_the_run_s_and_the_run_is_that_of_the_number(tiny, trained, tmp_path, monkeypatch, capsys):
    """The steps really run, on the CPU; their memory is made up, so that 4 samples fit: those of the other run."""
    sizes = []
    collate = batch_size.collate
    monkeypatch.setattr(
        batch_size, "collate", lambda samples, scale: sizes.append(len(samples)) or collate(samples, scale)
    )
    monkeypatch.setattr(batch_size, "peak_memory", lambda device: sizes[-1] * GIB)
    monkeypatch.setattr(batch_size, "free_memory", lambda device: 5 * GIB)
    monkeypatch.setattr(batch_size, "DEVICES", ("cpu",))
    run = train.main([tiny, "train.batch_size=auto"])
    assert "train.batch_size = auto: 4 samples per process, in 4.5 GiB" in capsys.readouterr().out
    assert sizes == [1, 1, 2, 2, 4, 4, 8, 8]
    assert OmegaConf.load(run / "config.yaml").train.batch_size == 4
    contents = [load_checkpoint(folder / "checkpoint_last.pt") for folder in (trained, run)]
    assert all(torch.equal(a, b) for a, b in zip(*(c["model"].values() for c in contents), strict=True))
    assert contents[1]["samples_per_step"] == 4
    train.main([tiny, "train.batch_size=auto", "train.epochs=4", "--resume", str(run)])
    assert len(sizes) == 8 and load_checkpoint(run / "checkpoint_last.pt")["epoch"] == 4
