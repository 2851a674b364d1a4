"""Run a checkpoint's detector over a split, score it and write its folder."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from omegaconf import DictConfig

from analysis.energy.joules import counter, measure
from data.atomic_file import write_atomically
from models.deploy.binary import binary_check, to_binary
from registry import UserError
from scoring.protocols import get_protocol
from scoring.truth_check import check_truth

from .. import distributed
from ..anneal import annealed_text
from ..config import config_from_plain
from ..curve_table import brief
from ..drawn_samples import draw_closing, draw_samples, draw_worst
from ..evaluation import write_detections
from ..precision import autocast
from ..runs.evaluation_folder import check_free, new_files, write_unfinished
from ..runs.open import Run, open_run
from ..runs.provenance import provenance
from .breakdown import break_down
from .files import plot, print_table, write_firing_rates, write_images, write_json, write_report
from .options import Options
from .passes import run_passes
from .request import request_of
from .settings import settings_of
from .subject import prepare


def score_checkpoint(asked: Options) -> dict[str, Any]:
    """Run a checkpoint's detector over a split, and score it. Of several processes each runs a share; rank 0 scores and
    writes, and alone returns the metrics."""
    for override in asked.overrides:
        if override.startswith(("model", "optim", "train")) and not override.startswith("train.precision"):
            raise UserError(f"{override!r}: the checkpoint decides that; data.*, eval.*, device can be changed here")
    assert asked.checkpoint is not None
    run = open_run(asked.checkpoint, asked.weights)
    cfg = config_from_plain(run.config, asked.overrides)
    if run.ann is not None and not any(override.startswith("train.precision") for override in asked.overrides):
        cfg.train.precision = "fp32"  # thousands of steps would add up what bf16 rounds
    cfg.data.test_split = asked.split or cfg.data.test_split
    cfg.eval.protocol = asked.protocol or cfg.eval.protocol
    get_protocol(cfg.eval.protocol)
    device = distributed.start(cfg.device, cfg.timeout_minutes)
    try:
        with distributed.naming_lost_processes("evaluate again"):
            return _score(run, cfg, device, asked)
    finally:
        distributed.stop()


def _score(run: Run, cfg: DictConfig, device: torch.device, asked: Options) -> dict[str, Any]:
    """Evaluate `run` by `cfg`, its config with the overrides."""
    subject = prepare(run, cfg, device, asked)
    model, protocol = subject.model, subject.protocol
    request = request_of(subject, asked)
    earlier = check_free(request.out, request.content)
    distributed.barrier()  # so that no process finds what process 0 writes
    for line in annealed_text(run.content) + check_truth(protocol, subject.truth, subject.split):  # before any work
        if distributed.is_main():
            print(line)
    binary: dict[str, float] = {}
    if asked.binary:
        binary = binary_check(model, subject.first_input())
        model = to_binary(model)
    read = counter(device) if asked.joules else None  # raises before any work
    settings = settings_of(subject, model, asked.weights)
    last = {"request": request.content, "provenance": provenance(asked.command, device)}
    keeps = earlier is not None and "incomplete" not in earlier  # of a complete evaluation
    save = partial(write_unfinished, request.out, request.content) if distributed.is_main() and not keeps else None
    passed = run_passes(subject, model, settings | last, request.source, asked.spikes, asked.memory_rule(), save)
    if not distributed.is_main():
        return {}

    several, evaluator = passed.several, passed.evaluator
    results = several.results() if several else {}
    if several and save is not None:
        save(several.files(results))  # so that an error in what follows does not lose them
    metrics = {**evaluator.score(protocol), **settings}
    if asked.binary:
        metrics["binary"] = binary
    metrics |= passed.recorded.metrics(asked.spikes)
    energy = passed.recorded.energy
    if read is not None:
        with autocast(device, subject.precision):
            metrics["joules"] = measure(model, subject.first_input(), read)
    breakdown = break_down(evaluator, protocol, asked.pictures) if asked.broken_down else None
    metrics |= breakdown.brief() if breakdown else {}
    metrics |= {name: brief(content) for name, content in results.items()} | last
    with new_files(request.out) as folder:
        write_detections(folder / "detections.json", evaluator)
        write_json(folder / "annotations.json", {"info": metrics["data"], **subject.truth})
        write_images("image", draw_samples(evaluator, subject.dataset, asked.pictures), folder)
        write_firing_rates(metrics, folder)
        if breakdown:
            write_json(folder / "breakdown.json", breakdown.content)
            write_images("worst", draw_worst(breakdown.worst, subject.truth, subject.dataset), folder)
        if breakdown and asked.plots:
            plot(evaluator, breakdown, metrics, request.source, folder)
            write_images("closing", draw_closing(model, subject.dataset, asked.pictures, device), folder)
        for file, text in several.files(results).items() if several else ():
            write_atomically(folder / file, text)
        if energy is not None:
            write_json(folder / "energy.json", energy | last)
        write_json(folder / "metrics.json", metrics)
        if breakdown:
            write_report(folder)
    print_table(metrics, earlier, request.out, energy)
    return metrics
