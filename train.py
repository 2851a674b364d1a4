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
from pathlib import Path

from engine.command import run_command
from engine.runs.provenance import command_line
from engine.runs.resume import own_config
from engine.training import run_training


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
    return run_training(args.config, args.overrides, args.resume, command_line("train.py", argv))


if __name__ == "__main__":
    run_command(main)
