"""Score a checkpoint on a split: AP with its protocol, detections, pictures.

    python evaluate.py runs/demo/checkpoint_best.pt                              test split, the config's protocol
    python evaluate.py runs/demo/checkpoint_last.pt --protocol coco --split val
    python evaluate.py CHECKPOINT data.root=/elsewhere --plots --spikes
    python evaluate.py CHECKPOINT --binary                                       run it on spikes of 0 and 1 only

Writes metrics.json (AP beside its protocol, images, expected_images, T, parameters), detections.json (COCO results in
original pixels) and pictures/ into the checkpoint's folder, or into --out. Refuses, with a non-zero exit, when pictures
that the labels list are missing, unless --allow-missing.
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
from engine import distributed
from engine.checkpoint import load_detector
from engine.config import config_from_plain, dataset_kwargs
from engine.errors import reason
from engine.evaluator import Evaluator
from engine.loop import evaluate_epoch
from engine.pictures import draw_samples
from engine.protocols import get_protocol
from engine.run_folder import write_atomically
from engine.voc_ap import precision_recall
from models.binary import binary_check, to_binary


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="changes to the run's config")
    parser.add_argument("--protocol", help="coco, voc07, voc10, prophesee; default: the config's eval.protocol")
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

    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise ValueError("evaluate.py runs in one process: start it with python, not torchrun")
    for override in args.overrides:
        if override.startswith(("model", "optim", "train")) and not override.startswith("train.precision"):
            raise ValueError(f"{override!r}: the checkpoint decides that; data.*, eval.*, device can be changed here")
    model, content = load_detector(args.checkpoint, args.weights)
    cfg = config_from_plain(content["config"], args.overrides)
    split, protocol = args.split or cfg.data.test_split, args.protocol or cfg.eval.protocol
    get_protocol(protocol)  # a wrong name fails before the work
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
    if dataset.problems.items:
        print(f"{split}: {dataset.problems.summary()}")

    out = args.out or Path(args.checkpoint).parent
    out.mkdir(parents=True, exist_ok=True)
    truth = dataset.ground_truth()
    evaluator = Evaluator(truth, dataset.expected_images, args.allow_missing)
    loader = eval_loader(dataset, cfg.eval.batch_size, cfg.data.workers)
    binary: dict[str, float] = {}
    if args.binary:
        x, _ = next(iter(loader)).to(device)
        binary = binary_check(model, x)
        model = to_binary(model)
    with FiringRates(model) as firing:
        bar = tqdm(loader, leave=False, disable=not sys.stderr.isatty())
        evaluate_epoch(model, bar, evaluator, device, cfg.train.precision)
    scores = evaluator.score(protocol)
    evaluator.write_detections(out / "detections.json")

    metrics = {
        **scores,
        "split": split,
        "model": content["model_kwargs"]["name"],
        "neuron": content["model_kwargs"]["neuron"],
        "T": model.T,
        "parameters": sum(p.numel() for p in model.parameters()),
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
        write_png(picture, str(out / "pictures" / f"{split}_{i}.png"))
    if args.plots:
        detections = evaluator.detections()
        plot_precision_recall(precision_recall(truth, detections), out / "precision_recall.png")
        plot_confusion(truth, detections, out / "confusion.png")
    print(table(metrics, out))
    return metrics


def table(metrics: dict[str, Any], out: Path) -> str:
    """What a person reads: the numbers, what they mean, where the rest is."""

    def number(key: str) -> str:
        return "-" if metrics.get(key) is None else f"{metrics[key]:.3f}"

    of_clips = f" of {metrics['clips']} clips" if "clips" in metrics else ""
    rows = [
        ("model", f"{metrics['model']}, neuron {metrics['neuron']}, T={metrics['T']}"),
        ("parameters", f"{metrics['parameters']:,}"),
        (
            "split",
            f"{metrics['split']}: {metrics['images']} of {metrics['expected_images']} samples{of_clips}, "
            f"{metrics['evaluated_images']} scored with {metrics['boxes']} boxes",
        ),
        ("protocol", metrics["protocol"]),
        ("AP50", number("AP50")),
        ("AP75", number("AP75")),
        ("AP", number("AP")),
        *((f"  {name}", f"AP50 {v:.3f}") for name, v in (metrics.get("per_class_AP50") or {}).items() if v is not None),
        *((f"  {layer}", f"fires {rate:.3f}") for layer, rate in metrics.get("firing_rates", {}).items()),
        *((f"binary: {what}", f"{value:.2g}") for what, value in metrics.get("binary", {}).items()),
        ("rule", metrics["rule"]),
        ("run folder", str(out)),
    ]
    width = max(len(key) for key, _ in rows)
    return "\n".join(f"{key:<{width}}  {value}" for key, value in rows)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        main()
    except ValueError as error:
        sys.exit(f"error: {reason(error)}")
