"""Milliseconds per frame of a prediction (`Stopwatch`): reading, model, and drawing with writing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

STAGES = {"read": "read and prepared", "model": "model", "draw": "drawn and written"}


class Stopwatch:
    """Seconds of each stage. The first batch is kept apart: it also compiles and allocates."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self.frames = 0
        self.first: tuple[float, int] | None = None  # seconds, frames

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - began

    def end_batch(self, frames: int) -> None:
        self.frames += frames
        if self.first is None:
            self.first = sum(self.seconds.values()), frames
            self.seconds, self.frames = dict.fromkeys(STAGES, 0.0), 0

    def lines(self, unit: str, device: str) -> list[str]:
        """For the user; of a single batch its own times."""
        if self.first is None:
            return []
        first = f"{1e3 * self.first[0]:.0f} ms for the first {self.first[1]}, with all that is set up once"
        if not self.frames:
            return [f"time        {first} ({device})"]
        each = {name: 1e3 * seconds / self.frames for name, seconds in self.seconds.items()}
        total = sum(each.values())
        split = ", ".join(f"{each[name]:.1f} {what}" for name, what in STAGES.items())
        return [
            f"time        {total:.1f} ms per {unit}: {split} ({device}); {1e3 / max(total, 1e-9):.1f} {unit}s/s",
            f"            {first}, apart",
        ]
