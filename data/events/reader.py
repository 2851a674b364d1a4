"""`open_events`: any recording by its path, the format found by what the file begins with, then by its name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .atis_bin import BinReader
from .blocks import check_sensor
from .dat import open_dat
from .evt2 import Evt2Reader
from .evt3 import Evt3Reader
from .evt21 import Evt21Reader
from .interface import EventReader
from .npz import NpzReader
from .raw_header import read_raw_header

RAW_READERS: dict[str, Callable[..., EventReader]] = {"EVT2": Evt2Reader, "EVT2.1": Evt21Reader, "EVT3": Evt3Reader}


def open_events(path: str | Path, sensor_size: tuple[int, int] | None = None) -> EventReader:
    """Random access to an event recording: .dat, .raw (EVT2, EVT2.1, EVT3), .npz, HDF5, .bin (N-MNIST, N-Caltech101).

    sensor_size: (height, width) for a file that does not name it

    ValueError names file, record, value and remedy: for a file of no such format, a damaged or truncated one, times
    that run backwards, or more than 1 % of events outside the sensor. OSError where the file cannot be opened.
    """
    with open(path, "rb") as file:
        head = file.read(4096)
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        from .hdf5 import Hdf5Reader  # h5py is slow to import and few recordings need it

        return Hdf5Reader(path, sensor_size)
    if head.startswith(b"PK\x03\x04"):
        return NpzReader(path, sensor_size)
    if _is_text_header(head):
        header = read_raw_header(path)
        if header.encoding:
            return RAW_READERS[header.encoding](path, header, sensor_size)
        reader = open_dat(path)
        check_sensor(path, reader.sensor_size, sensor_size)
        return reader
    if Path(path).suffix.lower() == ".bin":
        return BinReader(path, sensor_size)
    raise ValueError(
        f"{path}: byte 0: no event recording: starts with {head[:8]!r}. Read are .dat, .raw, .npz, HDF5 and, by its "
        f"name, .bin: convert or copy the file again"
    )


def _is_text_header(head: bytes) -> bool:
    """A line of text after `% `: a .bin may begin with these two bytes by chance."""
    line, end, _ = head.partition(b"\n")
    return line.startswith(b"% ") and bool(end) and all(32 <= c < 127 or c in b"\r\t" for c in line)
