"""Early exit: keep the detections of an image once they have stopped changing from one measured T to the next."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torchvision.ops import box_iou

Image = dict[str, Tensor]  # boxes [N, 4] xyxy, scores [N], labels [N]


@dataclass(frozen=True)
class EarlyExit:
    """An image has settled at the first measured T at which its detections are those of the measured T before: with a
    score of at least `score` there are equally many, at least one, and each has a partner among the others of the same
    label, with an IoU of at least `iou` and a score that differs by at most `tolerance`.

    An image without such a detection has not settled: at a small T a network may not have fired at all.
    """

    score: float = 0.3
    iou: float = 0.9
    tolerance: float = 0.05

    def __call__(self, before: Image, now: Image) -> bool:
        a, b = ({key: value[image["scores"] >= self.score] for key, value in image.items()} for image in (before, now))
        if len(a["scores"]) != len(b["scores"]) or not len(a["scores"]):
            return False
        partners = (
            (a["labels"][:, None] == b["labels"])
            & (box_iou(a["boxes"].float(), b["boxes"].float()) >= self.iou)
            & ((a["scores"][:, None] - b["scores"]).abs() <= self.tolerance)
        )
        return bool(partners.any(0).all() and partners.any(1).all())

    @property
    def rule(self) -> str:
        return (
            "an image keeps its detections from the first measured T at which they are those of the measured T before: "
            f"equally many of score >= {self.score:g}, at least one, each with a partner of the same label, IoU >= "
            f"{self.iou:g} and a score within {self.tolerance:g}; a batch ends when all of its images have settled"
        )
