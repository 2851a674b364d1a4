"""Trainer: runs epochs, validates, writes checkpoints and logs, resumes from a checkpoint."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from torch import nn
from torch.utils.data import DataLoader

from data.atomic_file import remove_partial_files
from models import Detector
from models.contracts import FollowsEpochs
from neurons import Stream
from registry import UserError

from . import distributed
from .anneal import Anneal
from .best_score import BestScore
from .distill import Distillation
from .due import Clock
from .interrupts import Interrupts, interrupt
from .loop import Running, Step, Update, stream_of, train_epoch
from .memory import peak_gib
from .multi_scale import MultiScale
from .nonfinite import Keeper
from .runs.checkpoint import Content, load_checkpoint
from .runs.console_text import ExpectedTime, epoch_text
from .runs.files import BEST, KEPT, LAST
from .runs.hyperparameters import hyperparameters
from .runs.identity import COMPARED, compare, refuse, same_judge
from .runs.log import RunLog, SilentLog
from .runs.newest import save_all, set_damaged_aside
from .runs.training_state import other_machine, restore_training, training_state
from .runs.within_epoch import Carried, epoch_state, restored_running
from .step_trace import WARM_UP, StepTrace
from .validation import Validation
from .wrap import Execution, wrap

Log = RunLog | SilentLog
Plain = dict[str, Any]


class _OutOfTime(Exception):
    """`train.max_hours` have passed within an epoch."""

    def __init__(self, record: Plain, content: Plain | None):
        self.record, self.content = record, content


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
    identity: Plain
    log_every: int = 20
    keep_every: int | None = None  # epochs between checkpoints that later ones do not replace, from the start on
    distillation: Distillation | None = None
    anneal: Anneal | None = None
    sizes: MultiScale | None = None
    profile: int | None = None  # steps to record: see `StepTrace`
    best: BestScore = field(default_factory=BestScore)  # also state, restored by `resume`
    clock: Clock = field(default_factory=Clock)
    # State, restored by `resume`.
    epoch: int = field(default=0, init=False)  # epochs trained
    running: Running = field(default_factory=Running, init=False)  # of the next epoch
    unscored: Plain | None = field(default=None, init=False)  # record of a trained epoch without its score
    history: list[Plain] = field(default_factory=list, init=False)  # records of the epochs of this process
    interrupts: Interrupts = field(default_factory=Interrupts, init=False)
    _carried: Carried | None = field(default=None, init=False)  # for the streams of an epoch that is continued

    @property
    def steps_per_epoch(self) -> int:
        return -(-len(self.train_loader) // self.update.batches)

    @property
    def step(self) -> int:
        """Steps of the optimizer so far."""
        return self.epoch * self.steps_per_epoch + -(-self.running.batches // self.update.batches)

    @property
    def ended(self) -> bool:
        """Whether nothing is left to train."""
        return self.epoch == self.epochs or (self.best.exhausted and not self.running.batches)

    def fit(self) -> list[Plain]:
        """Train to the last epoch, or until patience is exhausted or `clock.max_hours` have passed; returns one record
        per epoch run here, as written to metrics.jsonl.

        KeyboardInterrupt after a signal, once the training is saved: `Preempted` if a queue sent it.
        """
        first_epoch = self.epoch - (self.unscored is not None)
        steps = self.epochs * self.steps_per_epoch
        main = distributed.is_main()
        log = RunLog(self.folder, self.log_every, first_epoch, self.step, steps) if main else SilentLog()
        log.hyperparameters(hyperparameters(self.identity["config"]))
        run = self.execution
        model = wrap(self.model, run.checkpoint, run.compile, run.device, run.pack)
        took: list[float] = []
        try:
            with self.interrupts.noted():
                if self.keep_every is not None and self.step == 0:
                    self._save(log, [KEPT.format(0)], self._content({}, scored=True))
                if self.unscored is not None:
                    self._anneal(self.epoch - 1)
                    log.say(epoch_text(self._finish_epoch(log, self.unscored, validate=True), self.epochs))
                while not self.ended:
                    started = time.perf_counter()
                    try:
                        record, over = self._train_epoch(model, log)
                    except _OutOfTime as end:
                        log.say(epoch_text(self._end_within_epoch(log, end), self.epochs) + self._left_for_later())
                        break
                    validate = over or self.epoch % self.validation.every == 0 or self.epoch == self.epochs
                    record = self._finish_epoch(log, record, validate)
                    took.append(time.perf_counter() - started)
                    if not self.ended and (over or validate and self.clock.due(self.interrupts).over):
                        log.say(epoch_text(record, self.epochs) + self._left_for_later())
                        break
                    line = epoch_text(record, self.epochs, with_memory=len(took) == 1)
                    log.say(line + ("" if self.ended else ExpectedTime.left(took, self.epochs - self.epoch)))
                if self.ended and self.epoch < self.epochs:
                    log.say(self.best.text(self.epoch, self.epochs))
        finally:
            log.close()
        return self.history

    def _train_epoch(self, model: nn.Module, log: Log) -> tuple[Plain, bool]:
        """(record of an epoch, or of its rest, trained; whether the time is over). `_OutOfTime` where it is before."""
        epoch, run, teacher, loader = self.epoch, self.execution, self.distillation, self.train_loader
        loader.sampler.set_epoch(epoch, self.running.batches * (loader.batch_size or 1))  # type: ignore[attr-defined, union-attr]
        for module in self.model.modules():
            if isinstance(module, FollowsEpochs):
                module.epochs_left = self.epochs - epoch
        annealed = self._anneal(epoch)
        over = False
        distilling = nullcontext() if teacher is None else teacher.epoch(loader)
        warm_up = min(WARM_UP, self.steps_per_epoch - 1)
        trace = StepTrace(self.folder / "profile", self.profile, run.device, warm_up, distributed.rank(), log.say)
        with stream_of(model, loader, self.update.bptt) as stream, distilling as more_losses, trace:
            found = {"model": stream, "teacher": None if teacher is None else teacher.stream}
            streams = {name: open_stream for name, open_stream in found.items() if open_stream is not None}
            if self._carried is not None:
                self._carried.restore(streams, loader.batch_size or 1, run.device)
                self._carried = None

            def after_step(step: Step) -> None:
                nonlocal over
                log.step(step)
                trace.step()
                over = self._between_steps(log, streams, annealed)

            losses = train_epoch(
                model,
                log.progress(loader, epoch, self.epochs, self.running.batches),
                self.update,
                run.device,
                precision=run.precision,
                first_step=self.step,
                running=self.running,
                on_step=after_step,
                phase=trace.phase,
                stream=stream,
                more_losses=more_losses,
                sizes=self.sizes,
                keep=Keeper(self.folder, {**self.identity, "precision": run.precision, "bptt": self.update.bptt}),
            )
        record = self._record(losses, annealed)
        record["peak_gib"] = max(distributed.gather(peak_gib(run.device)))
        self.epoch, self.running = epoch + 1, Running()
        return record, over

    def _record(self, losses: dict[str, float], annealed: dict[str, int | float]) -> Plain:
        # The last step's number: the next one's would be purged from TensorBoard on a resume.
        record: Plain = {"epoch": self.epoch, "step": self.step - 1}
        record |= {f"loss/{k}": v for k, v in losses.items()} | annealed
        record |= {} if self.update.scaler is None else self.update.scaler.record()
        return record | {"seconds": round(self.running.seconds, 2)}

    def _between_steps(self, log: Log, streams: dict[str, Stream], annealed: dict[str, int | float]) -> bool:
        """Save and end where that is due; returns whether the time is over after the last step of an epoch."""
        whole = self.running.batches == len(self.train_loader)
        due, written = self.clock.due(self.interrupts), True
        if due.save and (due.signal or not whole):
            record = self._record(self.running.means(), annealed) | {"batch": self.running.batches}
            content = self._content(record, scored=True, streams=streams)
            written = self._save(log, [LAST], content)
            if due.over and not due.signal:
                raise _OutOfTime(record, content)
        if due.signal:
            distributed.barrier()  # the end of one process ends the others, and rank 0 may still be writing
            where = f"epoch {self.epoch + 1}, batch {self.running.batches} of {len(self.train_loader)}"
            saved = f"{where} is saved: continue there with --resume {self.folder}" if due.save and written else ""
            raise interrupt(due.signal, saved)
        return due.over

    def _left_for_later(self) -> str:
        return f"  train.max_hours = {self.clock.max_hours:g} are over: --resume {self.folder} continues"

    def _anneal(self, epoch: int) -> dict[str, int | float]:
        """Set the values of `anneal` for an epoch, also in the average; returns them for the record.

        Where D or T change the best score starts anew, as scores before are those of another network."""
        if self.anneal is None:
            return {}
        if self.anneal.changes_scores(epoch):
            self.best.starts_anew()
        return self.anneal.set(epoch, self.model, cast(Detector, self.update.ema.module))

    def _finish_epoch(self, log: Log, record: Plain, validate: bool) -> Plain:
        """Score, log and save an epoch; returns its record, complete.

        Its weights are saved before they are scored, so that no failure of validation loses them; a resume then scores
        them first.
        """
        if validate:
            self._save(log, [LAST], self._content(record, scored=False))
            try:
                record = record | self._score(log, record["step"])
            except Exception:
                log.say(f"{self.folder / LAST} holds epoch {self.epoch}, whose validation failed: --resume scores it")
                raise
        log.epoch(record)  # before the checkpoint: after a crash between both the epoch is scored and logged again
        # Best first: checkpoint_last.pt must not hold the score of a checkpoint_best.pt that a crash left unwritten.
        before = self.best.state()
        best = [BEST] if self._improved(record) else []
        kept = self.keep_every is not None and (self.epoch % self.keep_every == 0 or self.ended)
        names = [*([KEPT.format(self.epoch)] if kept else []), *best, LAST]
        self._save(log, names, self._content(record, scored=True), before)
        self.history.append(record)
        return record

    def _end_within_epoch(self, log: Log, end: _OutOfTime) -> Plain:
        """Score and log what `train.max_hours` left of an epoch, which is saved; returns its record, complete."""
        record = end.record | self._score(log, end.record["step"])
        log.epoch(record)
        before = self.best.state()
        names = [*([BEST] if self._improved(record) else []), LAST]
        self._save(log, names, end.content and {**end.content, **self.best.state(), "metrics": record}, before)
        self.history.append(record)
        return record

    def _score(self, log: Log, step: int) -> Plain:
        run, draws = self.execution, self.validation.draws_after(self.epoch, self.epochs)
        with self.interrupts.at_once():
            averaged = self.update.ema.module
            return self.validation.score(averaged, self.model, run.device, run.precision, log, step, draws)

    def _improved(self, record: Plain) -> bool:
        """Whether the score of a record is the best so far, which it then becomes. Patience counts whole epochs, once
        `anneal` has reached the last values, those of any finished training."""
        annealing = self.anneal is not None and bool(self.anneal.unfinished(self.epoch - 1))
        return self.best.improved(record, counts=not (annealing or "batch" in record))

    def _content(self, record: Plain, scored: bool, streams: dict[str, Stream] | None = None) -> Plain | None:
        """The content of a checkpoint, on rank 0, after an epoch or, with its open `streams`, within one."""
        state = training_state(self.model, self.update, self.execution.device)
        if streams is not None:
            state |= epoch_state(self.running, self.update.batches, streams)
        if self.anneal is not None:
            epoch = self.epoch if streams is not None else self.epoch - 1
            state |= {"annealed": values} if (values := self.anneal.unfinished(epoch)) else {}
        if not distributed.is_main():
            return None
        return {
            **self.identity,
            **state,
            "epoch": self.epoch,
            **self.best.state(),
            "metrics": record,
            "steps_per_epoch": self.steps_per_epoch,
            "scored": scored,
        }

    def _save(self, log: Log, names: list[str], content: Plain | None, before: Plain | None = None) -> bool:
        """Write checkpoints of these names, on rank 0; returns whether all were written. before: of an epoch that is
        scored, the best score's state before.

        A write that fails, as on a full disk, is a warning, since the file before is still there; once nothing is left
        to train it is an OSError on all ranks. FloatingPointError where a tensor is not finite.
        """
        failed = distributed.broadcast({} if content is None else save_all(self.folder, names, content, before))
        if BEST in failed and before is not None:
            self.best.restore(before)
        if failed and before is not None and self.ended:
            raise OSError("; ".join(failed.values()))
        for text in failed.values():
            log.say(f"warning: {text}. The training goes on; the next checkpoint is tried when it is due")
        self.clock.saved()
        return not failed

    def resume(self, path: Path) -> list[str]:
        """Continue exactly where `path` was written: weights, averages, optimizer, position, best score, generators.

        Returns lines for the user. UserError if classes, data, model or steps per epoch differ.
        """
        content = load_checkpoint(path)
        try:
            said = self._restore(content, path)
        except (LookupError, TypeError, AttributeError, RuntimeError, ArithmeticError) as error:
            raise UserError(f"{path}: holds no training that can be continued: {error!r}") from error
        if distributed.is_main():
            remove_partial_files(self.folder)
            set_damaged_aside(self.folder, path)
        self.clock.saved()
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
        if "batch" in content:
            self.running = restored_running(content, self.update.batches, len(self.train_loader))
            self._carried = Carried(content["streams"], path)
        if not content.get("scored", True):
            self.unscored = content["metrics"]
            epoch_text(self.unscored, self.epochs)  # fails here if the record is damaged
        said = same_judge(content, self.identity["judged_by"])
        if not said:
            self.best.restore(content)
        return said + other_machine(content, self.execution.device)
