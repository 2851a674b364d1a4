"""Reconcile labelled image sizes with the image headers and EXIF orientations (`settle_sizes`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ..problems import Problem, Problems
from .image_file import image_headers, upright_size
from .orientation import decide
from .record import Record


def settle_sizes(
    records: Sequence[Record],
    far: np.ndarray,
    source: Path,
    problems: Problems,
    unreadable: Callable[[str, str], None],
    orientation: str = "auto",
    default: str = "stored",
) -> np.ndarray:
    """Set `upright`, `width` and `height` of the `records` from their image headers.

    records:    their sizes are those of the labels, 0 where a label has none
    far:        [N, 2] largest x and y of the boxes of each
    source:     label file, named in problems
    unreadable: called with path and reason of each unusable image
    orientation, default: arguments of `orientation.decide`

    Returns bool [N], which are usable. The others, whose image is unreadable or differs in size, keep the labelled
    size.
    """
    usable = np.ones(len(records), bool)
    stored = np.zeros((len(records), 2), np.int64)
    turns = np.ones(len(records), np.int64)
    for i, header in enumerate(image_headers(record.path for record in records)):
        if isinstance(header, ValueError):
            unreadable(records[i].path, str(header))
            usable[i] = False
        else:
            stored[i], turns[i] = header
    labelled = np.array([(record.width, record.height) for record in records], np.int64).reshape(-1, 2)
    turning = decide(stored, turns, labelled, far, orientation, default)
    if turning.summary:
        problems.add(Problem("EXIF orientation", source, "", *turning.summary))
    for i in np.flatnonzero(usable).tolist():
        record, found = records[i], tuple(stored[i].tolist())
        turned = upright_size(found, int(turns[i]))
        said = record.width, record.height
        if said not in ((0, 0), found, turned):
            unreadable(record.path, other_size(found, said))
            usable[i] = False
            continue
        record.upright = bool(turning.upright[i])
        record.width, record.height = turned if record.upright else found
    unknown = usable & (labelled == 0).all(1)
    if unknown.any():
        value = f"{int(unknown.sum())} of {len(records)} images"
        problems.add(Problem("label without image size", source, "", value, "The image's own is taken"))
    return usable


def other_size(found: tuple[int, int], labelled: tuple[int, int]) -> str:
    """Message and remedy for an image whose size `found` differs from the one `labelled`."""
    remedy = "Its boxes would be wrong: put the image that was labelled there, or correct the label"
    if found == labelled[::-1]:
        remedy = "It was labelled rotated by 90 degrees, and has no EXIF orientation: rotate the file"
    return f"the image is {found[0]}x{found[1]}, its label says {labelled[0]}x{labelled[1]}. {remedy}"
