"""Event recordings as HDF5: datasets t, x, y, p in the group `events` (RVT, DSEC) or at the top.

RVT keeps scalars height and width beside them; DSEC keeps `t_offset` [us] at the top, which is added to every time.
Blosc and other filters that h5py lacks come with the package hdf5plugin. Prophesee's ECF filter does not. `ArrayFile`
reads frames that were made of events beforehand.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ..problems import Problems
from .blocks import BlockReader, check_sensor
from .columns import NAMES, check_columns, to_events
from .interface import Events, LoggedProblems

ECF = 0x8ECF  # filter of Prophesee's HDF5 event files
_MOST_PER_BYTE = 1 << 12  # events per byte of a file; no packing of four real columns comes near it
# What h5py raises on a damaged file.
_DAMAGE = (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, OverflowError, MemoryError)


class Hdf5Reader(BlockReader):
    """Random access to an HDF5 recording. Not memory-mapped: HDF5 reads, and unpacks, the chunks of a window."""

    BLOCK = 1 << 16

    def __init__(self, path: str | Path, sensor_size: tuple[int, int] | None = None, problems: Problems | None = None):
        super().__init__(path)
        try:
            self._open_columns(sensor_size, LoggedProblems() if problems is None else problems)
        except FileNotFoundError:
            raise
        except _DAMAGE as error:
            self.close()
            if str(path) in str(error) and isinstance(error, ValueError):
                raise
            raise ValueError(f"{path}: not a readable HDF5 recording: {error}. Copy the file again") from error

    def _open_columns(self, sensor_size: tuple[int, int] | None, problems: Problems) -> None:
        file = self._source
        prophesee = file.get("CD/events")
        if prophesee is not None:
            coded = isinstance(prophesee, h5py.Dataset) and ECF in filters(prophesee)
            raise ValueError(
                f"{self.path}: dataset 'CD/events' is a Prophesee HDF5 recording{' packed by ECF' if coded else ''}, "
                f"which is not read here. Convert it with `metavision_file_to_dat -i {self.path.name}`"
            )
        group = file.get("events", file)
        if not isinstance(group, h5py.Group):
            raise ValueError(f"{self.path}: 'events' is no group. It needs datasets t [us], x, y, p")
        columns = {name: group[name] for name in NAMES if isinstance(group.get(name), h5py.Dataset)}
        count = check_columns(self.path, columns)
        for name, column in columns.items():
            _need_filters(self.path, name, column)
        named = None
        if "height" in group and "width" in group:
            named = (self._scalar(group["height"]), self._scalar(group["width"]))
        self._sensor_size = check_sensor(self.path, named, sensor_size)
        self._prefix = group.name.rstrip("/")
        self._offset = self._scalar(file["t_offset"]) if "t_offset" in file else 0
        if abs(self._offset) > 1 << 61:
            raise ValueError(f"{self.path}: 't_offset' = {self._offset} us is no time. Correct it")
        if count > _MOST_PER_BYTE * self._size:  # datasets without a chunk in them may claim any length
            raise ValueError(f"{self.path}: {count} events in a file of {self._size} bytes. Copy the file again")
        self._build_index(count, problems)

    def _scalar(self, dataset: h5py.Dataset) -> int:
        value = np.asarray(dataset[()])
        if value.size != 1 or value.dtype.kind not in "iu":
            raise ValueError(f"{self.path}: {dataset.name!r} is {value.dtype} of shape {value.shape}. Save one integer")
        return int(value.reshape(()))

    def _connect(self) -> h5py.File:
        return _open(self.path)

    def close(self) -> None:
        if self._handle is not None:
            self._handle.close()
        super().close()

    def _decode(self, start: int, stop: int, state: tuple[int, ...]) -> tuple[Events, tuple[int, ...], int]:
        t, x, y, p = (self._source[f"{self._prefix}/{name}"][start:stop] for name in NAMES)
        events = to_events(self.path, start, t, x, y, p)
        events.t[:] += self._offset
        return events, (), 0


def filters(dataset: h5py.Dataset) -> list[int]:
    """Numbers of the filters that its chunks went through."""
    properties = dataset.id.get_create_plist()
    return [properties.get_filter(i)[0] for i in range(properties.get_nfilters())]


def _open(path: Path) -> h5py.File:
    try:
        import hdf5plugin  # noqa: F401  # makes its filters known to h5py
    except ImportError:
        pass  # files without such filters need it not; for the others `_need_filters` names it
    return h5py.File(path, "r")


def _need_filters(path: Path, name: str, dataset: h5py.Dataset) -> None:
    for number in filters(dataset):
        if not h5py.h5z.filter_avail(number):
            raise ValueError(
                f"{path}: dataset {name!r} is packed by the HDF5 filter {number}, which h5py lacks. "
                "Install the package hdf5plugin (pip install hdf5plugin, or the extra `hdf5`)"
            )


class ArrayFile:
    """A dataset of numbers in an HDF5 file, such as frames made beforehand, read by its first axis.

    shape, dtype: of the dataset. It pickles without its handle, which each process opens anew. ValueError for a file
    that is damaged or lacks the dataset, OSError for none.
    """

    def __init__(self, path: str | Path, name: str):
        self.path, self._name = Path(path), name
        self._handle: h5py.File | None = None
        self._owner = 0  # the process that opened the handle
        try:
            dataset = self._file.get(name)
            if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind not in "iuf":
                raise ValueError(f"{path}: has no dataset {name!r} of numbers. It holds {list(self._file)}")
            _need_filters(self.path, name, dataset)
            self.shape: tuple[int, ...] = dataset.shape
            self.dtype: np.dtype = dataset.dtype
        except FileNotFoundError:
            raise
        except _DAMAGE as error:
            raise self._damaged(error) from error
        finally:
            self.close()

    def read(self, start: int, stop: int) -> np.ndarray:
        """Rows start .. stop - 1."""
        try:
            return self._file[self._name][start:stop]
        except _DAMAGE as error:
            raise self._damaged(f"rows {start} to {stop - 1}: {error}") from error

    def close(self) -> None:
        if self._handle is not None:
            self._handle.close()
        self._handle = None

    @property
    def _file(self) -> h5py.File:
        if self._handle is None or self._owner != os.getpid():  # a handle is not shared with a forked worker
            self._handle, self._owner = _open(self.path), os.getpid()
        return self._handle

    def _damaged(self, error: object) -> ValueError:
        said = str(error)
        if said.startswith(f"{self.path}: "):
            return ValueError(said)
        return ValueError(f"{self.path}: not a readable HDF5 file: {said}. Copy the file again")

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_handle": None}
