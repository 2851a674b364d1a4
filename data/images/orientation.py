"""EXIF orientation: detect whether the boxes of a label file refer to the images as stored, or rotated by their EXIF.

Labelling tools differ. The labelled size shows it for orientations 5 to 8, which exchange width and height, but not for
2 to 4 or square images; those follow the majority of the others.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

CHOICES = ("auto", "turned", "stored")
_CLEAR = 10  # the majority is clear if it has at least this many times the votes of the minority
_SLACK = 2.0  # pixels that an inaccurate box may exceed its image by


@dataclass(frozen=True)
class Turning:
    """upright: bool [N], which images to rotate by their EXIF orientation
    summary: (value, remedy) of the `Problem` that reports the decision; None where there was none to make
    """

    upright: np.ndarray
    summary: tuple[str, str] | None


def decide(
    stored: np.ndarray, turns: np.ndarray, labelled: np.ndarray, far: np.ndarray, choice: str, default: str
) -> Turning:
    """Decide for each of N images whether to rotate it.

    stored:   [N, 2] width, height as stored
    turns:    [N] EXIF orientations 1..8
    labelled: [N, 2] width, height in the labels, 0 where they have none
    far:      [N, 2] the largest x and y of any box, 0 where there is none
    choice:   one of `CHOICES`, from the config
    default:  "turned" or "stored", where there is no evidence
    """
    oriented = turns != 1
    if choice != "auto" or not oriented.any():
        return Turning(oriented & (choice == "turned"), None)
    shows_turned, shows_stored = _evidence(stored, turns, labelled, far)
    votes = int(shows_turned.sum()), int(shows_stored.sum())
    clear = max(votes) >= _CLEAR * min(votes)
    rest = default if not any(votes) else "stored" if not clear else "turned" if votes[0] > votes[1] else "stored"
    upright = shows_turned | (oriented & ~shows_stored & (rest == "turned"))
    return Turning(upright, _summary(turns[oriented], len(turns), votes, clear, rest, int(upright.sum())))


def _evidence(
    stored: np.ndarray, turns: np.ndarray, labelled: np.ndarray, far: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(bool [N], bool [N]): labels that fit only the rotated image, and only the stored one."""
    turned = np.where((turns >= 5)[:, None], stored[:, ::-1], stored)
    differ = turned[:, 0] != stored[:, 0]
    fits_turned, fits_stored = ((far <= size + _SLACK).all(1) for size in (turned, stored))
    boxes_turned, boxes_stored = differ & fits_turned & ~fits_stored, differ & fits_stored & ~fits_turned
    sizes_turned, sizes_stored = (differ & (labelled == size).all(1) for size in (turned, stored))
    # A box outside the labelled size but inside the other one shows that the labelled size is wrong. Where that happens
    # in more than a few images, labelled sizes are no evidence in the others either.
    nothing = np.zeros_like(differ)
    if _often(boxes_turned, sizes_stored):
        sizes_turned, sizes_stored = sizes_turned | sizes_stored, nothing
    elif _often(boxes_stored, sizes_turned):
        sizes_turned, sizes_stored = nothing, sizes_turned | sizes_stored
    return boxes_turned | (sizes_turned & ~boxes_stored), boxes_stored | (sizes_stored & ~boxes_turned)


def _often(contradicted: np.ndarray, by_size: np.ndarray) -> bool:
    found = int((contradicted & by_size).sum())
    return found > 0 and _CLEAR * found >= by_size.sum()


def _summary(
    turns: np.ndarray, images: int, votes: tuple[int, int], clear: bool, rest: str, upright: int
) -> tuple[str, str]:
    kinds = ", ".join(f"{count} x {turn}" for turn, count in sorted(Counter(turns.tolist()).items()))
    value = f"{len(turns)} of {images} images have one ({kinds}); by sizes and boxes {votes[0]} were labelled turned, "
    value += f"{votes[1]} as stored"
    done = {len(turns): "All are turned", 0: "All are taken as stored"}.get(upright, f"{upright} of them are turned")
    advice = "data.args.orientation=turned or stored decides it"
    if not any(votes):
        return value, f"{done}, though there is no evidence: check where boxes lie. {advice}"
    if not clear:
        return value, f"{done}: labels disagree, and those without evidence are taken as stored. {advice}"
    return value, f"{done}. If boxes lie wrong: {advice}"
