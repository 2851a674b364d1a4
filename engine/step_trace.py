"""Record training steps with torch.profiler: a trace file in the run folder that TensorBoard and Perfetto open."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, record_function, schedule

WARM_UP = 3  # steps, which compile and choose algorithms


class StepTrace:
    """Within `with trace:`, the steps of an epoch, call `trace.phase(name)` when a phase of a step begins and
    `trace.step()` after each step. Once `steps` are recorded, after the first `warm_up`, or at the end of the epoch,

        folder/rank<rank>.pt.trace.json.gz

    is written: all operators with the shapes of their inputs, the kernels of a GPU, and the phases. This happens once.
    steps: None records nothing. say: gets a line about the file.
    """

    def __init__(
        self,
        folder: Path,
        steps: int | None,
        device: torch.device,
        warm_up: int = WARM_UP,
        rank: int = 0,
        say: Callable[[str], None] = print,
    ):
        self.file, self.steps, self.warm_up, self.say = folder / f"rank{rank}.pt.trace.json.gz", steps, warm_up, say
        self.activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
        self._profile: profile | None = None
        self._phase: record_function | None = None
        self._left = 0  # steps until the file is written

    def __enter__(self) -> None:
        if self.steps is None or self.file.exists():
            return
        self._left = self.warm_up + self.steps
        self._profile = profile(
            activities=self.activities,
            schedule=schedule(wait=0, warmup=self.warm_up, active=self.steps, repeat=1),
            on_trace_ready=self._write,
            record_shapes=True,
        )
        self._profile.start()

    def __exit__(self, *exception: object) -> None:
        if self._profile is not None:
            self._end_phase()
            self._profile.stop()
            self._profile = None

    def phase(self, name: str) -> None:
        self._end_phase()
        if self._profile is not None:
            self._phase = record_function(name)
            self._phase.__enter__()

    def step(self) -> None:
        if self._profile is None:
            return
        self._left -= 1
        if self._left:
            self._profile.step()
        else:
            self.__exit__()

    def _end_phase(self) -> None:
        if self._phase is not None:
            self._phase.__exit__(None, None, None)
            self._phase = None

    def _write(self, recorded: profile) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        recorded.export_chrome_trace(str(self.file))
        self.say(f"trace of training steps: {self.file}, for TensorBoard or https://ui.perfetto.dev")
