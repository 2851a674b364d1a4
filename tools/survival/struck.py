"""train.py, struck by a signal at a planned moment: `python -m tools.survival.struck PLAN [arguments of train.py]`.

PLAN is a file of a `Plan` as JSON. Beside it each process keeps status<rank>.json, a `Status`.
"""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch.optim.optimizer import register_optimizer_step_post_hook

import engine.runs.checkpoint
from engine.validation import Validation

TRAIN = Path(__file__).parents[2] / "train.py"
PHASES = ("step", "save", "evaluation")


@dataclass
class Plan:
    """`delay` seconds after the `count`-th time that `rank` enters `phase`, `signal` goes to `target`: itself, the
    group of its processes (its loader workers, too), or its parent, torchrun."""

    signal: int
    phase: str
    count: int
    delay: float
    rank: int = 0
    target: str = "process"


@dataclass
class Status:
    """Optimizer steps of this process; where it was when it was struck, "" before."""

    steps: int = 0
    struck: str = ""


class Struck:
    def __init__(self, plan: Plan, folder: Path):
        self.rank = int(os.environ.get("RANK", 0))
        self.plan, self.file = plan, folder / f"status{self.rank}.json"
        self.counts = dict.fromkeys(PHASES, 0)
        self.status, self.phase, self.writing = Status(), "step", threading.Lock()
        self._write()

    def enter(self, phase: str) -> None:
        self.counts[phase] += 1
        plan = self.plan
        if (self.rank, phase, self.counts[phase]) == (plan.rank, plan.phase, plan.count):
            threading.Thread(target=self._strike, daemon=True).start()

    @contextmanager
    def within(self, phase: str) -> Iterator[None]:
        before, self.phase = self.phase, phase
        self.enter(phase)
        try:
            yield
        finally:
            self.phase = before

    def step(self, *_: Any) -> None:
        self.status.steps += 1
        self._write()
        self.enter("step")

    def _strike(self) -> None:
        time.sleep(self.plan.delay)
        self.status.struck = self.phase
        self._write()
        if self.plan.target == "group":  # by another process: workers obey their training's own SIGTERM
            subprocess.run(["kill", f"-{self.plan.signal}", "--", f"-{os.getpgrp()}"])
        else:
            os.kill(os.getppid() if self.plan.target == "parent" else os.getpid(), self.plan.signal)

    def _write(self) -> None:
        with self.writing:  # two threads do
            new = self.file.with_suffix(".new")
            new.write_text(json.dumps(asdict(self.status)))
            new.replace(self.file)


def main(argv: list[str]) -> None:
    plan = Path(argv[0])
    struck = Struck(Plan(**json.loads(plan.read_text())), plan.parent)
    register_optimizer_step_post_hook(struck.step)
    write, score = engine.runs.checkpoint.write_checked, Validation.score

    def saves(content: dict[str, Any], path: Path) -> None:
        with struck.within("save"):
            write(content, path)

    def scores(*arguments: Any) -> dict[str, Any]:
        with struck.within("evaluation"):
            return score(*arguments)

    engine.runs.checkpoint.write_checked = saves
    Validation.score = scores  # type: ignore[method-assign, assignment]
    sys.argv = [str(TRAIN), *argv[1:]]
    runpy.run_path(str(TRAIN), run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])
