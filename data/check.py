"""Check a dataset before a training: statistics of its splits and all problems (`python -m data.check CONFIG`)."""

from __future__ import annotations

import hashlib
import os
import runpy
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from .dataset import DetectionDataset, MissingSplit
from .events.window_dataset import WindowDataset
from .images.dataset import ImageDataset, read_record
from .images.record import Record
from .problems import Problem, Problems
from .recordings import Tally
from .registry import create_dataset
from .statistics import SplitReport, class_table, count_split, report_unlearnt, split_table


@dataclass
class CheckReport:
    splits: dict[str, SplitReport] = field(default_factory=dict)
    absent: list[str] = field(default_factory=list)
    problems: Problems = field(default_factory=lambda: Problems(collect=True))

    @property
    def fatal(self) -> list[Problem]:
        return [problem for problem in self.problems.items if problem.fatal]

    def __str__(self) -> str:
        parts = [split_table(self.splits), class_table(self.splits)] if self.splits else []
        parts += [f"no split {name!r}" for name in self.absent]
        for title, fatal in (("WOULD STOP A TRAINING", True), ("repaired, dropped, or worth a look", False)):
            some = Problems(collect=True)
            some.items = [problem for problem in self.problems.items if problem.fatal == fatal]
            if some.items:
                parts.append(f"{title}: {len(some.items)}\n{some.summary()}")
        return "\n\n".join(parts if self.problems.items else [*parts, "nothing wrong was found"])


def check_dataset(
    name: str,
    splits: Sequence[str],
    /,
    *,
    fast: bool = False,
    optional: Sequence[str] = (),
    judge: Callable[[dict[str, Any], str], list[str]] | None = None,
    create: Callable[..., DetectionDataset] | None = None,
    **kwargs: Any,
) -> CheckReport:
    """Read all `splits` of the dataset `name` (its constructor's arguments in `kwargs`), and every file unless `fast`.

    Bad data raises nothing: it is in the report. The first split is the one to train on.

    optional: splits that may be absent
    judge:    (ground truth, split) -> sentences on what cannot be scored there; ValueError where that stops a training
              (`scoring.truth_check.check_truth`). Called for each split but the first
    create:   (split, problems=...) -> dataset; None: `create_dataset` with `name` and `kwargs`
    """
    report = CheckReport()
    problems = report.problems
    classes: dict[str, list[str]] = {}
    files: dict[str, list[Path]] = {}
    unreadable: dict[str, list[str]] = {}  # splits by error message: bad options give the same message for all splits
    create = create or partial(create_dataset, name, **kwargs)
    for split in dict.fromkeys(splits):
        try:
            dataset = create(split, problems=problems)
        except ValueError as error:
            if isinstance(error, MissingSplit) and split in optional:
                report.absent.append(split)
            else:
                unreadable.setdefault(_without_split(str(error), split), []).append(split)
            continue
        report.splits[split] = count_split(dataset, problems)
        if judge and split != splits[0]:
            _judge(judge, dataset, split, problems)
        classes[split], files[split] = dataset.class_names, _files(dataset)
        if not fast:
            report.splits[split].recordings = _read_files(dataset, files[split], problems)
    for what, names in unreadable.items():
        where = f"split{'s' if len(names) > 1 else ''} {', '.join(map(repr, names))}"
        remedy = "The rest of it was not checked"
        problems.add(Problem("unreadable split", where, "", what, remedy, fatal=True))
    if (training := next(iter(splits), "")) in report.splits:
        report_unlearnt(report.splits, training, problems)
    _compare_files(files, problems, fast)
    if len({tuple(names) for names in classes.values()}) > 1:
        remedy = "A model has one list of classes: correct the labels, or name the classes in the config"
        problems.add(Problem("classes differ between splits", name, "", classes, remedy, fatal=True))
    return report


def _judge(
    judge: Callable[[dict[str, Any], str], list[str]], dataset: DetectionDataset, split: str, problems: Problems
) -> None:
    try:
        for what in judge(dataset.ground_truth(), split):
            remedy = "Add labels, or leave the class out"
            problems.add(Problem("nothing to score", f"split {split!r}", "", _without_split(what, split), remedy))
    except ValueError as error:
        what, remedy = _without_split(str(error), split), "No AP can be computed"
        problems.add(Problem("protocol that fits no truth", f"split {split!r}", "", what, remedy, fatal=True))


def _files(dataset: DetectionDataset) -> list[Path]:
    if isinstance(dataset, ImageDataset):
        return [Path(record.path) for record in dataset.records]
    return list(dict.fromkeys(dataset.recordings)) if isinstance(dataset, WindowDataset) else []


def _without_split(message: str, split: str) -> str:
    """`message` without its prefix "split 'val': "."""
    rest = message.removeprefix(f"split {split!r}")
    return message if rest == message else rest.lstrip(".,: ")


def _read_files(dataset: DetectionDataset, files: list[Path], problems: Problems) -> list[Tally]:
    """Decode every image, or read every event. Returns the tallies of event recordings."""
    if isinstance(dataset, ImageDataset):
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for record, error in zip(dataset.records, pool.map(_look_at, dataset.records), strict=True):
                if error:
                    dataset.report_unreadable(record.path, error)
    elif isinstance(dataset, WindowDataset):
        return [tally for file in files if (tally := dataset.audit(file, problems))]
    return []


def _look_at(record: Record) -> str:
    """The error of decoding an image; "" where there is none."""
    try:
        read_record(record)
    except ValueError as error:
        return str(error)
    return ""


def _compare_files(files: dict[str, list[Path]], problems: Problems, fast: bool) -> None:
    """Report duplicate files: in two splits they leak training data into the test, in one split they count double."""
    first: dict[Any, tuple[str, Path]] = {}
    for split, paths in files.items():
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            prints = list(pool.map(_name_and_size if fast else _content, paths))
        for path, key in zip(paths, prints, strict=True):
            other, twin = first.setdefault(key, (split, path))
            if twin is path:
                continue
            what = "same name and length" if fast else "same content"
            if other != split:
                remedy = f"Keep it in one of them: scores on {split!r} are not those of unseen data"
                problems.add(Problem("same file in two splits", path, f"split {split!r}", f"{what} as {twin}", remedy))
            elif not fast:  # names may well repeat in the folders of one split
                problems.add(Problem("same file again in a split", path, "", f"{what} as {twin}", "It counts double"))


def _name_and_size(path: Path) -> Any:
    return path.name, path.stat().st_size


def _content(path: Path) -> Any:
    """Size and a digest of the first MiB: different recordings differ there."""
    with open(path, "rb") as file:
        return path.stat().st_size, hashlib.blake2b(file.read(1 << 20)).digest()


if __name__ == "__main__":  # python -m data.check: check.py reads configs, which this package must not import
    runpy.run_path(str(Path(__file__).parent.parent / "check.py"), run_name="__main__")
