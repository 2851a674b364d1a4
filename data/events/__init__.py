"""Event recordings: Prophesee `.dat` files, their box labels, and the count frames a network takes."""

from .boxes import read_boxes, write_boxes
from .dat import DatReader, Events, audit_dat, open_dat, write_dat
from .frames import count_frames

__all__ = [
    "DatReader",
    "Events",
    "audit_dat",
    "count_frames",
    "open_dat",
    "read_boxes",
    "write_boxes",
    "write_dat",
]
