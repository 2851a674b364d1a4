"""Train a spiking detector and its ANN twin under one schedule, and show where they differ.

    python -m tools.gap configs/demo_spikeyolo.yaml                         the twin has SiLU in place of the neurons
    python -m tools.gap CONFIG train.epochs=8 model.T=1 --twin relu         any key of the config, for both
    python -m tools.gap CONFIG --twin '{name: qcfs, L: 8}' --out runs/gap-qcfs

Both are trained by train.py with the same seed, order of samples and schedule, into <out>/spiking and <out>/twin; <out>
is runs/gap-NAME by default. The twin does without train.anneal, train.fit_neurons and train.distill. The same command
again continues, and trains nothing that is finished. Then, with the weights of the start and of several epochs, one
batch of the training split without augmentation goes forward and backward through both, in training mode. Printed for
each neuron layer at the end of the training:

    dead, inside, saturated   share of elements whose membrane is below, in, above the window in which the neuron passes
                              a gradient on (`neurons.window`)
    channels                  share of channels all of whose elements are dead
    fires                     firing rate
    gradient                  norm of the gradient of the weights of the layer's convolution, divided by the twin's: at
                              the start, in the middle and at the end of the training
    direction                 of ilif, at the same times: cosine of that gradient and the exact one of the same weights
                              without rounding (`analysis.unrounded`)

and of both networks AP over steps and the operations per image. <out>/gap.json and gap.csv have all epochs, gap.png
shows AP, shares and gradients.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from omegaconf import DictConfig

from analysis.gradients import ratios, training_statistics
from analysis.operations import Operations
from analysis.plots.gap import plot_gap
from data.atomic_file import write_atomically
from data.sample import Batch, collate
from engine import distributed
from engine.build import build_dataset
from engine.command import run_command
from engine.config import config_to_plain, load_config
from engine.metrics_table import operation_rows
from engine.runs.open import open_run
from engine.training import run_training
from neurons import neuron_factory
from registry import UserError

KEPT = 8  # about as many epochs are looked at
SIDES = ("spiking", "twin")
OF_NEURONS = {"anneal": "{}", "fit_neurons": "0", "distill": "null"}  # ways to train a spiking network: not the twin
MEASURES = {"ratio": "gradient", "direction": "direction"}  # shown at start, middle and end
COLUMNS = ("dead", "inside", "saturated", "dead_channels", "firing_rate")


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="a YAML file under configs/, of the spiking network")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--twin", default="silu", metavar="NEURON", help="model.neuron of the twin; default: silu")
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: runs/gap-NAME")
    args = parser.parse_intermixed_args(argv)
    cfg = load_config(args.config, args.overrides)
    plain = config_to_plain(cfg)["train"]
    left_out = [f"train.{key}={none}" for key, none in OF_NEURONS.items() if plain[key] != yaml.safe_load(none)]
    twins = [f"model.neuron={args.twin}", *left_out]
    twin = load_config(args.config, [*args.overrides, *twins])
    for which, given, spikes in (("model.neuron", cfg, True), ("--twin", twin, False)):
        neuron = config_to_plain(given.model)["neuron"]
        if neuron_factory(neuron)().spiking != spikes:
            remedy = "set it to that of the spiking network, as lif or ilif" if spikes else "give silu, relu or qcfs"
            raise UserError(f"{which} = {neuron!r}: {'has no spikes' if spikes else 'is a spiking neuron'}; {remedy}")
    out = args.out or Path(cfg.out) / f"gap-{cfg.name}"
    keep = [] if cfg.train.keep_every else [f"train.keep_every={max(1, round(cfg.train.epochs / KEPT))}"]
    runs = {}
    for side, neurons in zip(SIDES, ([], twins), strict=True):
        print(f"-- {' '.join([side, *neurons])}", flush=True)
        place = [f"out={out}", f"name={side}"]
        keys = [*args.overrides, *keep, *neurons, *place]
        runs[side] = run_training(args.config, keys, "auto", ["train.py", args.config, *keys, "--resume", "auto"])
    gap = {"config": str(args.config), "overrides": args.overrides, "twin": args.twin, **measure(cfg, runs)}
    write_atomically(out / "gap.json", json.dumps(gap, indent=1) + "\n")
    _write_csv(out / "gap.csv", gap)
    plot_gap(gap, out / "gap.png", f"{cfg.name}: {cfg.model.name}, T={cfg.model.T}, twin {args.twin}")
    print("\n".join(report(gap)))
    print(f"written to {out}: gap.json, gap.csv, gap.png")
    return gap


def measure(cfg: DictConfig, runs: dict[str, Path]) -> dict[str, Any]:
    """What gap.json holds of two finished runs, {"spiking": folder, "twin": folder}."""
    batch, device = fixed_batch(cfg), distributed.start(cfg.device)
    kept = {side: kept_checkpoints(folder) for side, folder in runs.items()}
    epochs = sorted(set(kept["spiking"]) & set(kept["twin"]))
    if not epochs:
        raise UserError(f"{runs['spiking']}: has no checkpoint_epoch<n>.pt in common with {runs['twin']}: start anew")
    points = []
    for epoch in epochs:
        layers = {}
        for side in SIDES:
            model = open_run(kept[side][epoch], "model").model.to(device)
            layers[side] = training_statistics(model, *batch.to(device))
        of_twin = ratios(layers["spiking"], layers["twin"])
        rows = {name: {**row, "ratio": of_twin.get(name)} for name, row in layers["spiking"].items()}
        points.append({"epoch": epoch, "layers": rows, "twin": layers["twin"]})
    return {
        "images": len(batch.image_ids),
        "curves": {side: curve(folder) for side, folder in runs.items()},
        "operations": {side: operations(kept[side][epochs[-1]], batch, device) for side in SIDES},
        "points": points,
    }


def fixed_batch(cfg: DictConfig) -> Batch:
    """As many samples as a training batch has, spread evenly over the training split, without augmentation.

    Of recordings in sequence, of which most windows may have no label, those of four times as many that have one.
    """
    dataset = build_dataset(cfg, cfg.data.train_split, generate=False)
    wanted = cfg.train.batch_size * (1 if dataset.sequences is None else 4)
    places = np.linspace(0, len(dataset) - 1, min(wanted, len(dataset))).round().astype(int)
    samples = [sample for i in places.tolist() if (sample := dataset[i]).labelled]
    if not samples:
        raise UserError(
            f"{cfg.data.train_split}: none of {len(places)} samples has a label: give a larger train.batch_size"
        )
    every = -(-len(samples) // cfg.train.batch_size)
    return collate(samples[::every], dataset.scale)


def kept_checkpoints(folder: Path) -> dict[int, Path]:
    """{epochs trained: checkpoint} of a run with `train.keep_every`."""
    found = {re.fullmatch(r"checkpoint_epoch(\d+)\.pt", path.name): path for path in folder.glob("checkpoint_epoch*")}
    return {int(match[1]): path for match, path in found.items() if match}


def curve(folder: Path) -> list[dict[str, float]]:
    """[{"step", "AP", "AP50"}] of the validations of a run."""
    records = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    names = "AP", "AP50"
    return [
        {"step": record["step"] + 1, **{name: record[f"val/{name}"] for name in names if f"val/{name}" in record}}
        for record in records
        if "val/AP50" in record
    ]


def operations(checkpoint: Path, batch: Batch, device: torch.device) -> dict[str, Any]:
    """Per image of the batch, with the averaged weights."""
    model = open_run(checkpoint).model.to(device)
    with Operations(model) as counted, torch.inference_mode():
        model.raw(batch.to(device)[0])
    return counted.totals()


def report(gap: dict[str, Any]) -> list[str]:
    """Lines of the table, AP and operations, and the layers that stand out."""
    moments, layers = [gap["points"][i] for i in (0, len(gap["points"]) // 2, -1)], gap["points"][-1]["layers"]
    width = max(map(len, layers))
    shown = {key: name for key, name in MEASURES.items() if any(row.get(key) is not None for row in layers.values())}
    epochs = "".join(f"{'epoch ' + str(point['epoch']):>10}" for point in moments)
    lines = [f"{'':{width}}{'':38}" + "".join(f"{name:<{len(epochs) + 3}}" for name in shown.values()).rstrip()]
    lines.append(f"{'':{width}}    dead  inside saturated channels fires" + f"{epochs}   " * len(shown))
    for name, row in layers.items():
        cells = [_cell(row.get(column), 3, w) for column, w in zip(COLUMNS, (8, 8, 10, 9, 6), strict=True)]
        for key in shown:
            cells += [*(_cell(point["layers"].get(name, {}).get(key), 2, 10) for point in moments), "   "]
        lines.append(f"{name:{width}}{''.join(cells)}".rstrip())
    lines.append("")
    for side, points in gap["curves"].items():
        values = "  ".join(f"{p['step']}: {p.get('AP', p['AP50']):.3f}" for p in points)
        lines.append(f"{side:8} {'AP' if all('AP' in p for p in points) else 'AP50'} after steps  {values}")
    for side, counts in gap["operations"].items():
        lines += [f"{side:8} {name}: {text}" for name, text in operation_rows(counts)]
    for key, what in {"dead": "dead", "saturated": "saturated", **shown}.items():
        rows = [(row[key], name) for name, row in layers.items() if row.get(key) is not None]
        most = sorted(rows, reverse=key not in shown)[:3]
        lines.append(f"{'least ' if key in shown else 'most '}{what}: " + ", ".join(f"{n} {v:.2f}" for v, n in most))
    return lines


def _cell(value: float | None, digits: int, width: int) -> str:
    return f"{'-' if value is None else f'{value:.{digits}f}':>{width}}"


def _write_csv(path: Path, gap: dict[str, Any]) -> None:
    columns = ("epoch", "layer", *COLUMNS, "gradient", "twin_gradient", "ratio", "direction")
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, columns)
        table.writeheader()
        for point in gap["points"]:
            for name, row in point["layers"].items():
                twin = point["twin"].get(name, {}).get("gradient")
                table.writerow({"epoch": point["epoch"], "layer": name, **row, "twin_gradient": twin})


if __name__ == "__main__":
    run_command(main)
