"""Train a detector: a config file and overrides in, a run folder out.

    python train.py configs/demo.yaml                                   one process, CUDA if there is one
    python train.py configs/demo.yaml train.epochs=3 model.neuron=relu  any key of configs/base.yaml
    python train.py configs/demo.yaml --resume                          continue the last run of this name
    python train.py --resume runs/demo-2                                continue that run
    python train.py configs/demo.yaml --resume auto                     continue if there is a run, else start one
    torchrun --nproc-per-node=8 train.py configs/coco/ems_resnet34.yaml eight GPUs
    torchrun --nnodes=2 --nproc-per-node=8 --rdzv-backend=c10d --rdzv-endpoint=HOST:29500 train.py CONFIG

The run folder holds config.yaml, provenance.jsonl (a line per start: command, commit, versions, machine, date),
metrics.jsonl, checkpoint_last.pt, checkpoint_best.pt and TensorBoard events: `tensorboard --logdir runs`.
SIGTERM and SIGUSR1 save after the running step and end with exit code 75: start the same command again with --resume.
Names, resuming, restarts and starting from weights: docs/runs.md.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import cast

import torch
from omegaconf import DictConfig, OmegaConf

from analysis.draw import overlay
from data import DetectionDataset, Problems, eval_loader, overview, train_loader
from data.atomic_file import write_atomically
from engine import distributed
from engine.algorithms import choose_algorithms
from engine.anneal import Anneal
from engine.batch_size import find_batch_size
from engine.best_score import BestScore
from engine.build import build_dataset, build_model, check_samples, fixed_steps
from engine.command import run_command
from engine.config import config_to_plain, evaluation_options, load_config, own_values
from engine.distill import Distillation, open_teacher, teacher_text
from engine.drawn_samples import draw_closing, draw_samples
from engine.due import Clock
from engine.ema import build_ema
from engine.errors import remedies
from engine.evaluation_options import set_evaluation_options
from engine.first_batches import fit_target, fit_to_first_batches
from engine.freeze import freeze
from engine.generators import seed_everything, seed_rank
from engine.loop import Update
from engine.multi_scale import MultiScale
from engine.optim import Schedule, build_optimizer, groups_text
from engine.precision import loss_scaler
from engine.runs.checkpoint import init_from
from engine.runs.console_text import model_text, steps_text
from engine.runs.folder import discarded_without_checkpoint, new_run_folder
from engine.runs.identity import data_facts, extension, judged_by
from engine.runs.lock import RunLock
from engine.runs.provenance import append_provenance, command_line, provenance
from engine.runs.resume import Start, own_config, plan_start
from engine.runs.room import check_room, checkpoint_bytes
from engine.sync_batchnorm import sync_batchnorm
from engine.trainer import Trainer
from engine.validation import Validation
from engine.wrap import Execution
from models import Detector
from models.adjustable import set_values
from models.contracts import FitsAnchors
from neurons.base import DynamicNeuron
from registry import UserError
from scoring.evaluator import Evaluator
from scoring.protocols import get_protocol
from scoring.truth_check import check_truth


def main(argv: list[str] | None = None) -> Path:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?", help="a YAML file under configs/; not needed with --resume RUN")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--resume", nargs="?", const="", metavar="RUN", help="continue RUN, the last run, or auto")
    args = parser.parse_intermixed_args(argv)

    # `--resume train.epochs=9`: the last run, with an override
    if args.resume and "=" in args.resume and not Path(args.resume).exists():
        args.overrides.append(args.resume)
        args.resume = ""
    if args.config and args.resume and "=" in args.config:  # `train.epochs=9 --resume RUN`
        args.overrides.insert(0, args.config)
        args.config = None
    args.config = args.config or own_config(args.resume)
    cfg = load_config(args.config, args.overrides)
    get_protocol(cfg.eval.protocol)  # an unknown name fails before any work
    fit_target(cfg)
    start = plan_start(cfg, args.overrides, args.resume, args.config)
    device = distributed.start(start.cfg.device, start.cfg.timeout_minutes)
    try:
        distributed.require_same("checkpoint to continue", str(start.checkpoint or start.folder))
        if distributed.is_main():
            print("".join(f"{line}\n" for line in start.say), end="", flush=True)
        if start.finished and start.folder is not None:
            return start.folder
        with distributed.naming_lost_processes(), ExitStack() as held:
            return train(start, device, command_line("train.py", argv), held)
    finally:
        distributed.stop()


def train(start: Start, device: torch.device, command: list[str], held: ExitStack) -> Path:
    """Build all parts of the config of `start` and train. Returns the run folder.

    command: script and arguments, for the run's provenance. held: closes locks and contexts at the end.
    """
    cfg, resume = start.cfg, start.checkpoint
    clock = Clock(cfg.train.save_minutes, cfg.train.max_hours)
    main_rank = distributed.is_main()
    say = partial(print, flush=True) if main_rank else (lambda *_: None)
    if resume and main_rank:
        held.enter_context(RunLock(resume.parent))
        held.enter_context(discarded_without_checkpoint(resume.parent))
    if cfg.threads:
        torch.set_num_threads(cfg.threads)
    choose_algorithms(device, one_size=not cfg.eval.rectangular)
    seed_everything(cfg.seed)

    train_set = _dataset(cfg, cfg.data.train_split, say, augment=True)
    val_set = _dataset(cfg, cfg.data.val_split, say)
    for line in check_truth(cfg.eval.protocol, val_set.ground_truth(), cfg.data.val_split):
        say(line)
    if val_set.class_names != train_set.class_names:
        raise UserError(f"classes differ: train has {train_set.class_names}, validation {val_set.class_names}")
    if cfg.train.bptt > 1 and train_set.sequences is None:
        raise UserError(
            f"train.bptt = {cfg.train.bptt}: gradients flow from window to window only where recordings come in "
            "sequence. Set data.args.sampling=sequential, or train.bptt=1"
        )
    say(overview({cfg.data.train_split: train_set, cfg.data.val_split: val_set}))
    val_loader = eval_loader(
        val_set, cfg.eval.batch_size, cfg.data.workers, distributed.rank(), distributed.world_size()
    )
    model, kwargs = build_model(cfg, len(train_set.class_names), train_set.channels)
    for line in check_samples(model, val_set):
        say(line)
    if cfg.train.init_from and not resume:
        say(init_from(model, cfg.train.init_from, train_set.class_names))
    if cfg.train.freeze:
        say(freeze(model, cfg.train.freeze))
        if cfg.train.init_from is None:
            say("warning: train.init_from is not set, so the frozen weights are random ones")
    trains_head = any(p.requires_grad for name, p in model.named_parameters() if name.startswith("head."))
    if cfg.train.fit_anchors and not resume and isinstance(model.head, FitsAnchors) and trains_head:
        say(model.head.fit_anchors(train_set.box_sizes()))
    anneal = None
    if cfg.train.anneal:
        if "T" in cfg.train.anneal and (cfg.eval.T is not None or fixed_steps(model, train_set) is not None):
            raise UserError("train.anneal.T: " + ("leave out eval.T" if cfg.eval.T else "only images can have any T"))
        anneal = Anneal(config_to_plain(cfg.train.anneal), cfg.train.anneal_until, cfg.train.epochs, model)
        set_values(model, anneal.values(0))
    model.to(device)
    if cfg.train.batch_size == "auto":
        cfg.train.batch_size, line = find_batch_size(cfg, model, train_set, device)
        say(line)
    loader = train_loader(
        train_set,
        cfg.train.batch_size,
        cfg.seed,
        cfg.data.workers,
        distributed.rank(),
        distributed.world_size(),
        cfg.train.epochs,
    )
    if cfg.train.fit_neurons and not resume:
        for line in fit_to_first_batches(cfg, model, train_set, device):
            say(line)
    if cfg.train.sync_batchnorm:
        sync_batchnorm(model)
    if cfg.train.channels_last:
        model.to(memory_format=torch.channels_last)
    distillation, teacher = None, {}
    if cfg.train.distill is not None:
        prepared = val_set.input.to_plain() if val_set.input is not None else None
        run = open_teacher(cfg.train.distill, train_set.class_names, train_set.channels, prepared)
        distillation = Distillation(run.model, model, cfg.train.distill_weight)
        check_samples(run.model, val_set)
        run.model.to(device)
        if cfg.train.channels_last:
            run.model.to(memory_format=torch.channels_last)
        teacher = {"teacher": teacher_text(run)}
        say(f"distils from {run.checkpoint}: {teacher['teacher']}")

    sizes = None
    if cfg.train.multi_scale is not None:
        if train_set.num_steps is not None:
            raise UserError("train.multi_scale: only images are resized, events keep the size of their input: set null")
        if cfg.train.compile:
            raise UserError("train.multi_scale: with train.compile=true every size would be compiled: set one of both")
        height, width = train_set[0].x.shape[-2:]
        sizes = MultiScale(cfg.train.multi_scale, (height, width), max(model.network.strides), cfg.seed)
        say(f"train.multi_scale: {sizes}")
    batches = cfg.train.accumulate * cfg.train.bptt  # of one optimizer step
    steps = -(-len(loader) // batches)
    ema = build_ema(model, cfg.train.ema_decay, cfg.train.ema_ramp)
    set_evaluation_options(cast(Detector, ema.module), fixed_steps(model, val_set), **evaluation_options(cfg))
    optim = cfg.optim
    optimizer = build_optimizer(model, optim.name, optim.lr, optim.momentum, optim.weight_decay, optim.groups)
    for line in groups_text(optimizer):
        say(line)
    schedule = partial(_schedule, cfg, steps)
    folder = start.folder
    if resume is None:
        # Created only now: after an error in config or data no folder is left, and no earlier run is overwritten.
        made = new_run_folder(cfg.out, cfg.name, cfg.overwrite, start.folder) if main_rank else None
        if made is not None:
            held.enter_context(RunLock(made))
            held.enter_context(discarded_without_checkpoint(made))
        folder = Path(distributed.broadcast(str(made)))
    assert folder is not None
    seed_rank(cfg.seed, distributed.rank())
    trainer = Trainer(
        model=model,
        update=Update(
            optimizer,
            schedule(cfg.train.epochs),
            ema,
            cfg.train.accumulate,
            cfg.train.clip_norm,
            cfg.train.bptt,
            loss_scaler(device, cfg.train.precision),
        ),
        train_loader=loader,
        validation=Validation(
            val_loader,
            new_evaluator=lambda: Evaluator(val_set.ground_truth(), val_set.expected_images, cfg.data.allow_missing),
            protocol=cfg.eval.protocol,
            draw=lambda evaluator: list(draw_samples(evaluator, val_set, 4, overlay).values()),
            draw_closing=lambda detector: list(draw_closing(detector, val_set, 2, device).values()),
            every=cfg.train.eval_every,
        ),
        folder=folder,
        execution=Execution(
            device, cfg.train.precision, cfg.train.checkpoint, cfg.train.compile, cfg.train.pack_spikes
        ),
        epochs=cfg.train.epochs,
        identity={
            "config": config_to_plain(cfg),
            "model_kwargs": kwargs,
            "class_names": train_set.class_names,
            **({"input": val_set.input.to_plain()} if val_set.input is not None else {}),
            "data": data_facts(train_set),
            "samples_per_step": cfg.train.batch_size * batches * distributed.world_size(),
            "judged_by": judged_by(config_to_plain(cfg), data_facts(val_set)),
            **teacher,
        },
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
        for line in trainer.resume(resume):
            say(line)
        if start.epochs != cfg.train.epochs:
            rates = schedule(start.epochs).rate(trainer.step), schedule(cfg.train.epochs).rate(trainer.step)
            say(extension(start.epochs, cfg.train.epochs, trainer.epoch, *rates))
        within = f" and batch {batch} of {len(loader)} of the next" if (batch := trainer.running.batches) else ""
        say(f"resuming {folder} with its own config, after epoch {trainer.epoch}{within}")
    if main_rank:
        check_room(folder, checkpoint_bytes(model, trainer.update))
        write_atomically(folder / "config.yaml", OmegaConf.to_yaml(cfg, resolve=True))
        append_provenance(folder, provenance(command, device) | teacher)
    parameters = sum(p.numel() for p in model.parameters())
    parts = model_text(kwargs, own_values(cfg.model.name, config_to_plain(cfg.model.args)))
    if size := getattr(train_set, "size", None):  # (height, width)
        parts += f", input {train_set.channels} x {size[0]} x {size[1]}"
    say(f"{folder}: {cfg.model.name}, {parameters:,} parameters, {parts}, {device}")
    epoch = (len(loader.sampler), cfg.train.batch_size, batches)  # type: ignore[arg-type]
    say(f"{len(train_set)} samples to train on, {len(val_set)} to validate")
    say(steps_text(*epoch, cfg.train.epochs, distributed.world_size()))
    if any(isinstance(module, DynamicNeuron) for module in model.modules()):
        say("the first step compiles the neurons, unless torch has them in its cache: up to half a minute")
    with remedies():
        trainer.fit()
    if trainer.ended:
        say(f"done: {folder}")
    return folder


def _schedule(cfg: DictConfig, steps: int, epochs: int) -> Schedule:
    """Learning-rate schedule of `epochs` epochs with `steps` steps each."""
    return Schedule(
        cfg.optim.lr,
        cfg.optim.final_lr_factor,
        cfg.optim.momentum,
        total_steps=epochs * steps,
        warmup_steps=round(cfg.optim.warmup_epochs * steps),
        warmup_bias_lr=cfg.optim.warmup_bias_lr,
        warmup_momentum=cfg.optim.warmup_momentum,
        decay=cfg.optim.decay,
    )


def _dataset(cfg: DictConfig, split: str, say, augment: bool = False) -> DetectionDataset:
    problems = Problems(strict=cfg.data.strict)
    # Rank 0 first: a generated dataset is written once.
    for turn in range(2):
        if (turn == 0) == distributed.is_main():
            dataset = build_dataset(cfg, split, augment, problems=problems)
        distributed.barrier()
    if problems.items:
        say(f"{split}: {problems.summary()}")
    return dataset


if __name__ == "__main__":
    run_command(main)
