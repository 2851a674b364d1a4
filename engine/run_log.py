"""What a run tells: console lines or a progress bar, metrics.jsonl, TensorBoard. Only rank 0 writes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from .loop import Step
from .run_facts import Expected


class RunLog:
    """Logs into the run folder `folder`; on a terminal epochs show a tqdm bar, elsewhere one plain line each.

    `log_every`: steps between points in TensorBoard; the first so many steps are points each, so that short runs show.
    `first_epoch`: when resuming, lines of that epoch and later are cut from metrics.jsonl, and TensorBoard hides points
    from `first_step` on, since they are written again. `steps`: of the whole training, to tell how long it takes.
    """

    def __init__(self, folder: Path, log_every: int, first_epoch: int = 0, first_step: int = 0, steps: int = 0):
        self.folder, self.log_every = folder, log_every
        self.expected = Expected(first_step, steps)
        self.metrics = folder / "metrics.jsonl"
        if self.metrics.exists():
            lines = [line for line in self.metrics.read_text().splitlines() if _epoch(line) < first_epoch]
            self.metrics.write_text("".join(f"{line}\n" for line in lines))
        self.board = SummaryWriter(str(folder), purge_step=first_step)
        self.bar: tqdm | None = None

    def say(self, text: str) -> None:
        tqdm.write(text, file=sys.stdout)
        sys.stdout.flush()

    def progress(self, batches: Iterable, epoch: int, epochs: int) -> Iterable:
        self.bar = tqdm(batches, desc=f"epoch {epoch + 1}/{epochs}", leave=False, disable=not sys.stderr.isatty())
        return self.bar

    def step(self, step: Step) -> None:
        if self.bar is not None:
            self.bar.set_postfix({k: f"{v:.3f}" for k, v in step.losses.items()} | {"lr": f"{step.lr:.1e}"})
        if line := self.expected.step(step.step, step.step_time):
            self.say(line)
        if step.step % self.log_every and step.step >= self.log_every:
            return
        for key, value in step.losses.items():
            self.board.add_scalar(f"loss/{key}", value, step.step)
        self.board.add_scalar("loss/total", sum(step.losses.values()), step.step)
        self.board.add_scalar("optim/lr", step.lr, step.step)
        self.board.add_scalar("optim/grad_norm", step.grad_norm, step.step)
        self.board.add_scalar("time/step", step.step_time, step.step)
        self.board.add_scalar("time/data", step.data_time, step.step)

    def epoch(self, record: dict[str, Any]) -> None:
        """One line of metrics.jsonl; its scalars named val/... go to TensorBoard at `record["step"]`."""
        with self.metrics.open("a") as file:
            file.write(json.dumps(record) + "\n")
        for key, value in record.items():
            if key.startswith("val/") and isinstance(value, (int, float)):
                self.board.add_scalar(key, value, record["step"])
        self.board.flush()

    def firing_rates(self, rates: dict[str, float], step: int) -> None:
        # TensorBoard sorts groups of tags by name and opens the first two: the losses, not a card for each layer.
        for layer, rate in rates.items():
            self.board.add_scalar(f"val_firing_rate/{layer}", rate, step)

    def pictures(self, pictures: list[Tensor], step: int) -> None:
        """uint8 [3, H, W] each; always the same samples."""
        for i, picture in enumerate(pictures):
            self.board.add_image(f"val_pictures/{i}", picture, step)

    def close(self) -> None:
        self.board.close()


class SilentLog:
    """What the other ranks use."""

    def progress(self, batches: Iterable, epoch: int, epochs: int) -> Iterable:
        return batches

    def __getattr__(self, name: str):
        return lambda *args, **kwargs: None


def _epoch(line: str) -> float:
    try:
        return json.loads(line)["epoch"]
    except (json.JSONDecodeError, KeyError, TypeError):
        return float("inf")  # a line cut off by a crash
