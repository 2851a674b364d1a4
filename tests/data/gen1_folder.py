"""Helper: a small folder in the layout of Gen1."""

import numpy as np

from data import create_dataset
from data.recordings import write_boxes, write_dat
from data.recordings.boxes import BOX_DTYPE

DOT = (100, 60, 8, 6)  # x, y, w, h of the box around the one pixel that fires


def write_clip(folder, name, labels, last_us=1_000_000, width=304, height=240, events=True):
    """A clip whose pixel (103, 62) fires ON each millisecond, with a box at each of `labels` [us]."""
    folder.mkdir(parents=True, exist_ok=True)
    t = np.arange(1000, last_us + 1, 1000)
    if events:
        same = np.ones(len(t), int)
        write_dat(folder / f"{name}_td.dat", t, 103 * same, 62 * same, same, width, height)
    rows = [(when, *DOT, k % 2, k, 1.0) for k, when in enumerate(labels)]
    write_boxes(folder / f"{name}_bbox.npy", np.array(rows, BOX_DTYPE), old=True)


def other_recording(folder, name, write, labels=(500_000,)):
    """The clip of `write_clip`, its recording in another format."""
    write_clip(folder, name, labels, events=False)
    t = np.arange(1000, 1_000_001, 1000)
    same = np.ones(len(t), int)
    write(folder, t, 103 * same, 62 * same, same)


def two_drives(root):
    """`root` with clips drive_10 and drive_9 in train: 2 label times each, 5 boxes."""
    write_clip(root / "train", "drive_10", [249_999, 499_999])
    write_clip(root / "train", "drive_9", [749_999, 749_999, 999_999])
    return root


def build(root, **options):
    return create_dataset("gen1", "train", root=root, **options)
