"""Where golden files are; one thread, and no compilation unless a test asks: the same numbers, sooner."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from neurons.multistep import backends

TESTS = Path(__file__).parent
SHARED = Path(os.environ.get("SPIKESIGHT_SHARED", TESTS.parent.parent / "shared"))

torch.set_num_threads(1)
backends.SMALL = 1 << 40


@pytest.fixture
def shared() -> Path:
    """The folder of reference data, which a user's machine does not have."""
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is not here")
    return SHARED


@pytest.fixture
def golden():
    """golden("ems_neuron_lif") -> {array name: tensor}; skips where the file is absent."""

    def load(name: str) -> dict[str, torch.Tensor]:
        for folder in (TESTS / "golden", SHARED / "golden"):
            if (folder / f"{name}.npz").exists():
                with np.load(folder / f"{name}.npz", allow_pickle=False) as file:
                    return {key: torch.from_numpy(file[key]) for key in file.files}
        pytest.skip(f"{name}.npz is not here")

    return load
