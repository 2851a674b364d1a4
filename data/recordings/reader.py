"""Open an event recording of any format (`open_events`), detected by its first bytes, then by its suffix."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from registry import UserError

from ..files import require_regular
from ..problems import Problems
from .atis_bin import BinReader
from .blocks import only_span
from .dat import open_dat
from .evt2 import Evt2Reader
from .evt3 import Evt3Reader
from .evt21 import Evt21Reader
from .interface import EventReader
from .invalid_events import check_sensor
from .npz import NpzReader
from .raw_header import read_raw_header
from .unpacking import MAX_UNPACKED_MB

RAW_READERS: dict[str, Callable[..., EventReader]] = {"EVT2": Evt2Reader, "EVT2.1": Evt21Reader, "EVT3": Evt3Reader}


def open_events(
    path: str | Path,
    sensor_size: tuple[int, int] | None = None,
    problems: Problems | None = None,
    whole: bool = True,
    max_unpacked_mb: int = MAX_UNPACKED_MB,
) -> EventReader:
    """Random access to an event recording: .dat, .raw (EVT2, EVT2.1, EVT3), .npz, HDF5, .bin (N-MNIST, N-Caltech101).

    sensor_size: (height, width) for a file without it
    problems:    collects what was dropped or repaired: a truncated last record, no events, events outside the sensor
                 or slightly out of order, invalid words. None: they are logged
    whole:       False: skip the pass over the file that formats other than .dat need; only `span` and `sensor_size`
    max_unpacked_mb: limit in MiB of an unpacked .npz, or of one chunk of an HDF5 file

    ValueError names file, record, value and remedy: for a file of no such format or a damaged one, times that run
    backwards by more than jitter, more than 1 % to drop or repair, data in other files, or more than
    `max_unpacked_mb`. OSError where the file cannot be opened.
    """
    require_regular(path)
    with open(path, "rb") as file:
        head = file.read(4096)
    ending = Path(path).suffix.lower()
    form: Callable[[Any], Any] = (lambda reader: reader) if whole else only_span
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        from .hdf5 import Hdf5Reader  # h5py is slow to import and few recordings need it

        return form(Hdf5Reader)(path, sensor_size, problems, max_unpacked_mb)
    if head.startswith(b"PK\x03\x04"):
        return form(NpzReader)(path, sensor_size, problems, max_unpacked_mb)
    if _is_text_header(head):
        header = read_raw_header(path)
        if header.encoding:
            return form(RAW_READERS[header.encoding])(path, header, sensor_size, problems)
        if ending == ".raw":
            raise UserError(f"{path}: header: no line '% evt' or '% format' names an encoding. Copy the file again")
    if is_dat(path, head):
        reader = open_dat(path, problems)
        check_sensor(path, reader.sensor_size, sensor_size)
        return reader
    if ending == ".bin":
        return form(BinReader)(path, sensor_size, problems)
    if not head:
        raise UserError(f"{path}: no event recording: the file is empty, 0 bytes. Copy or record it again")
    raise UserError(
        f"{path}: byte 0: no event recording: starts with {head[:8]!r}. Read are .dat, .raw, .npz, HDF5 and, by its "
        f"name, .bin: convert or copy the file again"
    )


def is_dat(path: str | Path, head: bytes | None = None) -> bool:
    """Whether a file is a `.dat`: a text header without an encoding, or the suffix .dat and the signature of no other
    format. head: its first bytes, if already read."""
    if head is None:
        require_regular(path)
        with open(path, "rb") as file:
            head = file.read(4096)
    if _is_text_header(head):
        return Path(path).suffix.lower() != ".raw" and read_raw_header(path).encoding is None
    return Path(path).suffix.lower() == ".dat" and not head.startswith((b"\x89HDF\r\n\x1a\n", b"PK\x03\x04"))


def _is_text_header(head: bytes) -> bool:
    """Whether a file begins with a line of text after `% `; a .bin may begin with these two bytes by chance."""
    line, end, _ = head.partition(b"\n")
    return line.startswith(b"% ") and bool(end) and all(32 <= c < 127 or c in b"\r\t" for c in line)
