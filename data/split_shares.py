"""Random splits of one folder by shares (`SplitShares`), which depend on file names and a seed alone."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from registry import UserError, none_of

from .dataset import MissingSplit
from .type_checks import is_number

ADVICE = "data.splits={train: 0.8, val: 0.1, test: 0.1} makes splits of one folder"


@dataclass(frozen=True)
class SplitShares:
    """Assigns names to splits.

    shares: {split: share}, in order; they sum up to at most 1
    seed:   of the order of the names
    group:  names that stay in one split: "folder", those of one folder; or a regular expression, those with the same
            first group (or the same match, if it has no groups)

    Groups are ordered by a hash of seed and group, so the result depends on neither the machine nor the order of files.
    The splits are consecutive parts of this order, so adding names moves few others.
    """

    shares: dict[str, float]
    seed: int = 0
    group: str | None = None

    def choose(self, split: str, names: Sequence[str]) -> list[str]:
        """The `names` (paths with "/") in `split`, sorted."""
        if split not in self.shares:
            raise MissingSplit(none_of(f"`splits` has no split {split!r}", split, self.shares))
        groups: dict[str, list[str]] = {}
        for name in names:
            groups.setdefault(self._group_of(name), []).append(name)
        order = sorted(groups, key=lambda name: hashlib.blake2b(f"{self.seed}/{name}".encode()).digest())
        parts = self._cut([len(groups[name]) for name in order])
        return sorted(name for k in parts[split] for name in groups[order[k]])

    def choose_files(self, split: str, paths: Sequence[str], root: Path) -> list[str]:
        """The `paths` in `split`, by their names relative to `root`, in order. ValueError where there are none."""
        names = {path: Path(os.path.relpath(path, root)).as_posix() for path in paths}
        chosen = set(self.choose(split, sorted(set(names.values()))))
        if paths and not chosen:
            value = f"its share of the {len(paths)} labelled images below {root} is none"
            raise UserError(f"split {split!r}: {value}. Give it a larger one in `splits`, or smaller groups")
        return [path for path in paths if names[path] in chosen]

    def _group_of(self, name: str) -> str:
        if self.group is None:
            return name
        if self.group == "folder":
            return name.rpartition("/")[0]
        if (match := re.search(self.group, name)) is None or (key := match[1 if match.re.groups else 0]) is None:
            remedy = "Write a regular expression that fits every name, or `folder`"
            raise UserError(f"split_group = {self.group!r} does not fit {name!r}. {remedy}")
        return key

    def _cut(self, sizes: list[int]) -> dict[str, list[int]]:
        """Indices of the groups of each split, from the `sizes` of the groups in order. A group belongs to the split
        that contains its middle. Every share above 0 gets at least one group, where there are as many as splits."""
        total, before, edges = sum(sizes), 0.0, []
        for share in self.shares.values():
            edges.append((round(before * total), round((before + share) * total)))
            before += share
        parts: dict[str, list[int]] = {name: [] for name in self.shares}
        start = 0
        for k, size in enumerate(sizes):
            middle = start + (size - 1) // 2
            for name, (first, end) in zip(parts, edges, strict=True):
                if first <= middle < end:
                    parts[name].append(k)
            start += size
        for name, share in self.shares.items():
            largest = max(parts.values(), key=len)
            if share > 0 and not parts[name] and len(largest) > 1:
                parts[name].append(largest.pop())
        return parts


def split_shares(splits: Any, seed: int = 0, group: str | None = None) -> SplitShares:
    """`SplitShares` from a config's {split: share}. ValueError for anything else."""
    good = isinstance(splits, Mapping) and splits and all(is_number(s) and s >= 0 for s in splits.values())
    if not good or not 0 < sum(splits.values()) <= 1 + 1e-9:
        remedy = "give shares of at least 0 that sum up to 1, as in {train: 0.8, val: 0.1, test: 0.1}"
        raise UserError(f"splits = {splits}: {remedy}")
    if group is not None:
        try:
            re.compile(group)
        except (re.error, TypeError) as error:
            remedy = "Give `folder`, or a regular expression"
            raise UserError(f"split_group = {group!r}: no regular expression: {error}. {remedy}") from error
    return SplitShares({str(name): float(share) for name, share in splits.items()}, seed, group)
