"""Problems of a dataset (`Problem`, `Problems`): bad records, collected with file, record, value and remedy."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from registry import UserError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Problem:
    """One bad record. `kind` is a short fixed phrase ("zero-area box"), `record` says which one inside `file`."""

    kind: str
    file: str | Path
    record: str
    value: object
    remedy: str
    fatal: bool = False

    def __str__(self) -> str:
        where = f"{self.file}: {self.record}" if self.record else str(self.file)
        return f"{where}: {self.kind}: {self.value}. {self.remedy}"


class Problems:
    """Collects problems while a dataset is read.

    A fatal problem raises `ValueError` at once, unless `collect`: `data.check` then reports all of them together.
    Other problems are recorded: the record was dropped or repaired as the remedy says. `summary()` counts them.
    `strict` makes every problem fatal.
    """

    def __init__(self, collect: bool = False, strict: bool = False):
        self.collect = collect
        self.strict = strict
        self.items: list[Problem] = []

    def add(self, problem: Problem) -> None:
        if problem.fatal and not self.collect:
            raise UserError(str(problem))
        if self.strict and not self.collect:
            raise UserError(f"{problem}, but strict was asked for: correct the record, or unset data.strict")
        self.items.append(problem)

    def replace(self, problem: Problem) -> None:
        """Add `problem`, and remove earlier ones of the same kind and file, which were based on less data."""
        self.items = [p for p in self.items if (p.kind, str(p.file)) != (problem.kind, str(problem.file))]
        self.add(problem)

    def counts(self) -> Counter[str]:
        return Counter(p.kind for p in self.items)

    def summary(self, first: int = 3) -> str:
        """One line per kind with its count, then the first few records of it."""
        lines = []
        for kind, count in self.counts().most_common():
            lines.append(f"{count} x {kind}")
            lines += [f"    {p}" for p in [p for p in self.items if p.kind == kind][:first]]
        return "\n".join(lines)
