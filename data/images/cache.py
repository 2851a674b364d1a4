"""Cache of decoded images (`data.cache`: ram, disk): one file, in memory or on disk, shared by all workers.

Image sizes are known from the labels, so each image has a fixed slot in the file. The first process that decodes an
image writes its pixels, then their checksum. A slot whose checksum does not match counts as empty: a truncated,
half-written or damaged file costs time, but never gives wrong pixels.
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

VERSION = 1  # of the decoder: raise it when decoding gives other pixels for the same file
_MARK = 8  # bytes
_OPEN: weakref.WeakSet[ImageCache] = weakref.WeakSet()  # caches of this process, which still fill up


class ImageCache:
    """Images uint8 [H, W, 3] of the given `shapes` (height, width), by number.

    path: the file, created where it is absent; None: memory, freed when the last process that uses it ends. Forked and
          spawned workers share it; unpickling it anywhere else gives an empty one.
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
        """Image `index`, a writable copy; None where it is not cached yet."""
        mark, pixels = np.zeros(1, "<u8"), np.empty((*self._shapes[index], 3), np.uint8)
        whole = os.preadv(self._file, [mark.data, pixels.data], int(self._starts[index])) == _MARK + pixels.nbytes
        return pixels if whole and mark[0] == _mark(pixels) else None

    def write(self, index: int, image: np.ndarray) -> None:
        """Store image `index`. UserError where there is no room."""
        assert image.shape == (*self._shapes[index], 3) and image.dtype == np.uint8
        start = int(self._starts[index])
        # pwrite, not a memory map: on a full disk a map kills the process (SIGBUS).
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
        """Bytes of images that are not allocated in the file yet."""
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
    """A cache in memory. UserError where there is not enough for all images."""
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
    """A cache in `folder`, beside a json manifest. Later runs reuse it as long as all of these are unchanged: paths,
    sizes and modification times of the image files, their shapes and `sources`, and the versions of the decoders.

    sources: per image its path, and plain values that affect how it is decoded

    Several processes may open it at once: an empty file is a valid cache. UserError where `folder` cannot be written or
    has no room for all images.
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
    """Bytes that the other open caches of this process will still take on the device of `cache`."""
    place, others = os.fstat(cache._file), {}
    for other in _OPEN:
        found = os.fstat(other._file)
        if found.st_dev == place.st_dev and found.st_ino != place.st_ino:
            others[found.st_ino] = other.to_come()  # a file may be open twice
    return sum(others.values())


def _replace_manifest(path: Path, content: dict[str, Any]) -> None:
    """Write the manifest atomically, and remove the outdated pixel file that the old one named."""
    try:
        old = json.loads(path.read_text())["file"]
    except (OSError, ValueError, KeyError, TypeError):
        old = content["file"]
    write_atomically(path, json.dumps(content) + "\n")
    if old != content["file"] and Path(str(old)).name == old and old.startswith(path.stem):
        (path.parent / old).unlink(missing_ok=True)


def free_memory() -> float:
    """Free bytes of memory: of the machine and, in a container, of its limit. Infinite where neither is known."""
    free = float("inf")
    if (machine := Path("/proc/meminfo")).exists():
        free = _numbers(machine.read_text())["MemAvailable:"] * 1024
    limit, use = (Path("/sys/fs/cgroup") / name for name in ("memory.max", "memory.stat"))
    if limit.exists() and use.exists() and limit.read_text().strip() != "max":
        taken = _numbers(use.read_text())
        free = min(free, int(limit.read_text()) - taken["anon"] - taken["shmem"])
    return free


def _numbers(text: str) -> dict[str, int]:
    """{name: number} of lines "name number ..."."""
    return {words[0]: int(words[1]) for line in text.splitlines() if len(words := line.split()) > 1}


def _memory() -> int:
    """An anonymous file, in memory where the system supports it."""
    if hasattr(os, "memfd_create"):  # not limited by the small /dev/shm of containers
        return os.memfd_create("images")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _mark(pixels: np.ndarray) -> int:
    """Checksum, 1 to 2**63; 0 marks an empty slot. The sum of 8-byte words takes a tenth of the time of a CRC, and
    detects the same faults here: unwritten parts and changed bits."""
    flat = pixels.reshape(-1)
    words = len(flat) // 8 * 8
    total = int(flat[:words].view("<u8").sum(dtype=np.uint64)) + int(flat[words:].sum())
    return total % 2**63 + 1


def _length_and_time(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except OSError:
        return 0, 0  # reading the image will report the error
    return status.st_size, status.st_mtime_ns


def _digest(content: list[Any]) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def _bytes(shapes: Sequence[tuple[int, int]]) -> int:
    return sum(_MARK + 3 * height * width for height, width in shapes)


def _gib(count: float) -> str:
    return f"{count / 2**30:.2f} GiB"
