"""Time of named phases: CPU seconds of the process, wall time, and on a GPU the time between events on its stream."""

from __future__ import annotations

import time

import torch


class Stopwatch:
    """`watch("forward")` ends the phase before and begins the next; `stop()` gives {phase: {clock: seconds}}.

    Clocks: "cpu" (all threads of the process), "wall", and "device" on CUDA, where only `stop` waits for the device.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self._marks: list[tuple[str, float, float, torch.cuda.Event | None]] = []

    def __call__(self, phase: str) -> None:
        event = None
        if self.device.type == "cuda":
            event = torch.cuda.Event(enable_timing=True)
            event.record(torch.cuda.current_stream(self.device))
        self._marks.append((phase, time.process_time(), time.perf_counter(), event))

    def stop(self) -> dict[str, dict[str, float]]:
        self("")
        marks, self._marks = self._marks, []
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        found: dict[str, dict[str, float]] = {}
        for (phase, cpu, wall, event), (_, cpu_end, wall_end, event_end) in zip(marks, marks[1:], strict=False):
            spent = {"cpu": cpu_end - cpu, "wall": wall_end - wall}
            if event is not None and event_end is not None:
                spent["device"] = event.elapsed_time(event_end) / 1e3
            sums = found.setdefault(phase, dict.fromkeys(spent, 0.0))
            for clock, seconds in spent.items():
                sums[clock] += seconds
        return found
