"""Simulate a detector through time, one step at a time, and read its logits at any number of steps."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from neurons import Stream
from registry import UserError

from ..detector import Detector
from .spike_counter import SpikeCounter


def simulate(snn: Detector, x: Tensor, steps: Sequence[int]) -> Simulation:
    """Run `snn` on a batch for max(steps) time steps; iterating gives (T, logits) at each T of `steps`, in order.

        for T, logits in simulate(snn, x, steps=[8, 32, 128]):   # logits per level, finest first
            detections = snn.head.decode(logits, x.shape[-2:])

    Works for every `Detector`: converted ones, and directly trained ones shown an image for T steps, or event frames up
    to the T-th. Memory does not grow with T, the logits at T do not depend on the steps that follow, and a run can be
    left at any time. Until it is finished or closed the network is in its Stream and should not be called.

    Args:
        snn: in evaluation mode, on the device of x.
        x: a batch of a dataset, images [B, C, H, W] or event frames [T, B, C, H, W].
        steps: increasing numbers of steps, each at least 1.
    """
    return Simulation(snn, x, steps)


@runtime_checkable
class CountsSpikes(Protocol):
    """A detector that gives the counts of its last simulation itself."""

    spikes: SpikeCounter


class Simulation(Iterator[tuple[int, list[Tensor]]]):
    """A running simulation: an iterator of (T, logits).

    t:      of the last logits
    spikes: counts of all spiking layers so far, see `SpikeCounter`
    """

    def __init__(self, snn: Detector, x: Tensor, steps: Sequence[int]):
        self.steps = [int(T) for T in steps]
        if not self.steps or self.steps[0] < 1 or self.steps != sorted(set(self.steps)):
            raise UserError(f"steps = {list(steps)}: give increasing numbers of time steps, the first at least 1")
        if snn.training:
            raise UserError("a network in training mode cannot be simulated: call model.eval() first")
        self.t = 0
        self.spikes = SpikeCounter()
        if isinstance(snn, CountsSpikes):
            snn.spikes = self.spikes
        # It has no reference to this object, so that it is closed as soon as this object is dropped.
        self._run = _advance(snn, x, self.steps, self.spikes)

    def __iter__(self) -> Simulation:
        return self

    def __next__(self) -> tuple[int, list[Tensor]]:
        self.t, logits = next(self._run)
        return self.t, logits

    def close(self) -> None:
        """End the run; the counts stay."""
        self._run.close()

    def spike_counts(self) -> dict[str, int]:
        """{layer: spikes so far}, of the batch together."""
        return self.spikes.totals()


@torch.inference_mode()
def _advance(
    snn: Detector, x: Tensor, steps: list[int], spikes: SpikeCounter
) -> Generator[tuple[int, list[Tensor]], None, None]:
    sums: list[Tensor] = []
    weight, wanted = 0.0, set(steps[:-1])
    with Stream(snn), spikes.counting(snn.spiking_layers()):
        logits_of_step = snn.stepper(x)
        for t in range(1, steps[-1] + 1):
            logits = logits_of_step(t - 1)
            sums = [snn.leak * a + b for a, b in zip(sums, logits, strict=True)] if sums else logits
            weight = snn.leak * weight + 1
            if t in wanted:
                yield t, [level / weight for level in sums]
    yield steps[-1], [level / weight for level in sums]  # the network is free again
