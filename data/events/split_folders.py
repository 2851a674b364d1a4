"""Which folders make a split, where published code trains or scores on other ones than their names say."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from registry import UserError, none_of

from ..dataset import MissingSplit

# Which folders make a split; a split or a name that is not here is read from the folder of its name.
SPLITS: dict[str, dict[str, list[str]]] = {
    "folders": {},
    "spikeyolo": {"val": ["test"]},
    "eas_snn": {"train": ["train", "val"], "val": ["test"]},
}
_FORMER = {"rvt": "folders", "ems_yolo": "folders"}  # names that configs of earlier versions have


def split_folders(splits: str | Mapping[str, Any], split: str) -> list[str]:
    """Folders that make `split`: as `splits` says, a name of `SPLITS` or {split: folder or list of them}; else those
    that its name joins by "+"."""
    if isinstance(splits, str):
        splits = _FORMER.get(splits, splits)
        if splits not in SPLITS:
            raise UserError(none_of(f"splits = {splits!r}", splits, SPLITS) + ", or give {split: folders}")
        splits = SPLITS[splits]
    given = splits.get(split, split.split("+"))
    folders = list(given) if isinstance(given, list | tuple) else [given]
    if not folders or not all(isinstance(folder, str) and folder.strip() for folder in folders):
        raise UserError(f"splits: {split} = {given!r}: give the name of a folder, or a list of names")
    return list(dict.fromkeys(folder.strip() for folder in folders))


def missing_folder(folder: Path) -> MissingSplit:
    """For a folder of a split that is not there; names a `root` near by that has it."""
    root, split = folder.parent, folder.name
    near = [root.parent, *(sorted(root.iterdir()) if root.is_dir() else [])]
    found = next((f", did you mean root = {path}?" for path in near if (path / split).is_dir()), ".")
    return MissingSplit(f"{folder}: no such folder{found} `root` holds a folder per split: train, val, test")
