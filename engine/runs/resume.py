"""How train.py starts: a new run, or a resumed one with its saved config and those overrides that may change."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import DictConfig

from registry import UserError

from ..best_score import BestScore
from ..config import config_from_plain, config_to_plain, load_config
from .files import run_name
from .folder import check_new_run, run_to_continue, run_to_resume
from .identity import changed_config, differing_keys
from .newest import open_newest, resumable
from .step_samples import keep_samples


@dataclass
class Start:
    """folder: None for a new run. checkpoint: None to start at the first epoch. epochs: `train.epochs` before this
    command. finished: nothing is left to train. say: lines for the user."""

    cfg: DictConfig
    folder: Path | None = None
    checkpoint: Path | None = None
    epochs: int = 0
    finished: bool = False
    say: list[str] = field(default_factory=list)


def own_config(resume: str | None) -> str:
    """The config of a command without one: that of the run to resume. UserError where no run is named."""
    if resume in (None, "", "auto"):
        raise UserError("train.py needs a config, as configs/demo.yaml, or a run to continue: --resume runs/demo")
    path = Path(str(resume)).expanduser()
    config = (path.parent if path.is_file() else path) / "config.yaml"
    if not config.is_file():
        raise UserError(f"{config}: no such file, so {resume} is not a run to continue without a config")
    return str(config)


def plan_start(cfg: DictConfig, overrides: list[str], resume: str | None, source: str) -> Start:
    """Plan the command `train.py source overrides --resume`. resume: None without that option; "" for the last run of
    this name; "auto" for the last run if there is one, else a new run; or the path of a run.

    `cfg` is the config `source` with `overrides`. A resumed run keeps its own config, except for overrides of keys that
    may change (`identity.MAY_CHANGE`). UserError for other keys, and if there is nothing to resume.
    """
    writes = int(os.environ.get("RANK", 0)) == 0  # the other processes' machines may not have `out`
    if resume is None:
        if restarts := int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", 0)):
            raise UserError(
                f"torchrun --max-restarts={restarts} starts train.py again with the same arguments, which would be a "
                "new run: add --resume auto, so that it continues"
            )
        if writes:
            check_new_run(cfg.out, cfg.name, cfg.overwrite)
        return Start(cfg)
    given = {override.partition("=")[0] for override in overrides}
    if "overwrite" in given:
        raise UserError("overwrite=... is for a new run: leave out either that or --resume")
    if resume == "auto":
        if writes:
            check_new_run(cfg.out, cfg.name)
        folder, found = run_to_continue(cfg.out, cfg.name)
        if folder is None or not found:
            return Start(cfg, folder, say=[] if folder is None else [_starts_over(folder)])
    else:
        folder = run_to_resume(cfg.out, cfg.name, resume)
    if "name" in given and run_name(folder) not in (cfg.name, None):
        raise UserError(
            f"name={cfg.name}: {folder} is named {run_name(folder)}, and a run keeps its name; leave that out"
        )
    if not resumable(folder):
        own = folder / "config.yaml"
        return Start(load_config(own, overrides) if own.is_file() else cfg, folder, say=[_starts_over(folder)])
    return _continue(folder, cfg, overrides, source)


def _starts_over(folder: Path) -> str:
    return f"{folder}: ended before its first checkpoint, starts over"


def _continue(folder: Path, asked: DictConfig, overrides: list[str], source: str) -> Start:
    checkpoint, content, damaged = open_newest(folder)
    saved = config_to_plain(config_from_plain(content["config"]))
    overrides = [override for override in overrides if override != "train.batch_size=auto"]  # it has been found
    cfg = config_from_plain(content["config"], overrides)
    keep_samples(cfg, content, {o.partition("=")[0] for o in overrides}, int(os.environ.get("WORLD_SIZE", 1)), folder)
    own, trained, epochs = config_to_plain(cfg), content["epoch"], saved["train"]["epochs"]
    within = content.get("batch", 0)
    try:
        say = damaged + changed_config(saved, own)
    except ValueError as error:
        raise UserError(f"{folder}: {error}") from error
    if cfg.train.epochs < trained + (within > 0):
        part = f" and {within} batches of the next" if within else ""
        raise UserError(
            f"train.epochs = {cfg.train.epochs}: {folder} has trained {trained} epochs{part} already; give more"
        )
    if others := differing_keys(config_to_plain(asked), own):
        say.append(
            f"a resumed run keeps its own config, from which {source} differs in {', '.join(others)}. What may change "
            "(docs/runs.md) is changed on the command line"
        )
    best = BestScore(cfg.train.patience)
    best.restore({"best": -1.0, **content})
    complete, gave_up = cfg.train.epochs == trained, best.exhausted and not within
    finished = (complete or gave_up) and content.get("scored", True)
    if finished and complete:
        score = f", best score {best.value:.3f} ({cfg.eval.protocol}, {cfg.data.val_split})" if best.value >= 0 else ""
        say.append(
            f"{folder} is finished: {trained} of {trained} epochs trained{score}. To train it longer: "
            f"train.epochs={2 * trained} --resume {folder}; the rate then follows the schedule of {2 * trained} epochs"
        )
    elif finished:
        say.append(
            f"{folder} is finished: {best.text(trained, cfg.train.epochs)}. To train it longer: train.patience=null "
            f"--resume {folder}, or more than {best.waited}"
        )
    return Start(cfg, folder, checkpoint, epochs, finished, say)
