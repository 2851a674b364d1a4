"""Run folders: a new one per run, or the one to resume."""

from __future__ import annotations

import re
import shutil
from pathlib import Path


def new_run_folder(out: str, name: str, overwrite: bool = False) -> Path:
    """<out>/<name>, or <name>-2, <name>-3 ... where that exists. With `overwrite` an earlier run of that name goes."""
    earlier = Path(out) / name
    if overwrite and earlier.exists():
        if any(earlier.iterdir()) and not (earlier / "config.yaml").is_file():
            raise ValueError(f"{earlier}: not overwritten, it has no config.yaml of a run; choose another name")
        shutil.rmtree(earlier)
    for suffix in ["", *(f"-{i}" for i in range(2, 10_000))]:
        folder = Path(out) / f"{name}{suffix}"
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            continue
    raise ValueError(f"{out}: too many runs named {name}")


def run_to_resume(out: str, name: str, given: str) -> Path:
    """The folder of `given` (a run folder, or a checkpoint in it), or with "" the last run of this name."""
    if given and Path(given).is_file() and Path(given).name != "checkpoint_last.pt":
        raise ValueError(
            f"{given}: a run resumes from its checkpoint_last.pt; to start from other weights: train.init_from"
        )
    if given:
        folder = Path(given).parent if Path(given).is_file() else Path(given)
    else:
        runs = [p for p in Path(out).glob(f"{name}*") if re.fullmatch(rf"{re.escape(name)}(-\d+)?", p.name)]
        runs = [p for p in runs if (p / "checkpoint_last.pt").exists()]
        if not runs:
            raise ValueError(f"{out}: no run named {name} with a checkpoint_last.pt to resume; start without --resume")
        folder = max(runs, key=lambda p: (p / "checkpoint_last.pt").stat().st_mtime)
    if not (folder / "checkpoint_last.pt").is_file():
        raise ValueError(f"{folder}: no checkpoint_last.pt to resume from")
    return folder
