"""Train a detector: a config file and overrides in, a run folder out.

    python train.py configs/demo.yaml                                   one process, CUDA if there is one
    python train.py configs/demo.yaml train.epochs=3 model.neuron=relu  any key of configs/base.yaml
    python train.py configs/demo.yaml --resume                          continue the last run of this config
    python train.py configs/demo.yaml --resume runs/demo-2              continue that run
    torchrun --nproc-per-node=8 train.py configs/coco/ems_resnet34.yaml eight GPUs
    torchrun --nnodes=2 --nproc-per-node=8 --rdzv-backend=c10d --rdzv-endpoint=HOST:29500 train.py CONFIG

The run folder holds config.yaml, provenance.jsonl (a line per start: command, commit, versions, machine, date),
metrics.jsonl, checkpoint_last.pt, checkpoint_best.pt and TensorBoard events: `tensorboard --logdir runs`.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import cast

import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from analysis.draw import overlay
from data import DetectionDataset, Problems, create_dataset, eval_loader, train_loader
from data.atomic_file import write_atomically
from engine import distributed
from engine.checkpoint import init_from, load_checkpoint
from engine.config import config_from_plain, config_to_plain, dataset_kwargs, load_config, model_kwargs
from engine.ema import build_ema
from engine.errors import reason
from engine.evaluator import Evaluator
from engine.optim import Schedule, build_optimizer
from engine.pictures import draw_samples
from engine.protocols import get_protocol
from engine.provenance import append_provenance, command_line, provenance
from engine.run_folder import new_run_folder, run_to_resume
from engine.trainer import Trainer, seed_everything
from models import Detector, create_model


def main(argv: list[str] | None = None) -> Path:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="a YAML file under configs/")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--resume", nargs="?", const="", metavar="RUN", help="continue RUN, or the last run")
    args = parser.parse_intermixed_args(argv)

    if args.resume and "=" in args.resume:  # `--resume train.epochs=9`: the last run, with an override
        args.overrides.append(args.resume)
        args.resume = ""
    cfg = load_config(args.config, args.overrides)
    folder = None
    if args.resume is not None:
        folder = run_to_resume(cfg.out, cfg.name, args.resume)
        cfg = config_from_plain(load_checkpoint(folder / "checkpoint_last.pt")["config"], args.overrides)
    device = distributed.start(cfg.device)
    try:
        return train(cfg, device, folder, command_line("train.py", argv))
    finally:
        distributed.stop()


def train(cfg: DictConfig, device: torch.device, resume: Path | None, command: list[str]) -> Path:
    """Build everything that `cfg` names and train it; returns the run folder: a new one, or `resume`.

    command: script and arguments, for the run's provenance.
    """
    main_rank = distributed.is_main()
    say = print if main_rank else (lambda *_: None)
    if cfg.threads:
        torch.set_num_threads(cfg.threads)
    torch.use_deterministic_algorithms(device.type == "cpu")
    seed_everything(cfg.seed)

    train_set = _dataset(cfg, cfg.data.train_split, say, augment=True)
    val_set = _dataset(cfg, cfg.data.val_split, say)
    get_protocol(cfg.eval.protocol).score(val_set.ground_truth(), [])  # a protocol that does not fit fails here
    if val_set.class_names != train_set.class_names:
        raise ValueError(f"classes differ: train has {train_set.class_names}, validation {val_set.class_names}")
    if train_set.num_steps not in (None, cfg.model.T):
        raise ValueError(
            f"the events come in {train_set.num_steps} steps, the model has T = {cfg.model.T}. Set "
            "data.args.num_steps=${model.T}"
        )
    loader = train_loader(
        train_set,
        cfg.train.batch_size,
        cfg.seed,
        cfg.data.workers,
        distributed.rank(),
        distributed.world_size(),
        cfg.train.epochs,
    )
    val_loader = eval_loader(
        val_set, cfg.eval.batch_size, cfg.data.workers, distributed.rank(), distributed.world_size()
    )
    kwargs = model_kwargs(cfg, len(train_set.class_names), train_set.channels)
    model = create_model(**kwargs)
    if cfg.train.init_from and not resume:
        say(init_from(model, cfg.train.init_from))
    if cfg.train.fit_anchors and not resume and hasattr(model.head, "fit_anchors"):
        say(model.head.fit_anchors(train_set.box_sizes()))
    if cfg.train.sync_batchnorm:
        model = cast(Detector, nn.SyncBatchNorm.convert_sync_batchnorm(model))
    model.to(device)
    if cfg.train.channels_last:
        model.to(memory_format=torch.channels_last)

    steps = -(-len(loader) // cfg.train.accumulate)
    ema = build_ema(model, cfg.train.ema_decay, cfg.train.ema_ramp)
    optimizer = build_optimizer(model, cfg.optim.name, cfg.optim.lr, cfg.optim.momentum, cfg.optim.weight_decay)
    # Made only now, so that a mistake in config or data leaves no empty folder behind, and an earlier run in its place.
    made = str(new_run_folder(cfg.out, cfg.name, cfg.overwrite)) if main_rank and resume is None else ""
    folder = resume or Path(distributed.broadcast(made))
    trainer = Trainer(
        model=model,
        ema=ema,
        optimizer=optimizer,
        schedule=Schedule(
            cfg.optim.lr,
            cfg.optim.final_lr_factor,
            cfg.optim.momentum,
            total_steps=cfg.train.epochs * steps,
            warmup_steps=round(cfg.optim.warmup_epochs * steps),
            warmup_bias_lr=cfg.optim.warmup_bias_lr,
            warmup_momentum=cfg.optim.warmup_momentum,
            decay=cfg.optim.decay,
        ),
        train_loader=loader,
        val_loader=val_loader,
        new_evaluator=lambda: Evaluator(val_set.ground_truth(), val_set.expected_images, cfg.data.allow_missing),
        protocol=cfg.eval.protocol,
        draw=lambda m: draw_samples(m, val_set, device, count=4, draw=overlay),
        folder=folder,
        device=device,
        epochs=cfg.train.epochs,
        identity={
            "config": config_to_plain(cfg),
            "model_kwargs": kwargs,
            "class_names": train_set.class_names,
        },
        accumulate=cfg.train.accumulate,
        precision=cfg.train.precision,
        clip_norm=cfg.train.clip_norm,
        eval_every=cfg.train.eval_every,
        log_every=cfg.train.log_every,
    )
    if resume:
        trainer.resume(folder / "checkpoint_last.pt")
        say(f"resuming {folder} with its own config, after epoch {trainer.epoch}")
    if main_rank:
        write_atomically(folder / "config.yaml", OmegaConf.to_yaml(cfg, resolve=True))
        append_provenance(folder, provenance(command, device))
    parameters = sum(p.numel() for p in model.parameters())
    say(f"{folder}: {cfg.model.name}, {parameters:,} parameters, T={cfg.model.T}, neuron {cfg.model.neuron}, {device}")
    say(f"{len(train_set)} training samples in {steps} steps an epoch, {len(val_set)} validation samples")
    trainer.fit()
    say(f"done: {folder}")
    return folder


def _dataset(cfg: DictConfig, split: str, say, augment: bool = False) -> DetectionDataset:
    name, kwargs = dataset_kwargs(cfg, augment)
    problems = Problems(strict=cfg.data.strict)
    # Rank 0 first: a generated dataset is written once.
    for turn in range(2):
        if (turn == 0) == distributed.is_main():
            dataset = create_dataset(name, split, problems=problems, **kwargs)
        distributed.barrier()
    if problems.items:
        say(f"{split}: {problems.summary()}")
    return dataset


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        main()
    except (ValueError, FloatingPointError, OSError) as error:
        sys.exit(f"error: {reason(error)}")
    except KeyboardInterrupt:
        sys.exit("interrupted; add --resume to continue after the last whole epoch")
