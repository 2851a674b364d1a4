"""What a resume may change of a run, and what must stay as it was: config keys, classes, data, steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from data import DetectionDataset
from registry import UserError

from ..ranges import leaves
from .fingerprint import fingerprint

# Config keys that a resume may change, and the effect on the run. All others must stay as they were.
MAY_CHANGE = {
    "name": "",  # compared in resume.py
    "out": "",
    "overwrite": "",
    "device": "results agree up to rounding, not bit for bit",
    "threads": "results agree up to rounding, not bit for bit",
    "timeout_minutes": "",
    "data.root": "",
    "data.workers": "",
    "data.cache": "",
    "data.cache_dir": "",
    "data.strict": "",
    "data.allow_missing": "",
    "data.val_split": "",  # this and eval.*: the best score starts anew, see `judged_by`
    "eval.protocol": "",
    "eval.batch_size": "",
    "eval.rectangular": "",
    "eval.T": "",
    "eval.score_threshold": "",
    "eval.nms_iou": "",
    "eval.max_detections": "",
    "data.test_split": "",
    "train.epochs": "",  # what it does to the rate is said by `extension`
    "train.batch_size": "the samples of a step are split otherwise, so that BatchNorm sees other batches",
    "train.accumulate": "the samples of a step are split otherwise, so that BatchNorm sees other batches",
    "train.checkpoint": "",
    "train.pack_spikes": "",
    "train.compile": "results agree up to rounding, not bit for bit",
    "train.channels_last": "results agree up to rounding, not bit for bit",
    "train.distill": "",  # the place of the teacher, whose weights are compared: `teacher` in COMPARED
    "train.eval_every": "",
    "train.keep_every": "",
    "train.patience": "",
    "train.save_minutes": "",
    "train.max_hours": "",
    "train.log_every": "",
}

# Entries of a checkpoint, beside its config, that a resume may not change.
COMPARED = ("model_kwargs", "class_names", "data", "samples_per_step", "steps_per_epoch", "teacher")


def data_facts(dataset: DetectionDataset) -> dict[str, Any]:
    """Samples, boxes and fingerprint of a labelled split, independent of where it is stored."""
    truth = dataset.ground_truth()
    return {"samples": len(dataset), "boxes": len(truth["annotations"]), "fingerprint": fingerprint(truth)}


def judged_by(config: Mapping[str, Any], validation: Mapping[str, Any]) -> dict[str, Any]:
    """What a best score depends on besides the weights. Scores are compared only if all of it is equal."""
    return {
        "split": config["data"]["val_split"],
        **{key: value for key, value in config["eval"].items() if key != "batch_size"},
        **validation,
    }


def changed_config(saved: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """One line for each key that a resume changes in the config of a run. UserError for keys that may not change."""
    before, after = dict(leaves(saved)), dict(leaves(now))
    lines, refused = [], []
    for key in dict.fromkeys([*before, *after]):
        was, is_ = before.get(key), after.get(key)
        if was == is_:
            continue
        if (effect := MAY_CHANGE.get(key.partition("[")[0])) is None:
            refused.append(_change(key, was, is_))
        elif key not in ("name", "out", "overwrite"):
            lines.append(_change(key, was, is_) + (f": {effect}" if effect else ""))
    refuse(refused)
    return lines


def differing_keys(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Keys in which two configs differ, each with both values, except name and place of the run."""
    a, b = dict(leaves(one)), dict(leaves(other))
    keys = [key for key in dict.fromkeys([*a, *b]) if key not in ("name", "out", "overwrite")]
    return [f"{key} ({_short(a.get(key))}, here {_short(b.get(key))})" for key in keys if a.get(key) != b.get(key)]


def compare(saved: Mapping[str, Any], now: Mapping[str, Any], what: str = "") -> list[str]:
    """One line for each differing entry of two nested mappings. Entries of only one are not compared."""
    lines = []
    for key in saved.keys() & now.keys():
        was, is_ = saved[key], now[key]
        if isinstance(was, Mapping) and isinstance(is_, Mapping):
            lines += compare(was, is_, f"{what}{key} ")
        elif was != is_:
            lines.append(_change(f"{what}{key}", was, is_))
    return sorted(lines)


def refuse(changes: list[str]) -> None:
    if changes:
        raise UserError(
            f"cannot resume: {'; '.join(changes)}. Revert that, or start a new run, from these weights with "
            "train.init_from"
        )


def same_judge(content: Mapping[str, Any], judged_by: Mapping[str, Any]) -> list[str]:
    """Why the best score of a checkpoint is not comparable with scores `judged_by`; [] if it is."""
    judge = content.get("judged_by")
    if judge is None:  # of an earlier version
        config = content["config"]
        judge = {"protocol": config["eval"]["protocol"], "split": config["data"]["val_split"]}
    changes = compare(judge, judged_by)
    return [f"the best score starts anew: {'; '.join(changes)}"] if changes else []


def extension(before: int, now: int, epoch: int, rate: float, new_rate: float) -> str:
    """The line for a changed train.epochs. rate, new_rate: learning rate of the next step, before and after."""
    return (
        f"train.epochs changed from {before} to {now}: the schedule is that of {now} epochs, so that the rate, planned "
        f"as {rate:.2g} after epoch {epoch}, is {new_rate:.2g}"
    )


def _change(what: str, was: Any, is_: Any) -> str:
    return f"{what} changed from {_short(was)} to {_short(is_)}"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 200 else f"{text[:200]}..."
