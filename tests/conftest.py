"""Golden files; how many checks were skipped and why; one thread, and no compilation unless a test asks."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from neurons.multistep import backends

TESTS = Path(__file__).parent

torch.set_num_threads(1)
backends.SMALL = 1 << 40


class Golden:
    """Numbers computed with published code, in tests/golden, whose README says what each is."""

    folder = TESTS / "golden"

    def __call__(self, name: str) -> dict[str, torch.Tensor]:
        """golden("ems_neuron_lif") -> {array name: tensor}."""
        with np.load(self.folder / f"{name}.npz", allow_pickle=False) as file:
            return {key: torch.from_numpy(file[key]) for key in file.files}

    def grad_output(self, y: torch.Tensor) -> torch.Tensor:
        """The gradient that was put into every output of this shape."""
        return self("grad_outputs")["x".join(map(str, y.shape))]

    @staticmethod
    def stored(x: torch.Tensor) -> torch.Tensor:
        """What the file of a block keeps of an output or a gradient: above 4096 values every 17th."""
        return x.flatten()[::17] if x.numel() > 4096 else x


@pytest.fixture(scope="session")
def golden() -> Golden:
    return Golden()


def pytest_terminal_summary(terminalreporter):
    """Says how many checks were skipped, by reason."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = Counter(report.longrepr[2].removeprefix("Skipped: ") for report in skipped)
    if reasons:
        counts = ", ".join(f"{n} {reason}" for reason, n in reasons.most_common())
        terminalreporter.write_line(f"{sum(reasons.values())} checks skipped: {counts}")
