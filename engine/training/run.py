"""The parts of a training, built in order from its config, and trained."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from omegaconf import DictConfig, OmegaConf
from torch.utils.data import DataLoader

from analysis.draw import overlay
from data import eval_loader, train_loader
from data.atomic_file import write_atomically
from models import Detector
from neurons.base import DynamicNeuron
from scoring.evaluator import Evaluator
from scoring.protocols import get_protocol

from .. import distributed
from ..algorithms import choose_algorithms
from ..batch_size import find_batch_size
from ..best_score import BestScore
from ..build import fixed_steps
from ..config import config_to_plain, evaluation_options, load_config, own_values
from ..drawn_samples import draw_closing, draw_samples
from ..due import Clock
from ..ema import build_ema
from ..errors import remedies
from ..evaluation_options import set_evaluation_options
from ..first_batches import fit_target
from ..generators import seed_everything, seed_rank
from ..loop import Update
from ..optim import build_optimizer, groups_text
from ..precision import loss_scaler
from ..runs.console_text import model_text, steps_text
from ..runs.folder import discarded_without_checkpoint, new_run_folder
from ..runs.identity import data_facts, extension, judged_by
from ..runs.lock import RunLock
from ..runs.provenance import append_provenance, provenance
from ..runs.resume import Start, plan_start
from ..runs.room import check_room, checkpoint_bytes
from ..trainer import Trainer
from ..validation import Validation
from ..wrap import Execution
from .network import build_network, prepare_network, start_anneal
from .options import schedule, start_distillation, start_multi_scale
from .splits import Say, Splits, read_splits


def run_training(config: str, overrides: Sequence[str], resume: str | None, command: list[str]) -> Path:
    """Train by a config file, or continue a training. Returns the run folder.

    resume: None: a new run; a run, "" (the last of that name) or "auto": `plan_start`. command: script and arguments,
    for the run's provenance.
    """
    cfg = load_config(config, list(overrides))
    get_protocol(cfg.eval.protocol)  # an unknown name fails before any work
    fit_target(cfg)
    start = plan_start(cfg, list(overrides), resume, config)
    device = distributed.start(start.cfg.device, start.cfg.timeout_minutes)
    try:
        distributed.require_same("checkpoint to continue", str(start.checkpoint or start.folder))
        if distributed.is_main():
            print("".join(f"{line}\n" for line in start.say), end="", flush=True)
        if start.finished and start.folder is not None:
            return start.folder
        with distributed.naming_lost_processes(), ExitStack() as held:
            return _train(start, device, command, held)
    finally:
        distributed.stop()


def _train(start: Start, device: torch.device, command: list[str], held: ExitStack) -> Path:
    """held: closes locks and contexts at the end."""
    cfg, resume = start.cfg, start.checkpoint
    clock = Clock(cfg.train.save_minutes, cfg.train.max_hours)
    say: Say = partial(print, flush=True) if distributed.is_main() else (lambda _: None)
    if resume and distributed.is_main():
        held.enter_context(RunLock(resume.parent))
        held.enter_context(discarded_without_checkpoint(resume.parent))
    if cfg.threads:
        torch.set_num_threads(cfg.threads)
    choose_algorithms(device, one_size=not cfg.eval.rectangular)
    seed_everything(cfg.seed)

    splits = read_splits(cfg, say)
    model, kwargs = build_network(cfg, splits, resume is not None, say)
    anneal = start_anneal(cfg, model, splits.train)
    model.to(device)
    if cfg.train.batch_size == "auto":
        cfg.train.batch_size, line = find_batch_size(cfg, model, splits.train, device)
        say(line)
    ranks = distributed.rank(), distributed.world_size()
    workers, epochs = cfg.data.workers, cfg.train.epochs
    loader = train_loader(splits.train, cfg.train.batch_size, cfg.seed, workers, *ranks, epochs)
    prepare_network(cfg, model, splits.train, resume is not None, device, say)
    distillation, teacher = start_distillation(cfg, model, splits, device, say)
    sizes = start_multi_scale(cfg, model, splits.train, say)
    update, steps = _update(cfg, model, splits, len(loader), device, say)
    folder = _run_folder(start, held)
    seed_rank(cfg.seed, distributed.rank())
    trainer = Trainer(
        model=model,
        update=update,
        train_loader=loader,
        validation=_validation(cfg, splits, device),
        folder=folder,
        execution=Execution(
            device, cfg.train.precision, cfg.train.checkpoint, cfg.train.compile, cfg.train.pack_spikes
        ),
        epochs=cfg.train.epochs,
        identity=_identity(cfg, splits, kwargs, update.batches) | teacher,
        log_every=cfg.train.log_every,
        keep_every=cfg.train.keep_every,
        distillation=distillation,
        anneal=anneal,
        sizes=sizes,
        best=BestScore(cfg.train.patience),
        clock=clock,
        profile=cfg.train.profile,
    )
    if resume:
        _resume(trainer, start, steps, say)
    if distributed.is_main():
        check_room(folder, checkpoint_bytes(model, trainer.update))
        write_atomically(folder / "config.yaml", OmegaConf.to_yaml(cfg, resolve=True))
        append_provenance(folder, provenance(command, device) | teacher)
    _describe(trainer, cfg, splits, kwargs, say)
    with remedies():
        trainer.fit()
    if trainer.ended:
        say(f"done: {folder}")
    return folder


def _update(
    cfg: DictConfig, model: Detector, splits: Splits, batches: int, device: torch.device, say: Say
) -> tuple[Update, int]:
    """What a step changes, and the steps of an epoch of that many batches."""
    steps = -(-batches // (cfg.train.accumulate * cfg.train.bptt))
    ema = build_ema(model, cfg.train.ema_decay, cfg.train.ema_ramp)
    set_evaluation_options(
        cast(Detector, ema.module), fixed_steps(model, splits.val.num_steps), **evaluation_options(cfg)
    )
    optim = cfg.optim
    optimizer = build_optimizer(model, optim.name, optim.lr, optim.momentum, optim.weight_decay, optim.groups)
    for line in groups_text(optimizer):
        say(line)
    update = Update(
        optimizer,
        schedule(cfg, steps, cfg.train.epochs),
        ema,
        cfg.train.accumulate,
        cfg.train.clip_norm,
        cfg.train.bptt,
        loss_scaler(device, cfg.train.precision),
    )
    return update, steps


def _run_folder(start: Start, held: ExitStack) -> Path:
    """That of the run to continue, else a new one, locked. Created only now: after an error in config or data no folder
    is left, and no earlier run is overwritten."""
    if start.checkpoint is not None and start.folder is not None:
        return start.folder
    cfg = start.cfg
    made = new_run_folder(cfg.out, cfg.name, cfg.overwrite, start.folder) if distributed.is_main() else None
    if made is not None:
        held.enter_context(RunLock(made))
        held.enter_context(discarded_without_checkpoint(made))
    return Path(distributed.broadcast(str(made)))


def _validation(cfg: DictConfig, splits: Splits, device: torch.device) -> Validation:
    val_set = splits.val
    ranks = distributed.rank(), distributed.world_size()
    loader: DataLoader = eval_loader(val_set, cfg.eval.batch_size, cfg.data.workers, *ranks)
    return Validation(
        loader,
        new_evaluator=lambda: Evaluator(val_set.ground_truth(), val_set.expected_images, cfg.data.allow_missing),
        protocol=cfg.eval.protocol,
        draw=lambda evaluator: list(draw_samples(evaluator, val_set, 4, partial(overlay, steps=True)).values()),
        draw_closing=lambda detector: list(draw_closing(detector, val_set, 2, device).values()),
        every=cfg.train.eval_every,
        both=cfg.train.eval_both,
    )


def _identity(cfg: DictConfig, splits: Splits, kwargs: dict[str, Any], batches: int) -> dict[str, Any]:
    """What checkpoints say of the training; batches: of one optimizer step."""
    plain, val_set = config_to_plain(cfg), splits.val
    return {
        "config": plain,
        "model_kwargs": kwargs,
        "class_names": splits.train.class_names,
        **({"input": val_set.input.to_plain()} if val_set.input is not None else {}),
        "data": data_facts(splits.train),
        "samples_per_step": cfg.train.batch_size * batches * distributed.world_size(),
        "judged_by": judged_by(plain, data_facts(val_set)),
    }


def _resume(trainer: Trainer, start: Start, steps: int, say: Say) -> None:
    cfg = start.cfg
    assert start.checkpoint is not None
    for line in trainer.resume(start.checkpoint):
        say(line)
    if start.epochs != cfg.train.epochs:
        rates = (schedule(cfg, steps, epochs).rate(trainer.step) for epochs in (start.epochs, cfg.train.epochs))
        say(extension(start.epochs, cfg.train.epochs, trainer.epoch, *rates))
    batch, batches = trainer.running.batches, len(trainer.train_loader)
    within = f" and batch {batch} of {batches} of the next" if batch else ""
    say(f"resuming {trainer.folder} with its own config, after epoch {trainer.epoch}{within}")


def _describe(trainer: Trainer, cfg: DictConfig, splits: Splits, kwargs: dict[str, Any], say: Say) -> None:
    """What is trained, on what, for how long."""
    model, loader = trainer.model, trainer.train_loader
    parameters = sum(p.numel() for p in model.parameters())
    parts = model_text(kwargs, own_values(cfg.model.name, config_to_plain(cfg.model.args)))
    if size := getattr(splits.train, "size", None):  # (height, width)
        parts += f", input {splits.train.channels} x {size[0]} x {size[1]}"
    say(f"{trainer.folder}: {cfg.model.name}, {parameters:,} parameters, {parts}, {trainer.execution.device}")
    epoch = (len(loader.sampler), cfg.train.batch_size, trainer.update.batches)  # type: ignore[arg-type]
    say(f"{len(splits.train)} samples to train on, {len(splits.val)} to validate")
    say(steps_text(*epoch, cfg.train.epochs, distributed.world_size()))
    if any(isinstance(module, DynamicNeuron) for module in model.modules()):
        say("the first step compiles the neurons, unless torch has them in its cache: up to half a minute")
