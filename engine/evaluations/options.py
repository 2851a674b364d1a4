"""What evaluate.py was asked for: the arguments of its command line."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from analysis.energy.constants import MEMORIES
from registry import UserError, none_of


@dataclass(frozen=True)
class Options:
    """One field per argument of evaluate.py, whose help describes it; command: the whole command line.

    A new option is an argument there, a field here, and an entry in `differs` of `request_of` if it makes another
    evaluation.
    """

    checkpoint: str | None = None
    overrides: list[str] = field(default_factory=list)
    detections: Path | None = None
    truth: Path | None = None
    protocol: str | None = None
    split: str | None = None
    weights: str = "ema"
    allow_missing: bool = False
    spikes: bool = False
    energy: bool = False
    energy_memory: str | None = None
    joules: bool = False
    binary: bool = False
    steps: str | None = None
    early_exit: float | None = None
    noise: str | None = None
    history: str | None = None
    windows: str | None = None
    plots: bool = False
    report: bool = False
    pictures: int = 8
    out: Path | None = None
    command: list[str] = field(default_factory=list)

    @property
    def broken_down(self) -> bool:
        """Whether scores are broken down, and report.html is written."""
        return self.plots or self.report

    def refuse_of_models(self) -> None:
        """UserError for an option that is about running a model."""
        for flag in (
            "allow_missing",
            "spikes",
            "energy",
            "energy_memory",
            "joules",
            "binary",
            "steps",
            "noise",
            "early_exit",
            "history",
            "windows",
        ):
            if getattr(self, flag):
                raise UserError(f"--{flag.replace('_', '-')} is about running a model: leave it out with --detections")

    def memory_rule(self) -> str | None:
        """By which energy is estimated; None: it is not."""
        if self.energy_memory is None:
            return next(iter(MEMORIES)) if self.energy else None
        if self.energy_memory not in MEMORIES:
            raise UserError(none_of(f"--energy-memory {self.energy_memory!r}", self.energy_memory, MEMORIES))
        return self.energy_memory
