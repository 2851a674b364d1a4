"""Export a trained detector: to onnxruntime and TensorRT, to PyTorch without this project, as weights.

    python export.py runs/cells --format safetensors                runs/cells/best.safetensors, a run's best checkpoint
    python export.py CHECKPOINT --format safetensors --out FILE
    python export.py CHECKPOINT --format nir [--upto LAYER]         a graph of NIR, of what NIR can hold

The file is written beside the checkpoint, or to --out, and replaces an earlier one.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.command import run_command
from engine.config import config_from_plain
from engine.export.nir_file import write_nir
from engine.export.options import ExportOptions
from engine.export.weights import write_safetensors
from engine.runs.evaluation_folder import evaluation_name
from engine.runs.open import Run, open_run
from registry import UserError

# {name: (ending of the file, function that writes it)}
FORMATS: dict[str, tuple[str, Callable[[Run, Path, ExportOptions], Any]]] = {
    "safetensors": (".safetensors", write_safetensors),
    "nir": (".nir", write_nir),
}


def main(argv: list[str] | None = None) -> Path:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", help="or its run folder: the best checkpoint")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="data.*, eval.*, device, threads")
    parser.add_argument("--format", choices=FORMATS, required=True)
    parser.add_argument("--weights", choices=["ema", "model"], default="ema", help="averaged or last weights")
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: beside the checkpoint, named like it")
    parser.add_argument("--upto", metavar="LAYER", help="nir: export the network up to this module alone")
    args = parser.parse_intermixed_args(argv)
    for override in args.overrides:
        if override.startswith(("model", "optim", "train")):
            raise UserError(f"{override!r}: the checkpoint decides that; data.*, eval.* and device can be changed here")
    run = open_run(args.checkpoint, args.weights)
    options = ExportOptions(config_from_plain(run.config, args.overrides), args.weights, upto=args.upto)
    ending, write = FORMATS[args.format]
    name = evaluation_name([run.checkpoint.stem.removeprefix("checkpoint_")])
    out = args.out or run.checkpoint.with_name(f"{name}{ending}")
    write(run, out, options)
    print(f"written to {out}")
    return out


if __name__ == "__main__":
    run_command(main, "nothing was exported")
