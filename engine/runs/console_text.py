"""Console texts of a training: model, number of steps, expected time."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

ENOUGH_STEPS, ENOUGH_SECONDS = 10, 30.0  # measured before the expected time is printed


def spec_text(spec: Any) -> str:
    """A neuron's or head's name with its arguments: {"name": "ilif", "D": 4} -> "ilif (D=4)"."""
    if not isinstance(spec, Mapping):
        return "of the model" if spec is None else str(spec)
    arguments = ", ".join(f"{key}={value}" for key, value in spec.items() if key != "name")
    return f"{spec.get('name')} ({arguments})" if arguments else str(spec.get("name"))


def model_text(given: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    """Neuron, head and T of a detector, with the default of the model where it differs."""
    texts = []
    for key in ("neuron", "head", "T"):
        by_itself = "" if given.get(key) == own.get(key) else f" (the model's own: {spec_text(own.get(key))})"
        texts.append(f"{key}{'=' if key == 'T' else ' '}{spec_text(given.get(key))}{by_itself}")
    return ", ".join(texts)


def steps_text(samples: int, batch_size: int, batches_per_step: int, epochs: int, processes: int = 1) -> str:
    """Steps per epoch and in all. samples: of one process in an epoch."""
    batches = -(-samples // batch_size)
    steps = -(-batches // batches_per_step)
    of = f"{processes} x {batch_size}" if processes > 1 else str(batch_size)
    of += f" x {batches_per_step}" if batches_per_step > 1 else ""
    last = samples - (batches - 1) * batch_size
    smaller = f", the last batch of {last}" if last < batch_size else ""
    plural = "" if steps == 1 else "s"
    return f"{steps} step{plural} an epoch, of {of} samples{smaller}; {epochs} epochs, {epochs * steps:,} steps in all"


def duration(seconds: float) -> str:
    """45 s, 12 min, 3 h 20 min, 2 d 4 h."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    if minutes < 90:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"


def epoch_text(record: Mapping[str, Any], epochs: int, with_memory: bool = False) -> str:
    """The line of an epoch of `epochs`, or of a part of one, by its record."""
    losses = "  ".join(f"{k.removeprefix('loss/')} {v:.4f}" for k, v in record.items() if k.startswith("loss/"))
    scores = "  ".join(
        f"{k.removeprefix('val/')} {record[k]:.3f}" for k in ("val/AP", "val/AP50") if record.get(k) is not None
    )
    protocol = f"  ({record['val/protocol']})" if "val/protocol" in record else ""
    more = f"  peak memory {record['peak_gib']:.2f} GiB" if with_memory else ""
    if record.get("skipped_steps"):
        more += f"  {record['skipped_steps']} steps skipped so far (float16 overflow)"
    return f"epoch {record['epoch'] + 1}/{epochs}  {record['seconds']:.0f} s  {losses}  {scores}{protocol}{more}"


class ExpectedTime:
    """Expected remaining time of a training, from the steps and epochs measured so far.

    first_step: the step, from 0, at which this process starts. steps: of the whole training.
    """

    def __init__(self, first_step: int, steps: int):
        self.first_step, self.steps = first_step, steps
        self._seen: list[float] = []
        self._told = False

    def step(self, step: int, seconds: float) -> str:
        """One line, once, when enough steps were measured, else "". The first step compiles and is not counted."""
        if self._told or step == self.first_step:
            return ""
        self._seen.append(seconds)
        left = self.steps - step - 1
        if not left or (len(self._seen) < ENOUGH_STEPS and sum(self._seen) < ENOUGH_SECONDS):
            return ""
        self._told = True
        each = statistics.median(self._seen)
        return f"{each:.2g} s a step: about {duration(each * left)} for the {left:,} steps left, and validation"

    @staticmethod
    def left(seconds: list[float], epochs: int) -> str:
        """Time for `epochs` more epochs, from the durations `seconds` of those so far, validation included."""
        if not epochs or not seconds:
            return ""
        known = seconds[1:] or seconds  # the first one compiled
        return f"  about {duration(statistics.mean(known) * epochs)} left"
