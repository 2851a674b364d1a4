"""Score a checkpoint on a split, or detections in a file: AP with its protocol, detections, pictures.

    python evaluate.py runs/demo/checkpoint_best.pt                              test split, the config's protocol
    python evaluate.py runs/demo/checkpoint_last.pt --protocol coco --split val
    python evaluate.py CHECKPOINT data.root=/elsewhere --plots --spikes
    python evaluate.py CHECKPOINT --binary                                       run it on spikes of 0 and 1 only
    python evaluate.py --detections FILE --truth annotations.json --protocol voc07      no model, no pictures
    python evaluate.py CONFIG data.root=/elsewhere --detections FILE --split val        truth: the config's dataset
    python evaluate.py CHECKPOINT --detections runs/demo/detections.json --protocol raw  truth: that of its run

Writes metrics.json (AP beside its protocol, images, expected_images, T, parameters), detections.json (COCO results in
original pixels) and pictures/ into the checkpoint's folder, or into --out. Refuses, with a non-zero exit, when pictures
that the labels list are missing, unless --allow-missing. With --detections FILE.json, metrics.json goes into the folder
FILE_PROTOCOL/ beside it, or into --out.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

import torch
from torchvision.io import write_png
from tqdm import tqdm

from analysis.firing_rate import FiringRates
from analysis.plots import plot_confusion, plot_precision_recall
from data import Problems, create_dataset, eval_loader
from data.atomic_file import write_atomically
from engine import distributed
from engine.checkpoint import load_checkpoint, load_detector
from engine.config import config_from_plain, dataset_kwargs, load_config
from engine.detections import read_detections, read_truth
from engine.errors import reason
from engine.evaluator import Evaluator
from engine.loop import evaluate_epoch, stream_of
from engine.pictures import draw_samples
from engine.protocols import PROTOCOLS, get_protocol
from engine.voc_ap import precision_recall
from models.binary import binary_check, to_binary


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", nargs="?", help="with --detections also a config, or nothing where --truth is")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="changes to the run's config")
    parser.add_argument("--detections", type=Path, metavar="FILE", help="score these COCO results, run no model")
    parser.add_argument("--truth", type=Path, metavar="FILE", help="COCO annotations to score them against")
    parser.add_argument("--protocol", help=f"{', '.join(PROTOCOLS)}; default: the config's eval.protocol, else coco")
    parser.add_argument("--split", help="default: the config's data.test_split")
    parser.add_argument("--weights", choices=["ema", "model"], default="ema", help="averaged or last weights")
    parser.add_argument("--allow-missing", action="store_true", help="score although listed pictures are missing")
    parser.add_argument("--spikes", action="store_true", help="firing rate of every layer, into the table and metrics")
    parser.add_argument(
        "--binary", action="store_true", help="integer outputs 0..D as D binary slots; SpikeYOLO family"
    )
    parser.add_argument("--plots", action="store_true", help="precision-recall curves and a confusion matrix")
    parser.add_argument("--pictures", type=int, default=8, help="how many to draw, truth left, prediction right")
    parser.add_argument("--out", type=Path, help="default: the checkpoint's folder")
    args = parser.parse_intermixed_args(argv)
    if args.checkpoint and "=" in args.checkpoint and not Path(args.checkpoint).exists():
        args.checkpoint, args.overrides = None, [args.checkpoint, *args.overrides]
    if args.protocol:
        get_protocol(args.protocol)  # a wrong name fails before the work
    if args.detections:
        return score_file(args)
    if args.truth:
        raise ValueError("--truth belongs to --detections FILE; a checkpoint is scored against its dataset")
    if not args.checkpoint:
        raise ValueError("nothing to score: name a checkpoint, or --detections FILE with --truth FILE")

    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise ValueError("evaluate.py runs in one process: start it with python, not torchrun")
    for override in args.overrides:
        if override.startswith(("model", "optim", "train")) and not override.startswith("train.precision"):
            raise ValueError(f"{override!r}: the checkpoint decides that; data.*, eval.*, device can be changed here")
    model, content = load_detector(args.checkpoint, args.weights)
    cfg = config_from_plain(content["config"], args.overrides)
    split, protocol = args.split or cfg.data.test_split, args.protocol or cfg.eval.protocol
    get_protocol(protocol)
    device = distributed.start(cfg.device)
    if cfg.threads:
        torch.set_num_threads(cfg.threads)
    model.to(device)
    name, kwargs = dataset_kwargs(cfg)
    kwargs |= {"allow_missing": args.allow_missing, "problems": Problems(strict=cfg.data.strict)}
    dataset = create_dataset(name, split, **kwargs)
    if dataset.class_names != content["class_names"]:
        raise ValueError(
            f"{args.checkpoint} was trained on the classes {content['class_names']}, {split} has {dataset.class_names}"
        )
    trained = content["model_kwargs"].get("in_channels", dataset.channels)
    if trained != dataset.channels:
        raise ValueError(
            f"{args.checkpoint} was trained on {trained} channels, {split} has {dataset.channels}: "
            "leave the representation as it was"
        )
    if dataset.problems.items:
        print(f"{split}: {dataset.problems.summary()}")

    out = args.out or Path(args.checkpoint).parent
    out.mkdir(parents=True, exist_ok=True)
    truth = dataset.ground_truth()
    get_protocol(protocol).score(truth, [])  # and so does a truth that the protocol cannot judge
    evaluator = Evaluator(truth, dataset.expected_images, args.allow_missing)
    loader = eval_loader(dataset, cfg.eval.batch_size, cfg.data.workers)
    parameters = sum(p.numel() for p in model.parameters())  # of the network as trained
    binary: dict[str, float] = {}
    if args.binary:
        x, _ = next(iter(loader)).to(device)
        binary = binary_check(model, x)
        model = to_binary(model)
    with FiringRates(model) as firing, stream_of(model, loader) as stream:
        bar = tqdm(loader, leave=False, disable=not sys.stderr.isatty())
        evaluate_epoch(model, bar, evaluator, device, cfg.train.precision, stream)
    scores = evaluator.score(protocol)
    evaluator.write_detections(out / "detections.json")

    metrics = {
        **scores,
        "split": split,
        "model": content["model_kwargs"]["name"],
        "neuron": content["model_kwargs"]["neuron"],
        "T": model.T,
        "parameters": parameters,
        "weights": args.weights,
        "epochs": content["epoch"],
        "seed": content["config"]["seed"],
        "checkpoint": str(args.checkpoint),
        **({"clips": len({image["clip"] for image in truth["images"]})} if "clip" in truth["images"][0] else {}),
    }
    if args.binary:
        metrics["binary"] = binary
    if args.spikes:
        metrics["firing_rates"] = firing.rates()
    write_atomically(out / "metrics.json", json.dumps(metrics, indent=1) + "\n")
    (out / "pictures").mkdir(exist_ok=True)
    for i, picture in enumerate(draw_samples(model, dataset, device, args.pictures)):
        write_png(picture, str(out / "pictures" / f"{split.replace('/', '_')}_{i}.png"))
    if args.plots:
        plot(evaluator, metrics, f"{Path(args.checkpoint).resolve().parent.name} ({Path(args.checkpoint).name})", out)
    print(table(metrics, out))
    return metrics


def score_file(args: argparse.Namespace) -> dict[str, Any]:
    """Score the detections in a file, without a model."""
    for option in ("allow_missing", "spikes", "binary"):
        if getattr(args, option):
            raise ValueError(f"--{option.replace('_', '-')} is about running a model: leave it out with --detections")
    if args.truth:
        if args.checkpoint or args.overrides or args.split:
            raise ValueError("--truth is all the truth there is: leave out the config, its overrides and --split")
        truth, split, protocol = read_truth(args.truth), str(args.truth), args.protocol or "coco"
        expected = len(truth["images"])
    elif args.checkpoint:
        if Path(args.checkpoint).suffix == ".pt":
            cfg = config_from_plain(load_checkpoint(args.checkpoint)["config"], args.overrides)
        else:
            cfg = load_config(args.checkpoint, args.overrides)
        split, protocol = args.split or cfg.data.test_split, args.protocol or cfg.eval.protocol
        name, kwargs = dataset_kwargs(cfg)
        # An absent recording would shift the image ids of all that follow.
        kwargs |= {"allow_missing": False, "problems": Problems(strict=cfg.data.strict)}
        dataset = create_dataset(name, split, **kwargs)
        if dataset.problems.items:
            print(f"{split}: {dataset.problems.summary()}")
        truth, expected = dataset.ground_truth(), dataset.expected_images
    else:
        raise ValueError("--detections needs a truth: add --truth annotations.json, or a config whose dataset has it")
    get_protocol(protocol)
    evaluator = Evaluator(truth, expected)
    evaluator.add_results(read_detections(args.detections, truth))
    metrics = {**evaluator.score(protocol), "split": split, "detections": str(args.detections)}
    out = args.out or args.detections.with_name(f"{args.detections.stem}_{protocol}")
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / "metrics.json", json.dumps(metrics, indent=1) + "\n")
    if args.plots:
        plot(evaluator, metrics, args.detections.name, out)
    print(table(metrics, out))
    return metrics


def plot(evaluator: Evaluator, metrics: dict[str, Any], run: str, out: Path) -> None:
    """Curves and confusion of what the protocol counts."""
    truth, found = get_protocol(metrics["protocol"]).counted(*evaluator.truth_and_detections())
    title = f"{run}, split {metrics['split']}, protocol {metrics['protocol']}"
    curves = precision_recall(truth, found)
    plot_precision_recall(curves, out / "precision_recall.png", title, metrics["per_class_AP50"])
    plot_confusion(truth, found, out / "confusion.png", title)


def table(metrics: dict[str, Any], out: Path) -> str:
    """What a person reads: the numbers, what they mean, where the rest is."""

    def number(key: str) -> str:
        return "-" if metrics.get(key) is None else f"{metrics[key]:.3f}"

    of_clips = f" of {metrics['clips']} clips" if "clips" in metrics else ""
    if "model" in metrics:
        source = [
            ("model", f"{metrics['model']}, neuron {metrics['neuron']}, T={metrics['T']}"),
            ("parameters", f"{metrics['parameters']:,}"),
        ]
    else:
        source = [("detections", metrics["detections"])]
    rows = [
        *source,
        (
            "split",
            f"{metrics['split']}: {metrics['images']} of {metrics['expected_images']} samples{of_clips}, "
            f"{metrics['evaluated_images']} scored with {metrics['boxes']} boxes",
        ),
        ("protocol", metrics["protocol"]),
        ("rule", metrics["rule"]),
        ("AP50", number("AP50")),
        ("AP75", number("AP75")),
        ("AP", number("AP")),
        *((f"  {name}", f"AP50 {v:.3f}") for name, v in (metrics.get("per_class_AP50") or {}).items() if v is not None),
        *((f"  {layer}", f"fires {rate:.3f}") for layer, rate in metrics.get("firing_rates", {}).items()),
        *((f"binary: {what}", f"{value:.2g}") for what, value in metrics.get("binary", {}).items()),
        ("written to", str(out)),
    ]
    width = max(len(key) for key, _ in rows)
    return "\n".join(f"{key:<{width}}  {value}" for key, value in rows)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f"error: {reason(error)}")
    except KeyboardInterrupt:
        sys.exit("interrupted: the results of this evaluation were not written")
