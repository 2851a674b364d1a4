"""Convert the ANN of a checkpoint into a spiking detector: a checkpoint beside it, which evaluate.py takes.

    python convert.py runs/twin/checkpoint_best.pt                              runs/twin/converted.pt
    python convert.py runs/twin --neuron corrected_if --v-init 0.5              a run folder: its best checkpoint
    python convert.py CHECKPOINT --percentile 99.99 --statistic per_image_max   what a rate of 1 stands for
    python convert.py CHECKPOINT --images 64 data.root=/elsewhere               measured on 64 training images
    python convert.py CHECKPOINT --scales scales.json                           measured earlier, or by hand
    python convert.py CHECKPOINT --encoder bernoulli --decode spike_count

The activations of the network are measured on its training split, without augmentation: the scale lam of a channel is
the activation that a firing rate of 1 stands for. BatchNorm and scales are folded into the weights, and every
activation becomes a spiking neuron with the threshold 1. The file holds the source's weights beside the conversion, and
a second conversion with the same options replaces it.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from data.loader import calibration_loader
from engine import distributed
from engine.build import build_dataset, fixed_steps
from engine.command import run_command
from engine.config import config_from_plain
from engine.conversion_table import conversion_table
from engine.runs.checkpoint import save_checkpoint
from engine.runs.evaluation_folder import evaluation_name, option
from engine.runs.open import open_run
from models.checkpoints.converted import ENCODERS, NOT_KEPT, Conversion
from models.deploy import ScaleTable, calibrate, calibrate_bias
from models.deploy.convert import DECODE, NEURONS, POOLS
from models.deploy.graph import require_convertible, trace
from registry import UserError

MEASURING = {"images": 512, "percentile": 99.9, "statistic": "all", "granularity": "channel"}
CONVERTING = {"neuron": None, "v_init": None, "decode": "v_mem", "pool": "gated", "leak": 1.0}
ENCODING = {"encoder": "direct", "T": 256}
BIAS_IMAGES = 32


def main(argv: list[str] | None = None) -> Path:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", help="of an ANN: neurons relu, leaky_relu, qcfs or sth; or its run folder")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="data.*, device, threads, eval.batch_size")
    parser.add_argument("--weights", choices=["ema", "model"], default="ema", help="averaged or last weights")
    parser.add_argument("--images", help="training images to measure on, or all; default 512")
    parser.add_argument("--percentile", type=float, help="of the activations, up to 100; default 99.9")
    parser.add_argument("--statistic", help="all: of all values; per_image_max: of the largest of each image")
    parser.add_argument("--granularity", help="channel (default) or layer: one scale each")
    parser.add_argument("--scales", type=Path, metavar="FILE", help="take these scales, measure nothing")
    parser.add_argument("--save-scales", type=Path, metavar="FILE", help="also write the scales, as JSON")
    parser.add_argument("--neuron", help=f"{', '.join(NEURONS)}; default: what the activation asks for")
    parser.add_argument("--v-init", type=float, help="first potential, as a share of the threshold; qcfs: default 0.5")
    parser.add_argument("--decode", help=f"read-out: {' or '.join(DECODE)}")
    parser.add_argument("--pool", help=f"max pooling of spikes: {' or '.join(POOLS)}")
    parser.add_argument("--leak", type=float, help="of the read-out, 1 (default): none")
    parser.add_argument("--bias-at", type=int, metavar="T", help=f"correct mean errors at T, on {BIAS_IMAGES} images")
    parser.add_argument("--encoder", help=f"of images: {', '.join(ENCODERS)}")
    parser.add_argument(
        "--T",
        type=int,
        help="of one call of the detector, and of a latency code; default 256; of events: their frames",
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="default: converted.pt or converted_OPTIONS.pt beside it"
    )
    args = parser.parse_intermixed_args(argv)
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise UserError("convert.py needs one process: start it with python, not torchrun")
    for override in args.overrides:
        if override.startswith(("model", "optim", "train")):
            raise UserError(
                f"{override!r}: the checkpoint decides that; data.*, device and threads can be changed here"
            )
    return convert_checkpoint(args)


def convert_checkpoint(args: argparse.Namespace) -> Path:
    """Measure, convert and write as the command says. Returns the path of the converted checkpoint."""
    run = open_run(args.checkpoint, args.weights)
    if run.ann is not None:
        raise UserError(f"{run.checkpoint}: is converted already; name the checkpoint that it was made from")
    cfg = config_from_plain(run.config, args.overrides)
    device = distributed.start(cfg.device)
    if cfg.threads:
        torch.set_num_threads(cfg.threads)
    dataset = build_dataset(cfg, cfg.data.train_split, generate=False)
    default: dict[str, Any] = {**MEASURING, **CONVERTING, **ENCODING}
    given = {key: getattr(args, key) for key in default if getattr(args, key) is not None}
    settings = {**default, **given}
    if dataset.num_steps is not None:
        settings["T"] = _steps_of_events(args, fixed_steps(run.model, dataset.num_steps), settings["T"])
    loader = calibration_loader(dataset, cfg.eval.batch_size, images_of(settings["images"]), cfg.seed, cfg.data.workers)
    ann = run.model.to(device)
    require_convertible(trace(ann))  # before anything is measured
    if args.scales:
        if wrong := sorted(MEASURING.keys() & given.keys()):
            raise UserError(f"--scales measures nothing: leave out --{' and --'.join(wrong)}")
        table = ScaleTable.load(args.scales)
    else:
        how = {key: settings[key] for key in ("percentile", "statistic", "granularity")}
        table = calibrate(ann, inputs(loader, device), readout=settings["decode"] == "spike_count", **how)
    encoder = {"name": settings["encoder"], "T": settings["T"]}
    conversion = Conversion(table, {key: settings[key] for key in CONVERTING}, encoder, args.weights)
    snn = conversion.apply(ann)
    if args.bias_at is not None:
        few = calibration_loader(dataset, cfg.eval.batch_size, BIAS_IMAGES, cfg.seed)
        snn = calibrate_bias(snn, ann, inputs(few, device), args.bias_at)
        conversion.bias, conversion.bias_at = dict(snn.bias), args.bias_at

    differs = [option("weights", args.weights)] if args.weights != "ema" else []
    differs += [option("scales", args.scales.stem)] if args.scales else []
    differs += [option(key, value) for key, value in given.items() if str(value) != str(default[key])]
    differs += [option("bias_at", args.bias_at)] if args.bias_at is not None else []
    source = [name] if (name := run.checkpoint.stem.removeprefix("checkpoint_")) != "best" else []
    out = args.out or run.checkpoint.with_name(f"{evaluation_name(['converted', *source, *differs])}.pt")
    kept = {key: value for key, value in run.content.items() if key not in (*NOT_KEPT, "format")}
    save_checkpoint(out, {**kept, "conversion": conversion.to_content()})
    if args.save_scales:
        table.save(args.save_scales)
    print(conversion_table(snn, table, next(inputs(loader, device))))
    print(f"\nwritten to {out}. AP against T, beside the ANN's:\n    python evaluate.py {out}")
    return out


def _steps_of_events(args: argparse.Namespace, frames: int | None, T: int) -> int:
    """T of a detector of events: that of their frames; None where a sampler makes one frame, which is repeated."""
    if args.encoder is not None:
        raise UserError(f"--encoder {args.encoder}: is a code of images; events are frames already: leave it out")
    if args.T is not None and frames is not None:
        raise UserError(f"--T {args.T}: events have the {frames} steps of their frames: leave it out")
    return T if frames is None else frames


def images_of(text: str | int) -> int | None:
    """ "all" -> None, "512" -> 512."""
    if text == "all":
        return None
    try:
        count = int(text)
    except ValueError:
        count = 0
    if count < 1:
        raise UserError(f"--images {text}: give a number of training images, at least 1, or all")
    return count


def inputs(loader: DataLoader, device: torch.device) -> Iterator[Tensor]:
    for batch in tqdm(loader, desc="images of training, batches", leave=False, disable=None):
        yield batch.to(device)[0]


if __name__ == "__main__":
    run_command(main, "nothing was converted")
