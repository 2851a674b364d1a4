"""Event recordings: readers of their formats behind one interface, box labels, and the frames a network takes."""

from .audit import audit_dat, audit_events
from .boxes import read_boxes, write_boxes
from .dat import DatReader, open_dat, write_dat
from .frames import GROUND, count_frames, last_event_frames
from .interface import EventReader, Events
from .reader import open_events

__all__ = [
    "GROUND",
    "DatReader",
    "EventReader",
    "Events",
    "audit_dat",
    "audit_events",
    "count_frames",
    "last_event_frames",
    "open_dat",
    "open_events",
    "read_boxes",
    "write_boxes",
    "write_dat",
]
