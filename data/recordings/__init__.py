"""Readers of event recordings (.dat, EVT2, EVT2.1, EVT3, .npz, HDF5, .bin) behind one interface (`EventReader`), box
labels, writers, and audits of whole files."""

from .audit import Tally, audit_dat, audit_events
from .boxes import read_boxes, write_boxes
from .dat import DatReader, open_dat
from .dat_writer import DatWriter, write_dat
from .interface import EventReader, Events
from .lazy import LazyReader
from .memory import MemoryReader
from .reader import open_events
from .shifted import ShiftedReader
from .span import Span

__all__ = [
    "DatReader",
    "DatWriter",
    "EventReader",
    "Events",
    "LazyReader",
    "MemoryReader",
    "ShiftedReader",
    "Span",
    "Tally",
    "audit_dat",
    "audit_events",
    "open_dat",
    "open_events",
    "read_boxes",
    "write_boxes",
    "write_dat",
]
