"""Repeatable algorithms on a CPU, without filling memory that is written anyway."""

import pytest
import torch

from engine.algorithms import choose_algorithms


@pytest.fixture
def as_before():
    before = torch.are_deterministic_algorithms_enabled(), torch.utils.deterministic.fill_uninitialized_memory
    yield
    torch.use_deterministic_algorithms(before[0])
    torch.utils.deterministic.fill_uninitialized_memory = before[1]
    torch.backends.cudnn.benchmark = False


def test_of_each_device(as_before):
    choose_algorithms(torch.device("cpu"), one_size=True)
    assert torch.are_deterministic_algorithms_enabled() and not torch.backends.cudnn.benchmark
    assert not torch.utils.deterministic.fill_uninitialized_memory
    choose_algorithms(torch.device("cuda"), one_size=False)
    assert not torch.are_deterministic_algorithms_enabled() and not torch.backends.cudnn.benchmark
    choose_algorithms(torch.device("cuda"), one_size=True)
    assert torch.backends.cudnn.benchmark
