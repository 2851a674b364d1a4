"""Event recordings: Prophesee `.dat` files, their box labels, and the frames a network takes."""

from .boxes import read_boxes, write_boxes
from .dat import DatReader, Events, audit_dat, open_dat, write_dat
from .frames import GROUND, count_frames, last_event_frames

__all__ = [
    "GROUND",
    "DatReader",
    "Events",
    "audit_dat",
    "count_frames",
    "last_event_frames",
    "open_dat",
    "read_boxes",
    "write_boxes",
    "write_dat",
]
