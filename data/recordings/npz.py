"""Reader of `.npz` recordings: arrays t [us], x, y, p and, optionally, the scalars height and width.

`numpy.savez` keeps the arrays as they are, so they are memory-mapped inside the archive; those of
`numpy.savez_compressed` are unpacked into memory by every process that reads them, up to a limit.
"""

from __future__ import annotations

import struct
from contextlib import nullcontext, suppress
from io import BytesIO
from pathlib import Path
from tokenize import TokenError
from typing import IO, Literal, NamedTuple
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo
from zlib import error as ZlibError

import numpy as np

from registry import UserError

from ..problems import Problems
from .columns import NAMES, ColumnReader, find_columns
from .interface import LoggedProblems
from .invalid_events import check_sensor
from .unpacking import MAX_UNPACKED_MB, check_unpacked

_LOCAL = struct.Struct("<26xHH")  # of a zip member: lengths of its name and of its extra field
# Everything that zipfile and numpy raise on a damaged archive.
_DAMAGE: tuple[type[Exception], ...] = (ValueError, EOFError, OSError, SyntaxError, BadZipFile, ZlibError, TokenError)
_DAMAGE += (NotImplementedError, RuntimeError, KeyError, OverflowError, MemoryError, struct.error, TypeError)
_HEADER = 1 << 14  # bytes: numpy trusts no header above 10,000, but would first read one of any length
_SCALARS = ("height", "width")


class _Array(NamedTuple):
    """Header of an array in an archive. start: offset of its data in the unpacked member."""

    member: ZipInfo
    start: int
    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype

    @property
    def packed(self) -> bool:
        return self.member.compress_type != ZIP_STORED

    def check(self) -> None:
        """UserError for an array of Python objects, or one whose header does not match the length of its data."""
        name, length = self.member.filename, self.member.file_size - self.start
        if self.dtype.hasobject:
            raise UserError(f"{name} holds Python objects, which are not read")
        if self.dtype.itemsize * int(np.prod(self.shape, dtype=object)) != length:
            raise UserError(f"{name} has {length} bytes for {self.dtype} of shape {self.shape}")


class NpzReader(ColumnReader):
    """Random access to an `.npz`. Objects (pickles) inside are refused; checksums are compared when it is opened."""

    def __init__(
        self,
        path: str | Path,
        sensor_size: tuple[int, int] | None = None,
        problems: Problems | None = None,
        max_unpacked_mb: int = MAX_UNPACKED_MB,
    ):
        super().__init__(path)
        try:
            with ZipFile(path) as archive:
                arrays = _arrays(archive)
                for name in {*NAMES, *_SCALARS} & arrays.keys():
                    arrays[name].check()
                self._names = find_columns(path, {k: a for k, a in arrays.items() if k not in _SCALARS})
                wanted = [arrays[name] for name in (*self._names, *_SCALARS) if name in arrays]
                for array in wanted:
                    array.check()
                unpacked = sum(array.member.file_size for array in wanted if array.packed)
                check_unpacked(path, "the arrays", unpacked, max_unpacked_mb)
                named = None
                if all(name in arrays for name in _SCALARS):
                    named = self._scalar(archive, arrays, "height"), self._scalar(archive, arrays, "width")
        except FileNotFoundError:
            raise
        except _DAMAGE as error:
            raise self._damaged(error) from error
        self._sensor_size = check_sensor(path, named, sensor_size)
        self._index_columns(arrays[self._names[0]].shape[0], LoggedProblems() if problems is None else problems)

    def _scalar(self, archive: ZipFile, arrays: dict[str, _Array], name: str) -> int:
        dtype, shape = arrays[name].dtype, arrays[name].shape
        if int(np.prod(shape, dtype=object)) != 1 or dtype.kind not in "iu":
            raise UserError(f"{self.path}: {name!r} is {dtype} of shape {shape}. Save one integer")
        return int(self._load(archive, arrays[name]).reshape(()))

    def _connect(self) -> list[np.ndarray]:
        try:
            with ZipFile(self.path) as archive:
                arrays = _arrays(archive)
                return [self._load(archive, arrays[name]) for name in self._names]
        except FileNotFoundError:
            raise
        except _DAMAGE as error:
            raise self._damaged(error) from error

    def _load(self, archive: ZipFile, array: _Array) -> np.ndarray:
        """The array, memory-mapped if it is stored uncompressed; its checksum is verified."""
        member, shape = array.member, array.shape
        order: Literal["C", "F"] = "F" if array.fortran else "C"
        with archive.open(member) as file:
            file.read(array.start)
            if array.packed and not self.WHOLE and not array.fortran and shape[:1] > (self.BLOCK,):
                self._ends = False
                first = file.read(array.dtype.itemsize * self.BLOCK * int(np.prod(shape[1:])))
                return np.frombuffer(first, array.dtype).reshape(self.BLOCK, *shape[1:])
            if array.packed:
                data = file.read(member.file_size - array.start)
                file.read()  # to the end, where the checksum is compared
                return np.frombuffer(data, array.dtype).reshape(shape, order=order)
            while self.WHOLE and file.read(1 << 20):
                pass
        if 0 in shape:
            return np.empty(shape, array.dtype)
        with open(self.path, "rb") as raw:
            raw.seek(member.header_offset)
            name, extra = _LOCAL.unpack(raw.read(_LOCAL.size))
        offset = member.header_offset + _LOCAL.size + name + extra + array.start
        return np.memmap(self.path, array.dtype, "r", offset, shape, order)

    def _damaged(self, error: Exception) -> UserError:
        if str(error).startswith(f"{self.path}: "):
            return UserError(str(error))
        remedy = "Save t, x, y, p with numpy.savez, or copy the file again"
        return UserError(f"{self.path}: not a readable .npz: {error}. {remedy}")


def _arrays(archive: ZipFile) -> dict[str, _Array]:
    """{name: header} of the arrays of an archive; only headers are unpacked. Members that are no arrays are skipped,
    unless they have the name of a column."""
    arrays = {}
    for member in archive.infolist():
        name = member.filename.removesuffix(".npy")
        with nullcontext() if name in (*NAMES, *_SCALARS) else suppress(*_DAMAGE), archive.open(member) as file:
            arrays[name] = _read_header(file, member)
    return arrays


def _read_header(packed: IO[bytes], member: ZipInfo) -> _Array:
    file = BytesIO(packed.read(_HEADER))
    version = np.lib.format.read_magic(file)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    shape, fortran, dtype = read[version](file)
    return _Array(member, file.tell(), shape, fortran, dtype)
