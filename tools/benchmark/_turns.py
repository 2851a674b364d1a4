"""Time a detector and its rivals in turns in one process, so that other load on the machine affects all alike."""

from __future__ import annotations

import argparse
import gc
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch
from omegaconf import DictConfig

from engine import distributed
from engine.algorithms import choose_algorithms
from engine.precision import PRECISIONS
from engine.runs.provenance import provenance
from registry import UserError

from ._contenders import Contender
from ._memory import bytes_of, peak_growth
from ._rate import matrix_rate, network_flops
from ._rivals import HELP, contender
from ._source import Source, batches_of, open_source
from ._stopwatch import Stopwatch

CLOCK = {"cpu": "cpu", "cuda": "device"}  # what the table shows


@dataclass
class Row:
    """Times of one contender. turns: of each turn {phase: {clock: seconds of one step}}."""

    name: str
    contender: Contender
    samples: int
    turns: list[dict[str, dict[str, float]]] = field(default_factory=list)
    peak: int | None = None  # bytes

    def seconds(self, clock: str, phase: str | None = None) -> float:
        """Of a step: the median over turns, of one phase or of all."""
        return median(_total(turn, clock, phase) for turn in self.turns)

    def ratio(self, first: Row, clock: str) -> float:
        """Time of `first` over that of this row: the median of the ratios of each turn."""
        pairs = zip(first.turns, self.turns, strict=True)
        return median(_total(ours, clock) / _total(theirs, clock) for ours, theirs in pairs)


def run(what: str, description: str, arguments: list[str]) -> None:
    training = what == "train"
    args = _parser(what, description).parse_intermixed_args(arguments)
    try:
        found = measure(args, training)
    except UserError as error:
        sys.exit(f"error: {error}")
    found |= {"provenance": provenance(["python", "-m", "tools.benchmark", what, *arguments], _device_of(found))}
    print(table(found))
    if args.json:
        Path(args.json).write_text(json.dumps(found, indent=1) + "\n")


def measure(args: argparse.Namespace, training: bool) -> dict[str, Any]:
    if args.data and args.rival:
        raise UserError("--data: leave out --rival, since the loader would work on during the turn of another")
    overrides = [*args.overrides, *([f"device={args.device}"] if args.device else [])]
    source = open_source(args.model, overrides, args.classes, args.channels)
    cfg = source.cfg
    device = _prepare(cfg)
    batches = batches_of(cfg) if args.data else None
    model = source.build(cfg).to(device)
    T, flops = model.T, network_flops(model, source.batch(model, 1).to(device)[0])
    del model
    rate = matrix_rate(device, PRECISIONS[cfg.train.precision] or torch.float32)

    watch, steps = Stopwatch(device), args.steps or (1 if device.type == "cpu" else 10)
    rows = []
    for text in ["", *args.rival]:
        made, samples = contender(source, text, batches, device, training)
        made.turn(2, watch)  # warms up: compilation, choice of algorithms, the allocator
        watch.stop()
        rows.append(Row(text or args.model, made, samples))
    gc.collect()
    for turn in range(args.turns):
        for row in rows[:: -1 if turn % 2 else 1]:
            row.contender.turn(steps, watch)
            taken = watch.stop()
            row.turns.append({p: {c: s / steps for c, s in clocks.items()} for p, clocks in taken.items()})
    for row in rows:
        held = bytes_of(row.contender.resident())
        grown = peak_growth(lambda row=row: (row.contender.turn(1, watch), watch.stop()), device)  # type: ignore[misc]
        row.peak = None if grown is None else held + grown
    return _report(args, source, rows, device, T, flops * (3 if training else 1), rate)


def _report(
    args: argparse.Namespace, source: Source, rows: list[Row], device: torch.device, T: int, flops: float, rate: float
) -> dict[str, Any]:
    cfg, clock = source.cfg, CLOCK[device.type]
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    found: dict[str, Any] = {
        "model": args.model, "T": T, "batch": int(cfg.train.batch_size), "input": [source.channels, *source.size],
        "precision": cfg.train.precision, "device": str(device), "device_name": name, "clock": clock,
        "threads": torch.get_num_threads(), "turns": args.turns, "flops_per_image": flops, "matrix_flops": rate,
        "rows": [],
    }  # fmt: skip
    for i, row in enumerate(rows):
        seconds = row.seconds(clock)
        found["rows"].append({
            "name": row.name,
            "images_per_second": row.samples / row.seconds("wall"),
            "ms": {p: 1e3 * row.seconds(clock, p) for p in row.contender.phases},
            "ms_total": 1e3 * seconds,
            "wall_ms": {p: 1e3 * row.seconds("wall", p) for p in row.contender.phases},
            "first_over_this": row.ratio(rows[0], clock),
            "peak_bytes": row.peak,
            "share_of_matrix_rate": flops * row.samples / seconds / rate if i == 0 or row.name == "published" else None,
        })  # fmt: skip
    return found


def table(found: dict[str, Any]) -> str:
    phases = list(dict.fromkeys(phase for row in found["rows"] for phase in row["ms"]))
    shape = " x ".join(map(str, (found["batch"], *found["input"])))
    unit = "CPU ms" if found["clock"] == "cpu" else "ms on the device"
    lines = [
        f"{found['model']} T={found['T']}, {shape}, {found['precision']}, {found['device_name']}, "
        f"{found['threads']} thread(s), torch {torch.__version__}; {unit} of a step, median of {found['turns']} turns",
        f"{'':24}{'images/s':>9}" + "".join(f"{p:>10}" for p in phases) + f"{'total':>10}{'first/':>8}{'peak GiB':>10}"
        f"{'of matrix rate':>16}",
    ]
    for row in found["rows"]:
        cells = "".join(f"{row['ms'][p]:10.1f}" if p in row["ms"] else " " * 10 for p in phases)
        peak = "" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 2**30:.2f}"
        share = "" if row["share_of_matrix_rate"] is None else f"{row['share_of_matrix_rate']:.1%}"
        lines.append(
            f"{row['name'][:24]:24}{row['images_per_second']:9.2f}{cells}{row['ms_total']:10.1f}"
            f"{row['first_over_this']:8.2f}{peak:>10}{share:>16}"
        )
    gflop, rate = found["flops_per_image"] / 1e9, found["matrix_flops"] / 1e12
    return "\n".join([
        *lines,
        f"images/s: by the wall clock. first/: time of the first row over that of this one. peak: weights, averages, "
        f"optimizer and what a step adds.\nof matrix rate: {gflop:.1f} GFLOP per image (convolutions and linear layers "
        f"of all steps{', x 3 for the backward pass' if 'backward' in phases else ''}) of {rate:.3g} TFLOP/s, measured "
        "in this run",
    ])  # fmt: skip


def _prepare(cfg: DictConfig) -> torch.device:
    """As train.py."""
    device = distributed.start(cfg.device)
    if cfg.threads:
        torch.set_num_threads(cfg.threads)
    choose_algorithms(device, one_size=True)
    return device


def _device_of(found: dict[str, Any]) -> torch.device:
    return torch.device(found["device"])


def _total(turn: dict[str, dict[str, float]], clock: str, phase: str | None = None) -> float:
    return sum(clocks[clock] for name, clocks in turn.items() if phase in (None, name))


def _parser(what: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m tools.benchmark {what}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="CONFIG|NAME", help="config file, model's name, checkpoint or run folder")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="any key of configs/base.yaml")
    parser.add_argument("--rival", action="append", default=[], metavar="TEXT", help=HELP)
    parser.add_argument("--device", help="the key device: auto, cpu, cuda, cuda:N")
    parser.add_argument("--data", action="store_true", help="batches of the config's training loader, not random ones")
    parser.add_argument("--classes", type=int, help="default: those of the config's dataset, else the model's own")
    parser.add_argument("--channels", type=int, help="of the input; default: those of the config's dataset, else 3")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--steps", type=int, help="of each turn; default: 1 on a CPU, 10 on a GPU")
    parser.add_argument("--json", metavar="FILE", help="write the figures and their provenance")
    return parser
