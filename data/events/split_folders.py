"""Map splits to folders (`split_folders`), with the mappings of published code, e.g. validation on the test folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from registry import UserError, none_of

from ..dataset import MissingSplit

# {name: {split: folders}}; splits that are not listed are read from the folder of their name.
SPLITS: dict[str, dict[str, list[str]]] = {
    "folders": {},
    "spikeyolo": {"val": ["test"]},
    "eas_snn": {"train": ["train", "val"], "val": ["test"]},
}
_FORMER = {"rvt": "folders", "ems_yolo": "folders"}  # names that configs of earlier versions have


def split_folders(splits: str | Mapping[str, Any], split: str) -> list[str]:
    """Folders of `split`. splits: a name of `SPLITS`, or {split: folder or list of folders}; for a split that is not in
    it, the folders that its name joins by "+"."""
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
    """The error for an absent folder of a split; it suggests a nearby `root` that has it."""
    root, split = folder.parent, folder.name
    near = [root.parent, *(sorted(root.iterdir()) if root.is_dir() else [])]
    found = next((f", did you mean root = {path}?" for path in near if (path / split).is_dir()), ".")
    return MissingSplit(f"{folder}: no such folder{found} `root` holds a folder per split: train, val, test")
