"""Logs of a training: console lines or a progress bar, metrics.jsonl, TensorBoard. Only rank 0 writes."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor
from tqdm import tqdm

from data.atomic_file import append_line, write_atomically
from scoring.voc_ap import Curve

from ..loop import Step
from .board import Board
from .console_text import ExpectedTime

POINTS = 5000  # of a training at most, after the first steps: TensorBoard shows 1000 of a tag
TAGS = {"peak_gib": "peak/memory_gib", "loss_scale": "optim/loss_scale", "skipped_steps": "optim/skipped_steps"}


class RunLog:
    """Logs into the run folder `folder`; on a terminal epochs show a tqdm bar, elsewhere one plain line each.

    `log_every`: steps between points in TensorBoard, more in a training of over `POINTS` of them; each of the first
    `log_every` steps is a point, for short runs.
    `first_epoch`: when resuming, lines of that epoch and later are cut from metrics.jsonl, and TensorBoard hides points
    from `first_step` on, since they are written again. `steps`: of the whole training, for the expected time.
    """

    def __init__(self, folder: Path, log_every: int, first_epoch: int = 0, first_step: int = 0, steps: int = 0):
        self.folder, self.log_every = folder, log_every
        self.every = log_every * max(1, -(-steps // (log_every * POINTS)))
        self.expected = ExpectedTime(first_step, steps)
        self.metrics = folder / "metrics.jsonl"
        self.bar: tqdm | None = None
        self._failed: set[str] = set()
        self.attempt("metrics.jsonl", lambda: self._cut_metrics(first_epoch))
        self.board: Board | None = None
        self.attempt("TensorBoard", lambda: self._open_board(first_step))

    def attempt(self, what: str, action: Callable[[], object]) -> None:
        """Run `action`. A failure prints a warning, once for each `what`, and does not stop the training."""
        try:
            action()
        except Exception as error:
            if what not in self._failed:
                self._failed.add(what)
                self.say(f"warning: {what} failed, and the training goes on without it: {error or repr(error)}")

    def _open_board(self, first_step: int) -> None:
        self.board = Board(self.folder, first_step)

    def _on_board(self, action: Callable[[Board], object]) -> None:
        """Call `action` with the TensorBoard writer, unless that has failed before."""
        if (board := self.board) is not None and "TensorBoard" not in self._failed:
            self.attempt("TensorBoard", lambda: action(board))

    def _write(self, method: str, *arguments: Any) -> None:
        self._on_board(lambda board: board.write(method, *arguments))

    def _cut_metrics(self, first_epoch: int) -> None:
        if not self.metrics.exists():
            return
        text = self.metrics.read_bytes().decode(errors="replace")
        lines = [line for line in text.split("\n") if line]
        damaged = [i for i, line in enumerate(lines) if _epoch(line) is None]
        kept = [line for line in lines if (epoch := _epoch(line)) is not None and epoch < first_epoch]
        if damaged:
            self.say(
                f"warning: {self.metrics}: {len(damaged)} damaged lines left out, the first is line {damaged[0] + 1}: "
                f"{lines[damaged[0]][:60]!r}"
            )
        if missing := sorted(set(range(first_epoch)) - {_epoch(line) for line in kept}):
            self.say(f"warning: {self.metrics}: no line of epochs {missing[:5]}{' ...' if len(missing) > 5 else ''}")
        if (text_kept := "".join(f"{line}\n" for line in kept)) != text:
            write_atomically(self.metrics, text_kept)

    def say(self, text: str) -> None:
        with contextlib.suppress(OSError):  # a closed pipe
            tqdm.write(text, file=sys.stdout)
            sys.stdout.flush()

    def progress(self, batches: Iterable, epoch: int, epochs: int, trained: int = 0) -> Iterable:
        """trained: batches of the epoch before these."""
        hidden = not sys.stderr.isatty()
        self.bar = tqdm(batches, desc=f"epoch {epoch + 1}/{epochs}", initial=trained, leave=False, disable=hidden)
        return self.bar

    def step(self, step: Step) -> None:
        if self.bar is not None:
            self.bar.set_postfix({k: f"{v:.3f}" for k, v in step.losses.items()} | {"lr": f"{step.lr['']:.1e}"})
        if line := self.expected.step(step.step, step.step_time):
            self.say(line)
        if step.step % self.every and step.step >= self.log_every:
            return
        for key, value in step.losses.items():
            self._write("add_scalar", f"loss/{key}", value, step.step)
        self._write("add_scalar", "loss/total", sum(step.losses.values()), step.step)
        for pattern, lr in step.lr.items():
            self._write("add_scalar", f"optim/lr_of_{pattern}" if pattern else "optim/lr", lr, step.step)
        self._write("add_scalar", "optim/grad_norm", step.grad_norm, step.step)
        self.scalars({f"optim_grad_norm/{stage}": norm for stage, norm in step.stage_norms.items()}, step.step)
        self._write("add_scalar", "time/step", step.step_time, step.step)
        self._write("add_scalar", "time/data", step.data_time, step.step)

    def epoch(self, record: dict[str, Any]) -> None:
        """One line of metrics.jsonl; its scalars named val/..., anneal/... and those of `TAGS` go to TensorBoard at
        `record["step"]`."""
        self.attempt("metrics.jsonl", lambda: append_line(self.metrics, json.dumps(record)))
        for key, value in record.items():
            if (key in TAGS or key.startswith(("val/", "anneal/"))) and isinstance(value, (int, float)):
                self._write("add_scalar", TAGS.get(key, key), value, record["step"])
        self._on_board(Board.flush)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """{tag: value}. TensorBoard sorts groups of tags, which end at the first /, by name and opens the first two:
        `loss` and `optim`. Those with many tags stay closed."""
        for tag, value in values.items():
            self._write("add_scalar", tag, value, step)

    def images(self, images: Mapping[str, Tensor], step: int) -> None:
        """{tag: uint8 [3, H, W]}."""
        for tag, image in images.items():
            self._on_board(partial(Board.image, tag=tag, image=image, step=step))

    def precision_recall(self, curves: Mapping[str, Curve], step: int) -> None:
        """{class: its curve}."""
        self._on_board(lambda board: board.precision_recall(curves, step))

    def hyperparameters(self, values: Mapping[str, str | float]) -> None:
        """{config key: value}, beside which the tab HParams shows the last `METRICS`."""
        self._on_board(lambda board: board.hyperparameters(values))

    def warn(self, text: str, step: int) -> None:
        """On the console and in TensorBoard."""
        self.say(f"warning: {text}")
        self._write("add_text", "warnings", text, step)

    def close(self) -> None:
        self._on_board(Board.close)


class SilentLog:
    """The log of ranks above 0: the methods of `RunLog` that the trainer calls, without output."""

    def attempt(self, what: str, action: Callable[[], object]) -> None:
        pass

    def say(self, text: str) -> None:
        pass

    def progress(self, batches: Iterable, epoch: int, epochs: int, trained: int = 0) -> Iterable:
        return batches

    def step(self, step: Step) -> None:
        pass

    def epoch(self, record: dict[str, Any]) -> None:
        pass

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        pass

    def images(self, images: Mapping[str, Tensor], step: int) -> None:
        pass

    def precision_recall(self, curves: Mapping[str, Curve], step: int) -> None:
        pass

    def hyperparameters(self, values: Mapping[str, str | float]) -> None:
        pass

    def warn(self, text: str, step: int) -> None:
        pass

    def close(self) -> None:
        pass


def _epoch(line: str) -> int | None:
    """The epoch of a line of metrics.jsonl; None if the line is damaged."""
    try:
        epoch = json.loads(line)["epoch"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    return epoch if isinstance(epoch, int) and not isinstance(epoch, bool) else None
