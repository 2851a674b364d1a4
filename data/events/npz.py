"""Event recordings as `.npz`: arrays t [us], x, y, p and, optionally, the scalars height and width.

`numpy.savez` keeps the arrays as they are, so they are memory-mapped inside the archive; those of
`numpy.savez_compressed` are unpacked into memory by every process that reads them.
"""

from __future__ import annotations

import struct
from pathlib import Path
from tokenize import TokenError
from typing import Any
from zipfile import ZIP_STORED, BadZipFile, ZipFile
from zlib import error as ZlibError

import numpy as np

from ..problems import Problems
from .blocks import BlockReader, check_sensor
from .columns import NAMES, check_columns, to_events
from .interface import Events, LoggedProblems

_LOCAL = struct.Struct("<26xHH")  # of a zip member: lengths of its name and of its extra field
# Everything that zipfile and numpy raise on a damaged archive.
_DAMAGE: tuple[type[Exception], ...] = (ValueError, EOFError, OSError, SyntaxError, BadZipFile, ZlibError, TokenError)
_DAMAGE += (NotImplementedError, RuntimeError, KeyError, OverflowError, MemoryError, struct.error, TypeError)


class NpzReader(BlockReader):
    """Random access to an `.npz`. Objects (pickles) inside are refused; checksums are compared when it is opened."""

    BLOCK = 1 << 16

    def __init__(self, path: str | Path, sensor_size: tuple[int, int] | None = None, problems: Problems | None = None):
        super().__init__(path)
        columns = self._source
        named = None
        if "height" in columns and "width" in columns:
            named = (self._scalar("height"), self._scalar("width"))
        self._sensor_size = check_sensor(path, named, sensor_size)
        self._build_index(check_columns(path, columns), LoggedProblems() if problems is None else problems)

    def _scalar(self, name: str) -> int:
        value = self._source[name]
        if value.size != 1 or value.dtype.kind not in "iu":
            raise ValueError(f"{self.path}: {name!r} is {value.dtype} of shape {value.shape}. Save one integer")
        return int(value.reshape(()))

    def _connect(self) -> dict[str, np.ndarray]:
        try:
            with ZipFile(self.path) as archive:
                wanted = {f"{name}.npy" for name in (*NAMES, "height", "width")}
                return {m.filename[:-4]: self._array(archive, m) for m in archive.infolist() if m.filename in wanted}
        except FileNotFoundError:
            raise
        except _DAMAGE as error:
            remedy = "Save t, x, y, p with numpy.savez, or copy the file again"
            raise ValueError(f"{self.path}: not a readable .npz: {error}. {remedy}") from error

    def _array(self, archive: ZipFile, member: Any) -> np.ndarray:
        with archive.open(member) as file:
            if member.compress_type != ZIP_STORED:
                array = np.lib.format.read_array(file, allow_pickle=False)
                file.read()  # to the end, where the checksum is compared
                return array
            version = np.lib.format.read_magic(file)
            read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            shape, fortran, dtype = read_header[version](file)
            header = file.tell()
            while file.read(1 << 20):
                pass
        if dtype.hasobject:
            raise ValueError(f"{member.filename} holds Python objects, which are not read")
        if dtype.itemsize * int(np.prod(shape, dtype=object)) != member.file_size - header:
            raise ValueError(f"{member.filename} has {member.file_size - header} bytes for {dtype} of shape {shape}")
        if 0 in shape:
            return np.empty(shape, dtype)
        with open(self.path, "rb") as raw:
            raw.seek(member.header_offset)
            name, extra = _LOCAL.unpack(raw.read(_LOCAL.size))
        offset = member.header_offset + _LOCAL.size + name + extra + header
        return np.memmap(self.path, dtype, "r", offset, shape, "F" if fortran else "C")

    def _decode(self, start: int, stop: int, state: tuple[int, ...]) -> tuple[Events, tuple[int, ...], int]:
        t, x, y, p = (np.asarray(self._source[name][start:stop]) for name in NAMES)
        return to_events(self.path, start, t, x, y, p), (), 0
