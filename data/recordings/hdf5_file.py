"""Safe reading of untrusted HDF5 files: no links to other files, no virtual or external storage, bounded chunks.

Blosc and other filters that h5py lacks come with the package hdf5plugin. Prophesee's ECF filter does not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from registry import UserError

from .unpacking import check_unpacked

ECF = 0x8ECF  # filter of Prophesee's HDF5 event files
DEPTH = 16  # soft links that lead to soft links
_CACHE = 1 << 20  # bytes: larger chunks get a cache of their size, or each read would unpack them again
# What h5py raises on a damaged file.
DAMAGE = (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, OverflowError, MemoryError)


def open_file(path: Path) -> h5py.File:
    try:
        import hdf5plugin  # noqa: F401  # makes its filters known to h5py
    except ImportError:
        pass  # files without such filters need it not; for the others `check_filters` names it
    return h5py.File(path, "r")


def is_group(found: Any) -> bool:
    return isinstance(found, h5py.Group)


def is_dataset(found: Any) -> bool:
    return isinstance(found, h5py.Dataset)


def find(file: h5py.File, name: str) -> Any:
    """The group or dataset at a path such as "events/t"; None where there is none. UserError for a link to another
    file, and for a dataset stored in other files; these are never opened."""
    found, parts, soft = file["/"], _parts(name), 0
    while parts:
        part = parts.pop(0)
        if not is_group(found) or not found.id.links.exists(part.encode()):
            return None
        kind = found.id.links.get_info(part.encode()).type
        where = f"{file.filename}: {found.name.rstrip('/')}/{part}"
        if kind == h5py.h5l.TYPE_SOFT:
            soft += 1
            if soft > DEPTH:
                raise UserError(f"{where}: soft links that form a cycle. Link to the data themselves")
            target = found.id.links.get_val(part.encode()).decode()
            parts = _parts(target) + parts
            found = file["/"] if target.startswith("/") else found
        elif kind == h5py.h5l.TYPE_HARD:
            found = found[part]
        else:
            to = f" ({found.id.links.get_val(part.encode())[0].decode()})" if kind == h5py.h5l.TYPE_EXTERNAL else ""
            raise UserError(f"{where}: a link to another file{to}, which is not followed. Copy the data into this file")
    if is_dataset(found):
        _stay_inside(file, found)
    return found


def _parts(name: str) -> list[str]:
    return [part for part in name.split("/") if part not in ("", ".")]


def _stay_inside(file: h5py.File, dataset: h5py.Dataset) -> None:
    if dataset.external:
        what = f"external storage in {dataset.external[0][0]}"
    elif dataset.is_virtual:
        what = f"a virtual dataset of {', '.join({source.file_name for source in dataset.virtual_sources()})}"
    else:
        return
    raise UserError(f"{file.filename}: {dataset.name}: {what}: other files are not read. Copy the data into this one")


def scalar(file: h5py.File, name: str) -> int | None:
    """The integer of a scalar dataset; None where there is no such dataset."""
    dataset = find(file, name)
    if not is_dataset(dataset):
        return None
    if dataset.size != 1 or dataset.dtype.kind not in "iu":
        raise UserError(
            f"{file.filename}: {dataset.name!r} is {dataset.dtype} of shape {dataset.shape}. Save one integer"
        )
    check_unpacked(file.filename, dataset.name, _chunk(dataset), 1)
    return int(np.asarray(dataset[()]).reshape(()))


def attribute(found: h5py.Group | h5py.Dataset, name: str) -> str:
    """An attribute as text; "" where there is none."""
    value = found.attrs.get(name, "")
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def filters(dataset: h5py.Dataset) -> list[int]:
    """Ids of the filters of a dataset's chunks."""
    properties = dataset.id.get_create_plist()
    return [properties.get_filter(i)[0] for i in range(properties.get_nfilters())]


def _chunk(dataset: h5py.Dataset) -> int:
    """Unpacked size of one chunk in bytes; 0 without filters."""
    return math.prod(dataset.chunks) * dataset.dtype.itemsize if dataset.chunks and filters(dataset) else 0


def readable(path: Path, datasets: Sequence[h5py.Dataset], limit_mb: int) -> list[h5py.Dataset]:
    """Reopen datasets that are read together, each with a cache that holds one of its chunks. UserError for a missing
    filter, and where the chunks together exceed the limit."""
    for dataset in datasets:
        check_filters(path, dataset)
    check_unpacked(path, "a chunk of the data", sum(map(_chunk, datasets)), limit_mb)
    return [_cached(dataset) if _chunk(dataset) > _CACHE else dataset for dataset in datasets]


def _cached(dataset: h5py.Dataset) -> h5py.Dataset:
    access = h5py.h5p.create(h5py.h5p.DATASET_ACCESS)
    access.set_chunk_cache(521, _chunk(dataset), 1.0)
    file, name = dataset.file, dataset.name
    dataset.id.close()  # an open one would keep its cache
    return h5py.Dataset(h5py.h5d.open(file.id, name.encode(), access))


def check_filters(path: Path, dataset: h5py.Dataset) -> None:
    for number in filters(dataset):
        if h5py.h5z.filter_avail(number):
            continue
        if number == ECF:
            raise UserError(
                f"{path}: dataset {dataset.name[1:]!r} is a Prophesee HDF5 recording packed by ECF, which is not read "
                f"here. Convert it with `metavision_file_to_dat -i {path.name}`"
            )
        raise UserError(
            f"{path}: dataset {dataset.name[1:]!r} is packed by the HDF5 filter {number}, which h5py lacks. "
            "Install the package hdf5plugin (pip install hdf5plugin, or the extra `hdf5`)"
        )
