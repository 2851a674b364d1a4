"""Score a checkpoint on a split, or detections in a file: AP with its protocol, detections, drawings.

    python evaluate.py runs/demo/checkpoint_best.pt                              test split, the config's protocol
    python evaluate.py runs/demo/checkpoint_last.pt --protocol coco --split val
    python evaluate.py CHECKPOINT data.root=/elsewhere --plots --spikes
    torchrun --nproc-per-node=8 evaluate.py CHECKPOINT                           on eight GPUs, the same numbers
    python evaluate.py CHECKPOINT eval.score_threshold=0.3 eval.nms_iou=0.5      of images also eval.T=1
    python evaluate.py CHECKPOINT --binary                                       run it on spikes of 0 and 1 only
    python evaluate.py CHECKPOINT --steps 16,32,64 [--early-exit]                AP against T: curve.json, curve.png
    python evaluate.py CHECKPOINT --noise 0.1,0.2,0.3                            AP under noise: robustness.json, .png
    python evaluate.py CHECKPOINT --history 1,2,4,8,all                          AP against windows seen: history.json
    python evaluate.py --detections FILE --truth annotations.json --protocol voc07      no model, no drawings
    python evaluate.py CONFIG data.root=/elsewhere --detections FILE --split val        truth: the config's dataset
    python evaluate.py CHECKPOINT --detections FILE --protocol raw                      truth: that of its run

Each evaluation has a folder of its own beside the checkpoint, eval/SPLIT_PROTOCOL_CHECKPOINT and what else differs from
the run (eval/test_coco_best, eval/test_coco_best_weights=model), or --out: metrics.json (AP beside its protocol, data,
settings, commit and machine), detections.json (COCO results in original pixels), annotations.json (their truth) and
pictures/. The same evaluation again replaces it. Refuses, with a non-zero exit, when images that the labels list are
missing, unless --allow-missing. With --detections FILE.json the folder is FILE_SPLIT_PROTOCOL beside it.
"""

from __future__ import annotations

import argparse
import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch.utils.data import DataLoader
from torchvision.io import write_png

from analysis.plots import plot_confusion, plot_precision_recall
from data import DetectionDataset, Problems, eval_loader
from data.atomic_file import write_atomically
from engine import distributed
from engine.anneal import annealed_text
from engine.build import build_dataset, fixed_steps
from engine.command import run_command
from engine.config import config_changes, config_from_plain, evaluation_options, load_config
from engine.curve_options import curve_options
from engine.curve_run import CurveRun
from engine.curve_table import brief
from engine.drawn_samples import draw_closing, draw_samples
from engine.evaluation import write_detections
from engine.evaluation_options import set_evaluation_options
from engine.history import HistoryRun, parse_history
from engine.metrics_table import table
from engine.recorded import Recorded, evaluate_recorded
from engine.runs.checkpoint import load_checkpoint
from engine.runs.evaluation_folder import check_free, evaluation_name, new_files, option, write_unfinished
from engine.runs.fingerprint import check_same_data, describe, weights_digest
from engine.runs.open import Run, open_run
from engine.runs.provenance import command_line, provenance
from models.checkpoints.converted import conversion_settings
from models.deploy.binary import binary_check, to_binary
from registry import UserError
from scoring.detections import read_detections, read_truth
from scoring.evaluator import Evaluator
from scoring.protocols import PROTOCOLS, get_protocol
from scoring.truth_check import check_truth
from scoring.voc_ap import precision_recall


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", nargs="?", help="with --detections also a config, or nothing where --truth is")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="changes to the run's config")
    parser.add_argument("--detections", type=Path, metavar="FILE", help="score these COCO results, run no model")
    parser.add_argument("--truth", type=Path, metavar="FILE", help="COCO annotations to score them against")
    parser.add_argument("--protocol", help=f"{', '.join(PROTOCOLS)}; default: the config's eval.protocol, else coco")
    parser.add_argument("--split", help="default: the config's data.test_split")
    parser.add_argument("--weights", choices=["ema", "model"], default="ema", help="averaged or last weights")
    parser.add_argument("--allow-missing", action="store_true", help="score although listed images are missing")
    parser.add_argument("--spikes", action="store_true", help="firing rate of every layer, operations")
    parser.add_argument(
        "--binary", action="store_true", help="integer outputs 0..D as D binary slots; SpikeYOLO family"
    )
    parser.add_argument("--steps", metavar="T,T,...", help="AP after each T; converted: default 16,32,64 .. 2048")
    parser.add_argument(
        "--early-exit", type=float, nargs="?", const=0.3, metavar="SCORE",
        help="keep an image's detections once those above SCORE (default 0.3) have not changed",
    )  # fmt: skip
    parser.add_argument("--noise", metavar="D,D,...", help="also AP under salt-and-pepper noise of these densities")
    parser.add_argument("--history", metavar="N,..,all", help="AP of recordings N windows after a reset of the state")
    parser.add_argument("--plots", action="store_true", help="precision-recall, confusion matrix, when frames close")
    parser.add_argument("--pictures", type=int, default=8, help="how many to draw, truth left, prediction right")
    parser.add_argument("--out", type=Path, help="default: eval/ beside the checkpoint, see above")
    args = parser.parse_intermixed_args(argv)
    args.command = command_line("evaluate.py", argv)
    if args.checkpoint and "=" in args.checkpoint and not Path(args.checkpoint).exists():
        args.checkpoint, args.overrides = None, [args.checkpoint, *args.overrides]
    if args.protocol:
        get_protocol(args.protocol)  # an unknown name fails before any work
    if args.detections:
        return score_file(args)
    if args.truth:
        raise UserError("--truth belongs to --detections FILE; a checkpoint is scored against its dataset")
    if not args.checkpoint:
        raise UserError("nothing to score: name a checkpoint, or --detections FILE with --truth FILE")
    return score_checkpoint(args)


def score_checkpoint(args: argparse.Namespace) -> dict[str, Any]:
    """Run a checkpoint's detector over a split, and score it. Of several processes each runs a share; rank 0 scores and
    writes, and alone returns the metrics."""
    for override in args.overrides:
        if override.startswith(("model", "optim", "train")) and not override.startswith("train.precision"):
            raise UserError(f"{override!r}: the checkpoint decides that; data.*, eval.*, device can be changed here")
    run = open_run(args.checkpoint, args.weights)
    cfg = config_from_plain(run.config, args.overrides)
    if run.ann is not None and not any(override.startswith("train.precision") for override in args.overrides):
        cfg.train.precision = "fp32"  # thousands of steps would add up what bf16 rounds
    cfg.data.test_split = args.split or cfg.data.test_split
    cfg.eval.protocol = args.protocol or cfg.eval.protocol
    get_protocol(cfg.eval.protocol)
    device = distributed.start(cfg.device, cfg.timeout_minutes)
    try:
        with distributed.naming_lost_processes("evaluate again"):
            return _score_run(run, cfg, device, args)
    finally:
        distributed.stop()


def _score_run(run: Run, cfg: DictConfig, device: torch.device, args: argparse.Namespace) -> dict[str, Any]:
    """Evaluate `run` by `cfg`, its config with the overrides."""
    checkpoint, model, content = run.checkpoint, run.model, run.content
    trained, split, protocol = config_from_plain(run.config), cfg.data.test_split, cfg.eval.protocol
    say = print if distributed.is_main() else (lambda *_: None)
    if cfg.threads:
        torch.set_num_threads(cfg.threads)
    model.to(device)
    dataset = _dataset(cfg, split, args.allow_missing)
    if dataset.class_names != run.class_names:
        raise UserError(f"{checkpoint} was trained on the classes {run.class_names}, {split} has {dataset.class_names}")
    channels = content["model_kwargs"].get("in_channels", dataset.channels)
    if channels != dataset.channels:
        raise UserError(
            f"{checkpoint} was trained on {channels} channels, {split} has {dataset.channels}: "
            "leave the representation as it was"
        )
    steps = fixed_steps(model, dataset)
    options = set_evaluation_options(model, steps, **evaluation_options(cfg))
    curve = curve_options(model, dataset, run.ann is not None, args.steps, args.noise, args.early_exit)
    if run.ann is not None:
        run.ann.to(device)
        set_evaluation_options(run.ann, steps, **evaluation_options(cfg))
    history = parse_history(args.history, dataset, run.ann is not None)
    if history and curve.steps:
        raise UserError("--history and --steps are evaluations of their own: leave one of them out")
    if curve.steps and (args.binary or cfg.eval.T is not None):
        of_one_T = "--binary" if args.binary else f"eval.T={cfg.eval.T}"
        remedy = "leave it out" if args.binary else "leave it out, or add eval.T=null"
        raise UserError(f"{of_one_T} is for one T, and this evaluation has T = {curve.steps}: {remedy}")

    changes = config_changes(trained, cfg)
    differs = [option("weights", args.weights)] if args.weights != "ema" else []
    differs += [flag for flag in ("binary", "allow_missing") if getattr(args, flag)]
    numbers = {"steps": args.steps and curve.steps, "noise": curve.densities}
    differs += [option(key, "-".join(f"{n:g}" for n in given)) for key, given in numbers.items() if given]
    differs += [option("history", args.history.replace(",", "-"))] if history else []
    differs += [option("early_exit", args.early_exit)] if args.early_exit is not None else []
    differs += [
        option(key, new) for key, (_, new) in changes.items() if key not in ("data.test_split", "eval.protocol")
    ]
    name = evaluation_name([split, protocol, checkpoint.stem.removeprefix("checkpoint_"), *differs])
    out = args.out or checkpoint.parent / "eval" / name
    request = {
        "checkpoint": _seen_from(out, checkpoint),
        "split": split,
        "protocol": protocol,
        "weights": args.weights,
        "binary": args.binary,
        "allow_missing": args.allow_missing,
        "config_changes": changes,  # {key: [of the run, here]}
        **({"steps": curve.steps, "noise": curve.densities, "early_exit": args.early_exit} if curve.steps else {}),
        **({"history": args.history} if history else {}),
    }
    earlier = check_free(out, request)
    distributed.barrier()  # so that no process finds what process 0 writes
    truth = dataset.ground_truth()
    for line in annealed_text(content) + check_truth(protocol, truth, split):  # raises before any work
        say(line)
    new_evaluator = partial(Evaluator, truth, dataset.expected_images, args.allow_missing)
    ranks = distributed.rank(), distributed.world_size()

    def load(samples: DetectionDataset) -> DataLoader:
        return eval_loader(samples, cfg.eval.batch_size, cfg.data.workers, *ranks)

    parameters = sum(p.numel() for p in (run.ann or model).parameters())  # of the network as trained
    binary: dict[str, float] = {}
    if args.binary:
        x, _ = next(iter(eval_loader(dataset, cfg.eval.batch_size))).to(device)  # the same on every rank
        binary = binary_check(model, x)
        model = to_binary(model)
    settings = {
        "split": split,
        "model": content["model_kwargs"]["name"],
        "neuron": content["model_kwargs"].get("neuron"),
        **options,
        **({"annealed": content["annealed"]} if "annealed" in content else {}),
        **conversion_settings(content, model),
        "input_size": None if cfg.eval.rectangular else list(dataset[0].x.shape[-2:]),
        "precision": cfg.train.precision,
        "parameters": parameters,
        "weights": args.weights,
        "weights_digest": weights_digest(content[args.weights]),
        "epochs": content["epoch"],
        "seed": trained.seed,
        "checkpoint": str(checkpoint),
        **({"clips": len({image["clip"] for image in truth["images"]})} if "clip" in truth["images"][0] else {}),
        "data": {"name": cfg.data.name, "root": str(cfg.data.root), **describe(truth, split)},
    }
    last = {"request": request, "provenance": provenance(args.command, device)}
    where = ", ".join([f"{checkpoint.resolve().parent.name} ({checkpoint.name})", *differs])
    keeps = earlier is not None and "incomplete" not in earlier  # of a complete evaluation
    save = partial(write_unfinished, out, request) if distributed.is_main() and not keeps else None
    curves: CurveRun | HistoryRun | None = None
    if curve.steps:
        settings["T"] = curve.steps[-1]
        curves = CurveRun(model, run.ann, curve, new_evaluator, protocol, settings | last, where)
        curves.run(load(dataset), device, cfg.train.precision, save)
        evaluator = curves.curve.scored[curve.steps[-1]]
        seen = Recorded(curves.curve.firing_rates(), curves.curve.spike_shares())
    elif history:
        curves = HistoryRun(model, dataset, history, load, new_evaluator, protocol, settings | last, where)
        seen = curves.run(device, cfg.train.precision, save, args.spikes)
        evaluator = curves.evaluator
    else:
        evaluator = new_evaluator()
        seen = evaluate_recorded(model, load(dataset), evaluator, device, cfg.train.precision, args.spikes)
    if not distributed.is_main():
        return {}

    results = curves.results() if curves else {}
    if curves and save is not None:
        save(curves.files(results))  # so that an error in what follows does not lose them
    metrics = {**evaluator.score(protocol), **settings}
    if args.binary:
        metrics["binary"] = binary
    metrics |= seen.metrics(args.spikes)
    metrics |= {name: brief(content) for name, content in results.items()} | last
    with new_files(out) as folder:
        write_detections(folder / "detections.json", evaluator)
        _write_json(folder / "annotations.json", {"info": metrics["data"], **truth})
        (folder / "pictures").mkdir()
        for image_id, image in draw_samples(evaluator, dataset, args.pictures).items():
            write_png(image, str(folder / "pictures" / f"image_{image_id}.png"))
        if args.plots:
            plot(evaluator, metrics, where, folder)
            for image_id, image in draw_closing(model, dataset, args.pictures, device).items():
                write_png(image, str(folder / "pictures" / f"closing_{image_id}.png"))
        for file, text in curves.files(results).items() if curves else ():
            write_atomically(folder / file, text)
        _write_json(folder / "metrics.json", metrics)
    _report(metrics, earlier, out)
    return metrics


def score_file(args: argparse.Namespace) -> dict[str, Any]:
    """Score the detections in a file, without a model."""
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise UserError("--detections runs no model, and needs one process: start it with python, not torchrun")
    for flag in ("allow_missing", "spikes", "binary", "steps", "noise", "early_exit", "history"):
        if getattr(args, flag):
            raise UserError(f"--{flag.replace('_', '-')} is about running a model: leave it out with --detections")
    if args.truth:
        if args.checkpoint or args.overrides or args.split:
            raise UserError("--truth is all the truth there is: leave out the config, its overrides and --split")
        truth, split, protocol = read_truth(args.truth), str(args.truth), args.protocol or "coco"
        expected, name = len(truth["images"]), args.truth.stem
    elif args.checkpoint:
        if Path(args.checkpoint).suffix == ".pt":
            cfg = config_from_plain(load_checkpoint(args.checkpoint)["config"], args.overrides)
        else:
            cfg = load_config(args.checkpoint, args.overrides)
        split, protocol = args.split or cfg.data.test_split, args.protocol or cfg.eval.protocol
        # A missing recording would shift the image ids of all later ones.
        dataset = _dataset(cfg, split, allow_missing=False)
        truth, expected, name = dataset.ground_truth(), dataset.expected_images, split
    else:
        raise UserError("--detections needs a truth: add --truth annotations.json, or a config whose dataset has it")
    for line in check_truth(protocol, truth, split):
        print(line)
    found = read_detections(args.detections, truth)
    data = describe(truth, split)
    data["checked"] = check_same_data(args.detections, data)

    out = args.out or args.detections.with_name(evaluation_name([args.detections.stem, name, protocol]))
    request = {
        "detections": _seen_from(out, args.detections),
        "truth": data["fingerprint"],
        "protocol": protocol,
    }
    earlier = check_free(out, request)
    evaluator = Evaluator(truth, expected)
    evaluator.add_results(found)
    metrics = {**evaluator.score(protocol), "split": split, "detections": str(args.detections), "data": data}
    metrics |= {"request": request, "provenance": provenance(args.command)}
    with new_files(out) as folder:
        if args.plots:
            plot(evaluator, metrics, args.detections.name, folder)
        _write_json(folder / "metrics.json", metrics)
    _report(metrics, earlier, out)
    return metrics


def plot(evaluator: Evaluator, metrics: dict[str, Any], source: str, out: Path) -> None:
    """Plot precision-recall curves and the confusion matrix of the boxes that the protocol counts."""
    truth, found = get_protocol(metrics["protocol"]).counted(*evaluator.truth_and_detections())
    title = f"split {metrics['split']}, protocol {metrics['protocol']}: {source}"
    plot_precision_recall(
        precision_recall(truth, found), out / "precision_recall.png", title, metrics["per_class_AP50"]
    )
    plot_confusion(truth, found, out / "confusion.png", title)


def _dataset(cfg: DictConfig, split: str, allow_missing: bool) -> DetectionDataset:
    problems = Problems(strict=cfg.data.strict)
    dataset = build_dataset(cfg, split, generate=False, allow_missing=allow_missing, problems=problems)
    if dataset.problems.items and distributed.is_main():
        print(f"{split}: {dataset.problems.summary()}")
    return dataset


def _seen_from(folder: Path, file: Path) -> str:
    """Path of `file` relative to `folder`: it stays valid if both are moved together."""
    return os.path.relpath(file.resolve(), folder.resolve())


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1 if path.name == "metrics.json" else None) + "\n")


def _report(metrics: dict[str, Any], earlier: dict[str, Any] | None, out: Path) -> None:
    if earlier and "provenance" in earlier:
        epochs = f" of epoch {earlier['epochs']}" if "epochs" in earlier else ""
        print(f"{out}: replaced the same evaluation{epochs}, of {earlier['provenance']['date']}")
    print(table(metrics, out))


if __name__ == "__main__":
    run_command(main, "the results of this evaluation were not written")
