"""Export a trained detector: for onnxruntime and other runtimes, or as weights. docs/export.md says more.

    python export.py runs/cells --format onnx                       runs/cells/best.onnx: boxes and scores
    python export.py CHECKPOINT --format onnx --raw                 logits per level, to be decoded outside
    python export.py CHECKPOINT --format onnx --size 320,320 --batch 1
    python export.py CHECKPOINT --format onnx --int8                8 bits, AP before and after; also with --raw
    python export.py CHECKPOINT --format onnx --score --split test  AP of the file beside that of the checkpoint
    python export.py CHECKPOINT --format onnx --binary              spikes of 0 and 1 only (SpikeYOLO family)
    python export.py CHECKPOINT --format onnx eval.T=2              of images also another number of steps
    python export.py CHECKPOINT --format torch                      a program of torch.export: runs without this project
    python export.py CHECKPOINT --format nir [--upto LAYER]         a graph of NIR, of what NIR can hold
    python export.py CHECKPOINT --format safetensors --out FILE     all commands read it like a checkpoint

The file is written beside the checkpoint, or to --out, and replaces an earlier one. An ONNX file is kept only if
onnxruntime computes what the checkpoint does, on samples of its validation data.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

from engine.command import run_command
from engine.config import config_from_plain
from engine.export.nir_file import write_nir
from engine.export.onnx_file import write_onnx
from engine.export.options import ExportOptions
from engine.export.program import write_program
from engine.export.weights import write_safetensors
from engine.runs.evaluation_folder import evaluation_name, option
from engine.runs.open import Run, open_run
from registry import UserError

# {name: (ending of the file, function that writes it)}
FORMATS: dict[str, tuple[str, Callable[[Run, Path, ExportOptions], Any]]] = {
    "onnx": (".onnx", write_onnx),
    "torch": (".pt2", write_program),
    "safetensors": (".safetensors", write_safetensors),
    "nir": (".nir", write_nir),
}


def main(argv: list[str] | None = None) -> Path:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", help="or its run folder: the best checkpoint")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="data.*, eval.*, threads")
    parser.add_argument("--format", choices=FORMATS, required=True)
    parser.add_argument("--weights", choices=["ema", "model"], default="ema", help="averaged or last weights")
    parser.add_argument("--size", type=_size, metavar="H,W", help="of the input; default: that of the run")
    parser.add_argument("--batch", type=int, metavar="N", help="images in one call; default: any number")
    parser.add_argument("--raw", action="store_true", help="logits in place of boxes and scores")
    parser.add_argument("--binary", action="store_true", help="integers 0..D as D slots of 0 and 1")
    parser.add_argument("--int8", action="store_true", help="quantised by training images; AP before and after")
    parser.add_argument("--images", type=int, default=64, help="training images that --int8 measures; default 64")
    parser.add_argument("--score", action="store_true", help="AP of the file, in onnxruntime, beside the checkpoint's")
    parser.add_argument("--split", help="that is scored; default: the config's data.val_split")
    parser.add_argument("--upto", metavar="LAYER", help="nir: export the network up to this module alone")
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: beside the checkpoint, named like it")
    args = parser.parse_intermixed_args(argv)
    for override in args.overrides:
        if override.startswith(("model", "optim", "train")):
            raise UserError(f"{override!r}: the checkpoint decides that; data.* and eval.* can be changed here")
        if override.startswith("eval.") and args.format in ("nir", "safetensors"):
            raise UserError(f"{override!r}: --format {args.format} does not have it: leave it out")
    if args.batch is not None and args.batch < 1:
        raise UserError(f"--batch {args.batch}: give a number of images, or leave it out for any number")
    run = open_run(args.checkpoint, args.weights)
    cfg = config_from_plain(run.config, args.overrides)
    flags = {f.name: getattr(args, f.name) for f in fields(ExportOptions) if f.name != "cfg"}
    options = ExportOptions(cfg, **flags)
    ending, write = FORMATS[args.format]
    out = args.out or run.checkpoint.with_name(f"{_name(run, args)}{ending}")
    _check_place(out, run.checkpoint)
    write(run, out, options)
    print(f"written to {out}")
    return out


def _check_place(out: Path, checkpoint: Path) -> None:
    """UserError where `out` cannot be written, before anything is computed."""
    if out.exists() and out.samefile(checkpoint):
        raise UserError(f"--out {out}: is the checkpoint itself. Name another file")
    if out.is_dir():
        raise UserError(f"--out {out}: is a folder. Name a file in it")
    if not out.absolute().parent.is_dir():
        raise UserError(f"--out {out}: there is no folder {out.parent}. Make it, or name another file")
    if not os.access(out.absolute().parent, os.W_OK):
        raise UserError(f"--out {out}: {out.absolute().parent} cannot be written to. Name a file elsewhere with --out")


def _name(run: Run, args: argparse.Namespace) -> str:
    """checkpoint_best.pt with --binary --size 64,96 -> best_binary_size=64-96."""
    differs = [flag for flag in ("raw", "binary", "int8") if getattr(args, flag)]
    differs += [option("weights", args.weights)] if args.weights != "ema" else []
    differs += [option("size", "-".join(map(str, args.size)))] if args.size else []
    differs += [option("batch", args.batch)] if args.batch else []
    differs += [override for override in args.overrides if override.startswith("eval.")]
    return evaluation_name([run.checkpoint.stem.removeprefix("checkpoint_"), *differs])


def _size(text: str) -> tuple[int, int]:
    try:
        height, width = map(int, text.split(","))
    except ValueError:
        height = width = 0
    if min(height, width) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: give height and width in pixels, as 320,320")
    return height, width


if __name__ == "__main__":
    run_command(main, "nothing was exported")
