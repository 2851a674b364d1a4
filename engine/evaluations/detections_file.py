"""Score the detections in a file, without a model, and write their folder."""

from __future__ import annotations

import os
from typing import Any

from registry import UserError
from scoring.detections import read_detections, read_truth
from scoring.evaluator import Evaluator
from scoring.truth_check import check_truth

from ..config import config_from_plain, load_config
from ..runs.checkpoint import checkpoint_in, load_checkpoint
from ..runs.evaluation_folder import check_free, evaluation_name, new_files
from ..runs.fingerprint import check_same_data, describe
from ..runs.provenance import provenance
from .breakdown import break_down
from .files import plot, print_table, write_json, write_report
from .options import Options
from .request import seen_from
from .subject import dataset_of

CHECKPOINTS = (".pt", ".safetensors")  # other files are configs


def score_file(asked: Options) -> dict[str, Any]:
    """Score the detections in a file, without a model."""
    assert asked.detections is not None
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise UserError("--detections runs no model, and needs one process: start it with python, not torchrun")
    asked.refuse_of_models()
    truth, expected, name, split, protocol = _truth(asked)
    for line in check_truth(protocol, truth, split):
        print(line)
    found = read_detections(asked.detections, truth)
    data = describe(truth, split)
    data["checked"] = check_same_data(asked.detections, data)

    out = asked.out or asked.detections.with_name(evaluation_name([asked.detections.stem, name, protocol]))
    request = {
        "detections": seen_from(out, asked.detections),
        "truth": data["fingerprint"],
        "protocol": protocol,
    }
    earlier = check_free(out, request)
    evaluator = Evaluator(truth, expected)
    evaluator.add_results(found)
    metrics = {**evaluator.score(protocol), "split": split, "detections": str(asked.detections), "data": data}
    breakdown = break_down(evaluator, protocol, asked.pictures) if asked.broken_down else None
    metrics |= breakdown.brief() if breakdown else {}
    metrics |= {"request": request, "provenance": provenance(asked.command)}
    with new_files(out) as folder:
        if breakdown:
            write_json(folder / "breakdown.json", breakdown.content)
        if breakdown and asked.plots:
            plot(evaluator, breakdown, metrics, asked.detections.name, folder)
        write_json(folder / "metrics.json", metrics)
        if breakdown:
            write_report(folder)
    print_table(metrics, earlier, out)
    return metrics


def _truth(asked: Options) -> tuple[dict[str, Any], int, str, str, str]:
    """(COCO dict, images that the labels list, its name in the folder's, split, protocol)."""
    if asked.truth:
        if asked.checkpoint or asked.overrides or asked.split:
            raise UserError("--truth is all the truth there is: leave out the config, its overrides and --split")
        truth = read_truth(asked.truth)
        return truth, len(truth["images"]), asked.truth.stem, str(asked.truth), asked.protocol or "coco"
    if not asked.checkpoint:
        raise UserError("--detections needs a truth: add --truth annotations.json, or a config whose dataset has it")
    if (path := checkpoint_in(asked.checkpoint)).suffix in CHECKPOINTS:
        cfg = config_from_plain(load_checkpoint(path)["config"], asked.overrides)
    else:
        cfg = load_config(asked.checkpoint, asked.overrides)
    split = asked.split or cfg.data.test_split
    # A missing recording would shift the image ids of all later ones.
    dataset = dataset_of(cfg, split, allow_missing=False)
    return dataset.ground_truth(), dataset.expected_images, split, split, asked.protocol or cfg.eval.protocol
