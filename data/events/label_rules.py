"""Filters of event labels (`LabelRules`), and those of published code (RVT, EMS-YOLO, SpikeYOLO, EAS-SNN)."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from registry import UserError, none_of, reject_unknown

from ..recordings.boxes import NO_TRACK
from ..type_checks import is_number


@dataclass(frozen=True)
class LabelRules:
    """Filters of labels, in the order in which they are applied, to training labels and ground truth alike.

    drop_clips:      names of clips to leave out
    one_per_track:   keep the last of several boxes of one track at one time. Boxes without a track, and files with one
                     track id for all boxes, are not filtered
    last_pixel:      clip boxes to (width - 1, height - 1), the centre of the last pixel, instead of its far edge
    min_diagonal, min_side: remove smaller boxes [pixels of the recording]
    max_width_share: in training splits, remove boxes wider than floor(share * width of the sensor) pixels
    from_ms:         remove earlier label times, counted from the start of the recording (`Span.start_us`)
    grid_ms:         keep label times at multiples of `grid_ms` after the previously kept one
    label_hz:        the same, with the multiple of the clip's median label spacing nearest to this rate
    tolerance_ms:    largest distance of a label time from the grid
    """

    drop_clips: Sequence[str] = ()
    one_per_track: bool = False
    last_pixel: bool = False
    min_diagonal: float = 0.0
    min_side: float = 0.0
    max_width_share: float | None = None
    from_ms: float = 0.0
    grid_ms: float | None = None
    label_hz: float | None = None
    tolerance_ms: float = 2.0

    def __post_init__(self) -> None:
        if isinstance(self.drop_clips, str) or not all(isinstance(name, str) for name in self.drop_clips):
            raise UserError(f"labels: drop_clips = {self.drop_clips!r}: give a list of names of clips")
        for name in ("one_per_track", "last_pixel"):
            if not isinstance(value := getattr(self, name), bool):
                raise UserError(f"labels: {name} = {value!r}: give true or false")
        for name in ("min_diagonal", "min_side", "from_ms", "tolerance_ms"):
            if not is_number(value := getattr(self, name)) or value < 0:
                raise UserError(f"labels: {name} = {value!r}: give a number of at least 0")
        for name in ("max_width_share", "grid_ms", "label_hz"):
            if (value := getattr(self, name)) is not None and (not is_number(value) or value <= 0):
                raise UserError(f"labels: {name} = {value!r}: give a number above 0, or leave it out")
        if self.grid_ms and self.label_hz:
            raise UserError(f"labels: grid_ms = {self.grid_ms} and label_hz = {self.label_hz}: give one of them")

    def apply(
        self, boxes: np.ndarray, width: int, height: int, training: bool, start_us: int = 0
    ) -> tuple[np.ndarray, Counter[str]]:
        """Filter the boxes of a clip (`BOX_DTYPE` [N], in order of time, within `width` x `height`): (kept boxes,
        number removed by each rule). training: the clip belongs to a training split; start_us: start of its
        recording."""
        left_out: Counter[str] = Counter()

        def keep(good: np.ndarray, rule: str) -> None:
            nonlocal boxes
            if not good.all():
                left_out[rule] += int(np.count_nonzero(~good))
                boxes = boxes[good]

        if self.one_per_track:
            keep(_last_of_track(boxes), "repeated in their track")
        if self.last_pixel:
            boxes = boxes.copy()
            for start, length, limit in (("x", "w", width - 1), ("y", "h", height - 1)):
                end = np.minimum(boxes[start] + boxes[length], limit)
                boxes[start] = np.minimum(boxes[start], limit)
                boxes[length] = end - boxes[start]
            keep((boxes["w"] > 0) & (boxes["h"] > 0), "within the last pixel")
        w, h = boxes["w"].astype(np.float64), boxes["h"].astype(np.float64)
        keep(w**2 + h**2 >= self.min_diagonal**2, f"diagonal below {self.min_diagonal:g} px")
        keep(np.minimum(boxes["w"], boxes["h"]) >= self.min_side, f"a side below {self.min_side:g} px")
        if training and self.max_width_share is not None:
            widest = int(self.max_width_share * width)
            keep(boxes["w"] <= widest, f"wider than {widest} px")
        spacing = self._spacing(boxes["t"])
        if self.from_ms:
            keep(boxes["t"] - start_us >= self.from_ms * 1e3, f"before {self.from_ms:g} ms")
        if spacing:
            times = _on_grid(np.unique(boxes["t"]), spacing, self.tolerance_ms * 1e3)
            keep(np.isin(boxes["t"], times), f"off the grid of {spacing / 1e3:g} ms")
        return boxes, left_out

    def _spacing(self, t: np.ndarray) -> int:
        """Spacing of the grid [us]; 0: no grid."""
        if self.grid_ms:
            return round(self.grid_ms * 1e3)
        times = np.unique(t)
        if not self.label_hz or len(times) < 2:
            return 0
        own = float(np.median(np.diff(times)))
        return int(max(1, round(1e6 / own / self.label_hz)) * own)


def _last_of_track(boxes: np.ndarray) -> np.ndarray:
    """bool [N]: False where a later box has the same time and track."""
    tracked = np.flatnonzero(boxes["track_id"] != NO_TRACK)
    keep = np.ones(len(boxes), bool)
    if len(np.unique(boxes["track_id"][tracked])) > 1:
        keys = boxes[["t", "track_id"]][tracked][::-1]
        keep[tracked] = False
        keep[tracked[::-1][np.unique(keys, return_index=True)[1]]] = True
    return keep


def _on_grid(times: np.ndarray, spacing: int, tolerance: float) -> np.ndarray:
    """The `times` [us, sorted] at a multiple of `spacing` after the previously kept one."""
    kept = times[:1].tolist()
    for time in times[1:].tolist():
        steps = round((time - kept[-1]) / spacing)
        if steps and abs(time - kept[-1] - steps * spacing) <= tolerance:
            kept.append(time)
    return np.array(kept, np.int64)


# Clips that RVT's rules leave without labels; EAS-SNN drops them although it does not apply those rules.
_VANISHING = (
    "17-04-06_09-57-37_6344500000_6404500000",
    "17-04-13_19-17-27_976500000_1036500000",
    "17-04-06_15-14-36_1159500000_1219500000",
    "17-04-11_15-13-23_122500000_182500000",
)

# Label filters of published code; docs/events.md names the sources and remaining differences.
LABEL_RULES = {
    "all": LabelRules(),
    "rvt": LabelRules(
        drop_clips=_VANISHING,
        last_pixel=True,
        min_diagonal=30,
        min_side=10,
        max_width_share=0.9,
        from_ms=100,
        grid_ms=250,
    ),
    "rvt_1mpx": LabelRules(last_pixel=True, min_side=5, max_width_share=0.9, from_ms=100, label_hz=10),
    "last_of_track": LabelRules(one_per_track=True),  # EMS-YOLO, SpikeYOLO
    "eas_snn": LabelRules(drop_clips=_VANISHING),
}
_FORMER = {"ems_yolo": "last_of_track", "spikeyolo": "last_of_track"}  # names that configs of earlier versions have


def build_label_rules(what: str | Mapping[str, Any]) -> LabelRules:
    """`what`: a name of `LABEL_RULES`, or arguments of `LabelRules`."""
    if isinstance(what, Mapping):
        reject_unknown(what, [field.name for field in dataclasses.fields(LabelRules)], "labels")
        return LabelRules(**what)
    what = _FORMER.get(what, what)
    if what not in LABEL_RULES:
        raise UserError(none_of(f"labels = {what!r}", what, LABEL_RULES) + ", or give the rules themselves")
    return LABEL_RULES[what]
