"""Splits of one's own: shares of what a folder holds, drawn by name alone."""

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
    """shares: of each split, in order; they sum up to at most 1
    seed:   of the order in which the splits are cut
    group:  keeps names together: "folder", those of one folder; or a regular expression, those for which its first
            group (without groups: what it matches) is the same

    The order is that of a hash of seed and group, so it depends on neither the machine nor the order of files. Splits
    are cut from it one after the other, so added names move only few of the others, at the cuts.
    """

    shares: dict[str, float]
    seed: int = 0
    group: str | None = None

    def choose(self, split: str, names: Sequence[str]) -> list[str]:
        """Those of `names` (paths with "/") that are in `split`, sorted."""
        if split not in self.shares:
            raise MissingSplit(none_of(f"`splits` has no split {split!r}", split, self.shares))
        groups: dict[str, list[str]] = {}
        for name in names:
            groups.setdefault(self._group_of(name), []).append(name)
        order = sorted(groups, key=lambda name: hashlib.blake2b(f"{self.seed}/{name}".encode()).digest())
        parts = self._cut([len(groups[name]) for name in order])
        return sorted(name for k in parts[split] for name in groups[order[k]])

    def choose_files(self, split: str, paths: Sequence[str], root: Path) -> list[str]:
        """Those of `paths` that are in `split` by their names below `root`, in order. ValueError where none is."""
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
        """Numbers of the groups, whose `sizes` are given in order, for each split: a group is where its middle is. A
        share above 0 gets one group at least, where there are as many as splits."""
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
    """`SplitShares` of what a user wrote, {split: share}. ValueError where it makes no sense."""
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
