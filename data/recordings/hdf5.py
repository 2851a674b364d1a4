"""Reader of HDF5 recordings: datasets t, x, y, p in the group `events` (RVT, DSEC) or at the top, or one with all four.

The one may be of records with fields t, x, y, p, as `CD/events` of Prophesee is, or of shape [N, 4]. RVT keeps scalars
height and width beside them; DSEC keeps `t_offset` [us] at the top, which is added to every time. `ArrayFile` reads
frames that were made of events beforehand.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from registry import UserError

from ..files import require_regular
from ..problems import Problems
from .blocks import Block
from .columns import ColumnReader, find_columns
from .hdf5_file import DAMAGE, attribute, check_filters, find, is_dataset, is_group, open_file, readable, scalar
from .interface import LoggedProblems
from .invalid_events import check_sensor
from .unpacking import MAX_UNPACKED_MB

# Events per byte of a file: no packing of real ones comes near it (deflate packs at most 1032 bytes into one).
_MOST_PER_BYTE = 512
_MICROSECONDS = ("", "us", "\u00b5s", "\u03bcs", "usec", "microsecond", "microseconds")


class Hdf5Reader(ColumnReader):
    """Random access to an HDF5 recording. Not memory-mapped: HDF5 reads, and unpacks, the chunks of a window."""

    def __init__(
        self,
        path: str | Path,
        sensor_size: tuple[int, int] | None = None,
        problems: Problems | None = None,
        max_unpacked_mb: int = MAX_UNPACKED_MB,
    ):
        super().__init__(path)
        self._limit = max_unpacked_mb
        try:
            with open_file(self.path) as file:
                count = self._look(file, sensor_size)
            self._index_columns(count, LoggedProblems() if problems is None else problems)
        except FileNotFoundError:
            raise
        except DAMAGE as error:
            self.close()
            raise _damaged(self.path, "recording", error) from error

    def _look(self, file: Any, sensor_size: tuple[int, int] | None) -> int:
        """Find the datasets of the events; returns the number of events."""
        place = next((found for name in ("CD/events", "events") if (found := find(file, name)) is not None), file)
        if is_dataset(place):
            check_filters(self.path, place)
        arrays = {place.name: place} if is_dataset(place) else _datasets(file, place)
        groups = [] if is_dataset(place) else [name for name in place if is_group(find(file, f"{place.name}/{name}"))]
        names = find_columns(self.path, arrays, groups)
        self._names = [arrays[name].name for name in names]
        group = place.name.rpartition("/")[0] if is_dataset(place) else place.name
        self._sensor_size = check_sensor(self.path, _named_sensor(file, group), sensor_size)
        unit = "".join(attribute(arrays["t"], name) for name in ("unit", "units")) if "t" in names else ""
        if unit.strip().lower() not in _MICROSECONDS:
            raise UserError(f"{self.path}: {arrays['t'].name}: its unit is {unit!r}. Save times as integers in us")
        self._offset = scalar(file, "t_offset") or 0
        if abs(self._offset) > 1 << 61:
            raise UserError(f"{self.path}: 't_offset' = {self._offset} us is no time. Correct it")
        count = arrays[names[0]].shape[0]
        if count > _MOST_PER_BYTE * self._size:  # datasets without allocated chunks can have any length
            raise UserError(f"{self.path}: {count} events in a file of {self._size} bytes. Copy the file again")
        return count

    def _connect(self) -> list[Any]:
        file = open_file(self.path)
        try:
            return readable(self.path, [find(file, name) for name in self._names], self._limit)
        except DAMAGE:
            file.close()
            raise

    def close(self) -> None:
        if self._handle is not None:
            self._handle[0].file.close()
        super().close()

    def _decode(self, start: int, stop: int, state: tuple[int, ...]) -> Block:
        try:
            return super()._decode(start, stop, state)
        except DAMAGE as error:
            raise _damaged(self.path, "recording", error) from error


def _datasets(file: Any, group: Any) -> dict[str, Any]:
    """The datasets in a group, by name."""
    found = {name: find(file, f"{group.name}/{name}") for name in group}
    return {name: dataset for name, dataset in found.items() if is_dataset(dataset)}


def _named_sensor(file: Any, group: str) -> tuple[int, int] | None:
    """(height, width) by the scalars beside the events, or as Prophesee's attribute geometry says: "1280x720"."""
    height, width = scalar(file, f"{group}/height"), scalar(file, f"{group}/width")
    if height is not None and width is not None:
        return height, width
    columns, _, rows = attribute(file, "geometry").partition("x")
    return (int(rows), int(columns)) if columns.isdecimal() and rows.isdecimal() and len(columns + rows) < 12 else None


def _damaged(path: Path, what: str, error: object) -> UserError:
    said = str(error)
    if said.startswith(f"{path}: "):
        return UserError(said)
    return UserError(f"{path}: not a readable HDF5 {what}: {said}. Copy the file again")


class ArrayFile:
    """A dataset of numbers in an HDF5 file, such as frames made beforehand, read by its first axis.

    shape, dtype: of the dataset. It pickles without its handle, which each process opens anew. UserError for a file
    that is damaged or lacks the dataset, OSError for none.
    """

    def __init__(self, path: str | Path, name: str, max_unpacked_mb: int = MAX_UNPACKED_MB):
        self.path, self._name, self._limit = Path(path), name, max_unpacked_mb
        self._handle: Any = None
        self._owner = 0  # the process that opened the handle
        self._size = self.path.stat().st_size
        try:
            dataset = self._dataset
            self.shape: tuple[int, ...] = dataset.shape
            self.dtype: np.dtype = dataset.dtype
        finally:
            self.close()

    def read(self, start: int, stop: int) -> np.ndarray:
        """Rows start .. stop - 1."""
        dataset = self._dataset
        try:
            return dataset[start:stop]
        except DAMAGE as error:
            raise _damaged(self.path, "file", f"rows {start} to {stop - 1}: {error}") from error

    def close(self) -> None:
        if self._handle is not None:
            self._handle.file.close()
        self._handle = None

    @property
    def _dataset(self) -> Any:
        if self.path.stat().st_size != self._size:  # HDF5 reads zeros beyond the end of a file
            raise UserError(f"{self.path}: changed its size since it was opened. Build the dataset again")
        if self._handle is None or self._owner != os.getpid():  # a handle is not shared with a forked worker
            try:
                self._handle, self._owner = self._connect(), os.getpid()
            except FileNotFoundError:
                raise
            except DAMAGE as error:
                raise _damaged(self.path, "file", error) from error
        return self._handle

    def _connect(self) -> Any:
        require_regular(self.path)
        file = open_file(self.path)
        try:
            dataset = find(file, self._name)
            if not is_dataset(dataset) or dataset.dtype.kind not in "iuf":
                raise UserError(f"{self.path}: has no dataset {self._name!r} of numbers. It holds {list(file)}")
            return readable(self.path, [dataset], self._limit)[0]
        except DAMAGE:
            file.close()
            raise

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_handle": None}
