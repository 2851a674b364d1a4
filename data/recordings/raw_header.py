"""Header of Prophesee `.raw` recordings: encoding of the words, and sensor size.

The encoding is named by `evt` ("3.0") or `format`
("EVT3;height=720;width=1280"), the sensor by `format`, `geometry` ("1280x720") or, in old files, only by its plugin.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from registry import UserError

from ..problems import Problem
from .text_header import read_text_header

MAX_SIDE = 1 << 11  # largest side in pixels that all encodings can address
ENCODINGS = {"2.0": "EVT2", "2.1": "EVT2.1", "3.0": "EVT3", "EVT2": "EVT2", "EVT21": "EVT2.1", "EVT3": "EVT3"}
# Part of `plugin_name` -> height, width, for recordings older than the other two ways to say it.
_PLUGINS = {"gen3": (480, 640), "gen4": (720, 1280), "imx636": (720, 1280), "genx320": (320, 320)}


@dataclass(frozen=True)
class RawHeader:
    """`sensor_size` is (height, width), None if absent. `endianness` is that of `format`, "" if absent."""

    offset: int  # of the first word, bytes
    encoding: str | None  # a value of `ENCODINGS`; None: this is no .raw
    sensor_size: tuple[int, int] | None
    endianness: str


def read_raw_header(path: str | Path) -> RawHeader:
    """ValueError for an encoding or a sensor size that is not readable, or a header that is cut off."""
    header = read_text_header(path)
    if isinstance(header, Problem):
        raise UserError(str(header))
    fields = dict(header.fields)
    name, *options = fields.get("format", "").split(";")
    fields |= {k.strip().lower(): v.strip() for k, _, v in (option.partition("=") for option in options)}
    encoding = None
    if named := name.strip() or fields.get("evt", ""):
        encoding = ENCODINGS.get(named.upper())
        if encoding is None:
            known = "EVT2, EVT2.1 and EVT3 are read; convert it with `metavision_file_to_dat`"
            raise UserError(f"{path}: header: unknown encoding: {named!r}. {known}")
    sensor_size = _sensor_size(path, fields) if encoding else None  # a .dat is read by itself
    return RawHeader(header.offset, encoding, sensor_size, fields.get("endianness", "").lower())


def _sensor_size(path: str | Path, fields: dict[str, str]) -> tuple[int, int] | None:
    width, _, height = fields.get("geometry", "").lower().partition("x")
    height, width = fields.get("height", height), fields.get("width", width)
    if height or width:
        if not (height.isdecimal() and width.isdecimal() and len(height + width) < 12):
            raise UserError(f"{path}: header: bad sensor size: {width!r} x {height!r}. Give two whole numbers")
        if max(int(height), int(width)) > MAX_SIDE:
            what = f"{width} x {height}, where words have 11 bits for each of x and y"
            raise UserError(f"{path}: header: bad sensor size: {what}. Give both as 1 to {MAX_SIDE}")
        return int(height), int(width)
    plugin = fields.get("plugin_name", "").lower()
    return next((size for part, size in _PLUGINS.items() if part in plugin), None)
