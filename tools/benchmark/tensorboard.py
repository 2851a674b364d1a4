"""What TensorBoard costs a training: time of a step and of an evaluation, without it and with it.

    python -m tools.benchmark tensorboard configs/demo.yaml
    python -m tools.benchmark tensorboard configs/demo.yaml train.epochs=100 data.size=[120,152]

Times are CPU seconds of the process, on a GPU wall time with the device waited for. Steps are those of train.py; an
evaluation is one of the validation split, with and without the images and layers that about 20 of a training have.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import torch
from torch import nn

from analysis.draw import overlay
from data import eval_loader
from engine.algorithms import choose_algorithms
from engine.build import build_dataset
from engine.drawn_samples import draw_closing, draw_samples
from engine.evaluation import evaluate, predictor
from engine.gradient_norms import GradientNorms
from engine.loop import Step
from engine.runs.log import RunLog
from engine.validation import Validation
from registry import UserError
from scoring.evaluator import Evaluator

from ._contenders import Training
from ._source import batches_of, open_source

REPEATS = 20  # of what takes less than a millisecond
TURNS = 3  # of evaluations: the median counts


@dataclass
class Cost:
    """Seconds. step, evaluation: without TensorBoard. step_more, light_more: what it adds to each; drawn_more: what
    images and layers add to those evaluations that have them."""

    step: float
    step_more: float
    evaluation: float
    light_more: float
    drawn_more: float

    def share(self, steps: int, evaluations: int, drawn: int) -> float:
        """Of the time of a training without it."""
        more = steps * self.step_more + evaluations * self.light_more + drawn * self.drawn_more
        return more / (steps * self.step + evaluations * self.evaluation)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.benchmark tensorboard",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", help="a YAML file under configs/")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--steps", type=int, default=5, help="steps that are timed (default: 5)")
    args = parser.parse_intermixed_args(arguments)
    try:
        print(measure(args.config, args.overrides, args.steps))
    except UserError as error:
        sys.exit(f"error: {error}")


def measure(config: str, overrides: list[str], steps: int) -> str:
    """The table as text."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    source = open_source(config, [*overrides, "data.workers=0"], None, None)
    cfg = source.cfg
    if cfg.threads:
        torch.set_num_threads(cfg.threads)
    choose_algorithms(device, one_size=True)
    training, samples = (
        Training(source.build(cfg), batches_of(cfg), cfg, device),
        build_dataset(cfg, cfg.data.train_split),
    )
    training.turn(1, lambda phase: None)
    step = _seconds(partial(training.turn, steps, lambda phase: None), device) / steps
    model = training.detector
    norms, grads = GradientNorms(model), [p.grad for p in model.parameters() if p.grad is not None]
    norms()
    with tempfile.TemporaryDirectory() as folder:
        log = RunLog(Path(folder), cfg.train.log_every)
        of_stages = dict.fromkeys(norms.stages, 1.0)
        logged = Step(0, dict.fromkeys(training.losses, 1.0), {"": 0.1}, 1.0, step, 0.0, of_stages)
        of_norms = _seconds(norms, device, REPEATS) - _seconds(lambda: nn.utils.get_total_norm(grads), device, REPEATS)
        step_more = max(of_norms, 0.0) + _seconds(lambda: log.step(logged), device, REPEATS) / cfg.train.log_every

        data = build_dataset(cfg, cfg.data.val_split)
        judge = Validation(
            eval_loader(data, cfg.eval.batch_size),
            new_evaluator=lambda: Evaluator(data.ground_truth(), data.expected_images, cfg.data.allow_missing),
            protocol=cfg.eval.protocol,
            draw=lambda found: list(draw_samples(found, data, 4, partial(overlay, steps=True)).values()),
            draw_closing=lambda detector: list(draw_closing(detector, data, 2, device).values()),
            every=cfg.train.eval_every,
        )

        def plain() -> None:
            evaluator = judge.new_evaluator()
            with predictor(model, judge.loader) as predict:
                evaluate(predict, judge.loader, [evaluator], device, cfg.train.precision)
            evaluator.score(judge.protocol)

        def scored(draws: bool) -> None:
            judge.score(model, model, device, cfg.train.precision, log, 0, draws)

        plain()
        kinds = (plain, partial(scored, False), partial(scored, True))
        turns = [[_seconds(call, device) for call in kinds] for _ in range(TURNS)]
        evaluation, light, drawn = map(median, zip(*turns, strict=True))
        log.close()
        size = sum(file.stat().st_size for file in Path(folder).iterdir())
    cost = Cost(step, step_more, evaluation, light - evaluation, drawn - light)
    epochs, per_epoch = cfg.train.epochs, -(-len(samples) // (cfg.train.batch_size * training.update.batches))
    ends = [e for e in range(1, epochs + 1) if e % cfg.train.eval_every == 0 or e == epochs]
    many = (epochs * per_epoch, len(ends), sum(judge.draws_after(e, epochs) for e in ends))
    return "\n".join(
        [
            f"a step: {1e3 * cost.step:.1f} ms, {1e3 * cost.step_more:+.3f} ms with TensorBoard",
            f"an evaluation: {1e3 * cost.evaluation:.0f} ms, {1e3 * cost.light_more:+.0f} ms with TensorBoard, "
            f"{1e3 * (cost.light_more + cost.drawn_more):+.0f} ms if it shows images and layers",
            f"{epochs} epochs: {many[0]} steps, {many[1]} evaluations, {many[2]} of them with images and layers: "
            f"{100 * cost.share(*many):.2f} % of the time; one of these is {size / 1024 / TURNS:.0f} KiB of events",
        ]
    )


def _seconds(call: Callable[[], object], device: torch.device, repeats: int = 1) -> float:
    """Of one call."""
    on_gpu = device.type == "cuda"
    clock = time.perf_counter if on_gpu else time.process_time
    if on_gpu:
        torch.cuda.synchronize()
    began = clock()
    for _ in range(repeats):
        call()
    if on_gpu:
        torch.cuda.synchronize()
    return (clock() - began) / repeats
