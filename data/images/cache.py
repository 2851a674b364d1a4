"""Decoded images kept in one file that all workers share, in memory or on disk: decoding is most of their work.

The sizes of all images are known from the labels, so each has its place in the file from the start. Whoever decodes
an image first writes it there: the pixels, then a mark made of their checksum. A place whose mark does not fit its
pixels counts as empty, so a file that is cut short, half-written or damaged costs time and never gives wrong pixels.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from multiprocessing import context, reduction
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torchvision

from registry import UserError

from ..atomic_file import write_atomically

VERSION = 1  # of what decoding gives: raise it when the same file would become other pixels
_MARK = 8  # bytes
_OPEN: weakref.WeakSet[ImageCache] = weakref.WeakSet()  # of this process, which fill up while it runs


class ImageCache:
    """Images uint8 [H, W, 3] of the given `shapes` (height, width), by number.

    path: the file, made where it is absent; None: memory, which is given back when the last process that uses it ends.
          Forked and spawned workers share it; any other pickle of it becomes an empty one.
    """

    def __init__(self, shapes: Sequence[tuple[int, int]], path: Path | None):
        self._shapes = np.array(shapes, np.int64).reshape(-1, 2)
        self._starts = np.concatenate([[0], np.cumsum(_MARK + 3 * self._shapes.prod(1))])
        self._path = path
        self._use(_memory() if path is None else os.open(path, os.O_RDWR | os.O_CREAT, 0o644))

    def _use(self, file: int) -> None:
        self._file = file
        weakref.finalize(self, os.close, file)

    def read(self, index: int) -> np.ndarray | None:
        """Image `index`, a copy that may be changed; None where it is not there yet."""
        mark, pixels = np.zeros(1, "<u8"), np.empty((*self._shapes[index], 3), np.uint8)
        whole = os.preadv(self._file, [mark.data, pixels.data], int(self._starts[index])) == _MARK + pixels.nbytes
        return pixels if whole and mark[0] == _mark(pixels) else None

    def write(self, index: int, image: np.ndarray) -> None:
        """Keep image `index`, of its shape. ValueError where there is no room."""
        assert image.shape == (*self._shapes[index], 3) and image.dtype == np.uint8
        start = int(self._starts[index])
        # By calls and not through a memory map, where a full disk would end the process without a word.
        try:
            self._write(image, start + _MARK)
            self._write(np.array([_mark(image)], "<u8"), start)
        except OSError as error:
            place = self._path or "memory"
            raise UserError(f"image cache in {place}: {error}. Make room there, or set data.cache=none") from error

    def _write(self, values: np.ndarray, start: int) -> None:
        data = np.ascontiguousarray(values).data.cast("B")
        while data:
            written = os.pwrite(self._file, data, start)
            data, start = data[written:], start + written

    def to_come(self) -> int:
        """Bytes of images that the file has no room taken for yet."""
        return max(0, int(self._starts[-1]) - os.fstat(self._file).st_blocks * 512)

    def __getstate__(self) -> dict[str, Any]:
        spawning = self._path is None and context.get_spawning_popen() is not None
        return {**vars(self), "_file": reduction.DupFd(self._file) if spawning else None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if state["_file"] is not None:
            self._use(state["_file"].detach())
        else:
            self._use(_memory() if self._path is None else os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644))


def memory_cache(shapes: Sequence[tuple[int, int]]) -> ImageCache:
    """A cache in memory. ValueError where there is not room for all images."""
    cache = ImageCache(shapes, None)
    needed, free = cache.to_come(), free_memory() - _promised(cache)
    if needed > free:
        raise UserError(
            f"data.cache=ram: {len(shapes)} decoded images take {_gib(needed)}, {_gib(max(free, 0))} of memory are "
            "free beside the other caches. Set data.cache=disk, or none"
        )
    _OPEN.add(cache)
    return cache


def disk_cache(
    folder: Path, name: str, shapes: Sequence[tuple[int, int]], sources: Sequence[tuple[Any, ...]]
) -> ImageCache:
    """A cache in `folder`, kept for later runs as long as every image's file, its length and time of change, its
    shape and what else its source says stay, and so do the libraries that decode. Beside it a json says what it holds.

    sources: per image its path, and plain values that decide what is made of the file.

    Several processes may open it at once: an empty file is a cache already. ValueError where `folder` cannot be written
    or has not room for all images.
    """
    listed = [os.path.relpath(path, folder) for path, *_ in sources]
    content: list[Any] = [VERSION, torchvision.__version__, PIL.__version__]
    content += [
        (path, *shape, *_length_and_time(source[0]), *source[1:])
        for path, shape, source in zip(listed, shapes, sources, strict=True)
    ]
    stem = f"{re.sub(r'[^A-Za-z0-9_.-]', '_', name)[:60]}-{_digest(listed)}"
    file, manifest = folder / f"{stem}-{_digest(content)}.pixels", folder / f"{stem}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        cache = ImageCache(shapes, file)
        _replace_manifest(manifest, {"file": file.name, "pictures": len(shapes), "bytes": _bytes(shapes)})
    except OSError as error:
        raise UserError(
            f"data.cache=disk: {folder} cannot be written: {error}. Name another folder: data.cache_dir=/path"
        ) from error
    needed, free = cache.to_come(), shutil.disk_usage(folder).free - _promised(cache)
    if needed > free:
        raise UserError(
            f"data.cache=disk: {len(shapes)} decoded images take another {_gib(needed)}, {folder} has "
            f"{_gib(max(free, 0))} free beside the other caches. Make room, name a folder on another disk with "
            "data.cache_dir=/path, or set data.cache=none"
        )
    _OPEN.add(cache)
    return cache


def _promised(cache: ImageCache) -> int:
    """Bytes that the other open caches of this process will yet take where `cache` is."""
    place, others = os.fstat(cache._file), {}
    for other in _OPEN:
        found = os.fstat(other._file)
        if found.st_dev == place.st_dev and found.st_ino != place.st_ino:
            others[found.st_ino] = other.to_come()  # a file may be open twice
    return sum(others.values())


def _replace_manifest(path: Path, content: dict[str, Any]) -> None:
    """Write it whole or not at all, and remove the pixels that the old one named, now out of date."""
    try:
        old = json.loads(path.read_text())["file"]
    except (OSError, ValueError, KeyError, TypeError):
        old = content["file"]
    write_atomically(path, json.dumps(content) + "\n")
    if old != content["file"] and Path(str(old)).name == old and old.startswith(path.stem):
        (path.parent / old).unlink(missing_ok=True)


def free_memory() -> float:
    """Bytes that may still be taken: of the machine and, in a container, of its limit. Infinite where none tells."""
    free = float("inf")
    if (machine := Path("/proc/meminfo")).exists():
        free = _numbers(machine.read_text())["MemAvailable:"] * 1024
    limit, use = (Path("/sys/fs/cgroup") / name for name in ("memory.max", "memory.stat"))
    if limit.exists() and use.exists() and limit.read_text().strip() != "max":
        taken = _numbers(use.read_text())
        free = min(free, int(limit.read_text()) - taken["anon"] - taken["shmem"])
    return free


def _numbers(text: str) -> dict[str, int]:
    """Lines of a name and a number."""
    return {words[0]: int(words[1]) for line in text.splitlines() if len(words := line.split()) > 1}


def _memory() -> int:
    """A file without a name, in memory where the system has such files."""
    if hasattr(os, "memfd_create"):  # unlike a file in /dev/shm it is not held by the small limit of containers
        return os.memfd_create("images")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _mark(pixels: np.ndarray) -> int:
    """1 to 2**63: 0 is an empty place. The sum of all words of 8 bytes: a tenth of the time of a CRC, and what can go
    wrong here, parts that were never written or bits that changed, it finds as well."""
    flat = pixels.reshape(-1)
    words = len(flat) // 8 * 8
    total = int(flat[:words].view("<u8").sum(dtype=np.uint64)) + int(flat[words:].sum())
    return total % 2**63 + 1


def _length_and_time(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except OSError:
        return 0, 0  # reading the image says what is wrong
    return status.st_size, status.st_mtime_ns


def _digest(content: list[Any]) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def _bytes(shapes: Sequence[tuple[int, int]]) -> int:
    return sum(_MARK + 3 * height * width for height, width in shapes)


def _gib(count: float) -> str:
    return f"{count / 2**30:.2f} GiB"
