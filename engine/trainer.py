"""Trainer: runs epochs, validates, writes checkpoints and logs, resumes from a checkpoint."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch.utils.data import DataLoader

from data.atomic_file import remove_partial_files
from models import Detector
from models.contracts import FollowsEpochs
from registry import UserError

from . import distributed
from .anneal import Anneal, set_values
from .distill import Distillation
from .loop import Update, stream_of, train_epoch
from .memory import peak_gib
from .multi_scale import MultiScale
from .runs.checkpoint import Content, load_checkpoint, save_checkpoint
from .runs.console_text import ExpectedTime
from .runs.identity import COMPARED, compare, refuse, same_judge
from .runs.log import RunLog, SilentLog
from .runs.training_state import other_machine, restore_training, training_state
from .validation import Validation
from .wrap import wrap

LAST, BEST, KEPT = "checkpoint_last.pt", "checkpoint_best.pt", "checkpoint_epoch{}.pt"


@dataclass
class Execution:
    """How the model runs in training. precision: see `precision.autocast`. checkpoint, compile: see `wrap`."""

    device: torch.device
    precision: str = "fp32"
    checkpoint: bool = False
    compile: bool = False


@dataclass
class Trainer:
    """Train a detector and write its run folder.

    model: on `execution.device`, as is the average in `update`, whose weights are validated.
    identity: plain values saved in each checkpoint: the config, and what a resume compares (`identity.COMPARED`).
    """

    model: Detector
    update: Update
    train_loader: DataLoader
    validation: Validation
    folder: Path
    execution: Execution
    epochs: int
    identity: dict[str, Any]
    log_every: int = 20
    keep_every: int | None = None  # epochs between checkpoints that later ones do not replace, from the start on
    distillation: Distillation | None = None
    anneal: Anneal | None = None
    sizes: MultiScale | None = None
    # State, restored by `resume`.
    epoch: int = field(default=0, init=False)  # epochs trained
    best: float = field(default=-1.0, init=False)
    unscored: dict[str, Any] | None = field(default=None, init=False)  # record of a trained epoch without its score
    history: list[dict[str, Any]] = field(default_factory=list, init=False)  # records of the epochs of this process

    @property
    def steps_per_epoch(self) -> int:
        return -(-len(self.train_loader) // self.update.batches)

    def fit(self) -> list[dict[str, Any]]:
        """Train to the last epoch; returns one record per epoch run here, as written to metrics.jsonl."""
        main = distributed.is_main()
        first_epoch = self.epoch - (self.unscored is not None)
        log = (
            RunLog(
                self.folder,
                self.log_every,
                first_epoch,
                self.epoch * self.steps_per_epoch,
                self.epochs * self.steps_per_epoch,
            )
            if main
            else SilentLog()
        )
        run = self.execution
        model = wrap(self.model, run.checkpoint, run.compile, run.device)
        took: list[float] = []
        try:
            if self.keep_every is not None and self.epoch == 0:
                self._save([KEPT.format(0)], {}, scored=True)
            if self.unscored is not None:
                self._anneal(self.epoch - 1)
                log.say(_line(self._finish_epoch(log, self.unscored, validate=True), self.epochs))
            for epoch in range(self.epoch, self.epochs):
                started = time.perf_counter()
                self.train_loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined, union-attr]
                for module in self.model.modules():
                    if isinstance(module, FollowsEpochs):
                        module.epochs_left = self.epochs - epoch
                annealed = self._anneal(epoch)
                first_step = epoch * self.steps_per_epoch
                teacher = self.distillation
                distilling = nullcontext() if teacher is None else teacher.epoch(self.train_loader)
                with stream_of(model, self.train_loader, self.update.bptt) as stream, distilling as more_losses:
                    losses = train_epoch(
                        model,
                        log.progress(self.train_loader, epoch, self.epochs),
                        self.update,
                        run.device,
                        precision=run.precision,
                        first_step=first_step,
                        on_step=log.step,
                        stream=stream,
                        more_losses=more_losses,
                        sizes=self.sizes,
                    )
                self.epoch = epoch + 1
                # The last step's number: the next one's would be purged from TensorBoard on a resume.
                record: dict[str, Any] = {"epoch": epoch, "step": first_step + self.steps_per_epoch - 1}
                record |= {f"loss/{k}": v for k, v in losses.items()}
                record |= annealed
                record |= {} if self.update.scaler is None else self.update.scaler.record()
                record["peak_gib"] = max(distributed.gather(peak_gib(run.device)))
                record["seconds"] = round(time.perf_counter() - started, 2)
                validate = self.epoch % self.validation.every == 0 or self.epoch == self.epochs
                record = self._finish_epoch(log, record, validate)
                took.append(time.perf_counter() - started)
                line = _line(record, self.epochs, with_memory=len(took) == 1)
                log.say(line + ExpectedTime.left(took, self.epochs - self.epoch))
        finally:
            log.close()
        return self.history

    def _anneal(self, epoch: int) -> dict[str, int | float]:
        """Set the values of `anneal` for an epoch, also in the average; returns them for the record.

        Where D or T change the best score starts anew, as scores before are those of another network."""
        if self.anneal is None:
            return {}
        values = self.anneal.values(epoch)
        set_values(self.model, values)
        set_values(cast(Detector, self.update.ema.module), values)
        if self.anneal.changes_scores(epoch):
            self.best = -1.0
        return {f"anneal/{name}": value for name, value in values.items()}

    def _finish_epoch(self, log: RunLog | SilentLog, record: dict[str, Any], validate: bool) -> dict[str, Any]:
        """Score, log and save an epoch; returns its record, complete.

        Its weights are saved before they are scored, so that no failure of validation loses them; a resume then scores
        them first.
        """
        if validate:
            self._save([LAST], record, scored=False)
            try:
                run = self.execution
                evaluated = self.update.ema.module
                record = record | self.validation.score(evaluated, run.device, run.precision, log, record["step"])
            except Exception:
                log.say(f"{self.folder / LAST} holds epoch {self.epoch}, whose validation failed: --resume scores it")
                raise
        log.epoch(record)  # before the checkpoint: after a crash between both the epoch is scored and logged again
        score = record.get("val/AP", record.get("val/AP50"))  # AP50 where a protocol has no AP
        improved = score is not None and score > self.best
        if improved:
            self.best = float(score or 0.0)
        # Best first: checkpoint_last.pt must not hold the score of a checkpoint_best.pt that a crash left unwritten.
        kept = self.keep_every is not None and (self.epoch % self.keep_every == 0 or self.epoch == self.epochs)
        names = [*([KEPT.format(self.epoch)] if kept else []), *([BEST] if improved else []), LAST]
        self._save(names, record, scored=True)
        self.history.append(record)
        return record

    def _save(self, names: list[str], record: dict[str, Any], scored: bool) -> None:
        """Write checkpoints of these names after an epoch; FloatingPointError where a tensor is not finite."""
        state = training_state(self.model, self.update, self.execution.device)
        if not distributed.is_main():
            return
        content = {
            **self.identity,
            **state,
            "epoch": self.epoch,
            "best": self.best,
            "metrics": record,
            "steps_per_epoch": self.steps_per_epoch,
            "scored": scored,
        }
        if self.anneal is not None and (annealed := self.anneal.unfinished(self.epoch - 1)):
            content["annealed"] = annealed
        for name in names:
            save_checkpoint(self.folder / name, content)

    def resume(self, path: Path) -> list[str]:
        """Continue exactly where `path` was written: weights, averages, optimizer, epoch, best score, generators.

        Returns lines for the user. UserError if classes, data, model or steps per epoch differ.
        """
        content = load_checkpoint(path)
        try:
            said = self._restore(content, path)
        except (LookupError, TypeError, AttributeError, RuntimeError, ArithmeticError) as error:
            raise UserError(f"{path}: holds no training that can be continued: {error!r}") from error
        if distributed.is_main():
            remove_partial_files(self.folder)
        return said

    def _restore(self, content: Content, path: Path) -> list[str]:
        no_teacher = {"teacher": None}
        now = {**no_teacher, **self.identity, "steps_per_epoch": self.steps_per_epoch}
        changes = compare(no_teacher | {key: content[key] for key in COMPARED if key in content}, now)
        if content["steps_per_epoch"] < self.steps_per_epoch and "data" not in content:
            changes.append("a version before this one left out the last, smaller batch of an epoch")
        refuse(changes)
        restore_training(content, path, self.model, self.update, self.execution.device)
        self.epoch = content["epoch"]
        if not content.get("scored", True):
            self.unscored = content["metrics"]
            _line(self.unscored, self.epochs)  # fails here if the record is damaged
        said = same_judge(content, self.identity["judged_by"])
        if not said:
            self.best = content["best"]
        return said + other_machine(content, self.execution.device)


def _line(record: dict[str, Any], epochs: int, with_memory: bool = False) -> str:
    losses = "  ".join(f"{k.removeprefix('loss/')} {v:.4f}" for k, v in record.items() if k.startswith("loss/"))
    scores = "  ".join(
        f"{k.removeprefix('val/')} {record[k]:.3f}" for k in ("val/AP", "val/AP50") if record.get(k) is not None
    )
    protocol = f"  ({record['val/protocol']})" if "val/protocol" in record else ""
    more = f"  peak memory {record['peak_gib']:.2f} GiB" if with_memory else ""
    if record.get("skipped_steps"):
        more += f"  {record['skipped_steps']} steps skipped so far (float16 overflow)"
    return f"epoch {record['epoch'] + 1}/{epochs}  {record['seconds']:.0f} s  {losses}  {scores}{protocol}{more}"
