"""Batches are copied to the GPU one ahead, in their order, and are there what they were here."""

import pytest
import torch

from data.sample import Batch, Placement
from engine.prefetch import prefetched

CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def batches(n):
    for i in range(n):
        x = torch.full((2, 3, 4, 4), i, dtype=torch.uint8)
        targets = [{"boxes": torch.full((1, 4), float(i)), "labels": torch.tensor([i])}, None]
        yield Batch(x, targets, [i, i], [(4, 4)] * 2, [Placement()] * 2, 0.5, torch.zeros(2, dtype=torch.bool))


def test_on_a_cpu_batches_pass_as_they_are():
    made = list(batches(3))
    assert all(a is b for a, b in zip(prefetched(iter(made), torch.device("cpu")), made, strict=True))


@CUDA
@pytest.mark.parametrize("n", [0, 1, 4])
def test_on_a_gpu_batches_are_copied_one_ahead(n):
    device, drawn = torch.device("cuda"), []

    def counted():
        for i, batch in enumerate(batches(n)):
            drawn.append(i)
            yield batch.pin_memory()

    for i, (batch, plain) in enumerate(zip(prefetched(counted(), device), batches(n), strict=True)):
        assert drawn == list(range(min(i + 2, n)))
        x, targets = batch.to(device)
        assert x.is_cuda and torch.equal(x.cpu(), plain.x * 0.5) and targets[1] is None
        assert targets[0]["boxes"].is_cuda and torch.equal(targets[0]["boxes"].cpu(), plain.targets[0]["boxes"])
        assert batch.x.device.type == "cpu" and batch.image_ids == plain.image_ids
