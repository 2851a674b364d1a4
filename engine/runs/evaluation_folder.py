"""Folders of evaluations: their name, the check before files are replaced, and the replacement of all at once."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from data.atomic_file import remove_partial_files, write_atomically
from registry import UserError

from .files import DRAWN, METRICS, PICTURES, SCORED


def evaluation_name(parts: Sequence[str]) -> str:
    """["test", "coco", "best", "data.size=[64, 96]"] -> "test_coco_best_data.size=64-96-<digest>".

    Characters that are unsafe in file names become "-". A name that was changed or cut gets a digest, to stay unique.
    """
    exact = "_".join(parts)
    name = re.sub(r"[^\w.=+-]+", "-", exact, flags=re.ASCII).strip("-.")[:100]
    return name if name == exact else f"{name}-{hashlib.sha256(exact.encode(errors='replace')).hexdigest()[:8]}"


def option(key: str, value: Any) -> str:
    """Text `key=value`, the value as JSON unless it is a str."""
    return f"{key}={value if isinstance(value, str) else json.dumps(value)}"


def check_free(folder: Path, request: Mapping[str, Any]) -> dict[str, Any] | None:
    """The metrics that an evaluation of the same `request` left in `folder`, which a new one replaces, or None.

    UserError if other files, or those of another evaluation, would be overwritten.
    """
    remedy = "Name another folder with --out"
    if (folder / METRICS).exists():
        earlier = _read(folder / METRICS)
        if "request" not in earlier:
            raise UserError(
                f"{folder / METRICS}: does not say what was evaluated. Remove it, or name another folder with --out"
            )
        if earlier["request"] != json.loads(json.dumps(request)):
            other = {k: v for k, v in earlier["request"].items() if v != request.get(k)}
            raise UserError(f"{folder}: holds another evaluation ({json.dumps(other)[:300]}). {remedy}")
        return earlier
    if written := _written(folder):
        raise UserError(
            f"{written[0]}: would be overwritten, and no {METRICS} says that an evaluation wrote it. {remedy}"
        )
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file. {remedy}")
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not os.access(existing, os.W_OK):
        raise UserError(f"{existing}: is not writable. {remedy}")
    return None


def write_unfinished(
    folder: Path, request: Mapping[str, Any], files: Mapping[str, str | Callable[[Path], object]]
) -> None:
    """Write `files` {name: content} of an evaluation that is still running, each atomically.

    metrics.json then says `incomplete`, so that the same evaluation may replace them. Call `check_free` before.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stub = {"incomplete": "evaluate.py has not come to its end: run it again", "request": request}
    write_atomically(folder / METRICS, json.dumps(stub) + "\n")
    for name, content in files.items():
        assert name in SCORED, f"evaluations write {name}, which engine.runs.files does not list"
        write_atomically(folder / name, content)


@contextmanager
def new_files(folder: Path) -> Iterator[Path]:
    """A folder to write `files.SCORED`, images and metrics.json into, which then replace those of an earlier evaluation
    in `folder`.

    While files are replaced, metrics.json holds `incomplete` and no scores, so that a crash cannot leave scores beside
    files of other weights. Call `check_free` before. UserError if the files cannot be written.
    """
    partial = folder / ".partial"
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        yield partial
        lost = {path for path in partial.rglob("*") if path.is_file()} - {partial / METRICS, *_written(partial)}
        assert not lost, f"evaluations write {sorted(lost)}, which engine.runs.files does not list"
        request = json.loads((partial / METRICS).read_text())["request"]
        stub = {"incomplete": "evaluate.py was stopped while it wrote: run it again", "request": request}
        write_atomically(folder / METRICS, json.dumps(stub) + "\n")
        for old in _written(folder):
            old.unlink()
        for new in _written(partial):
            (folder / new.relative_to(partial)).parent.mkdir(exist_ok=True)
            os.replace(new, folder / new.relative_to(partial))
        os.replace(partial / METRICS, folder / METRICS)
        remove_partial_files(folder)
    except OSError as error:
        raise UserError(f"{folder}: the result cannot be written: {error}. Name another folder with --out") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _written(folder: Path) -> list[Path]:
    """Files of evaluations in `folder`, without metrics.json."""
    drawn = (path for kind in DRAWN for path in folder.glob(f"{PICTURES}/{kind}_*.png"))
    return [*(folder / name for name in SCORED if (folder / name).exists()), *drawn]


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
