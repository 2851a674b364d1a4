"""AP by the size of boxes: small, medium and large, by area or by diagonal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .coco_ap import coco_ap_within
from .voc_ap import is_ignored, voc_ap

NAMES = ("small", "medium", "large")
NO_LIMIT = 1e5  # pixels, COCO's


@dataclass(frozen=True)
class Sizes:
    """Three ranges of sizes in pixels, both ends included as in COCO.

    measure: "side", the root of the area (of truth its entry `area`, if it has one), or "diagonal"
    limits:  the lower ends
    """

    measure: str
    limits: tuple[float, float, float]

    @property
    def ranges(self) -> dict[str, tuple[float, float]]:
        """{name: (from, to)} in pixels."""
        return dict(zip(NAMES, zip(self.limits, (*self.limits[1:], NO_LIMIT), strict=True), strict=True))

    def squared(self, box: dict[str, Any], scale: float = 1.0) -> float:
        """The size of a box, squared, as that of an image without `scale`."""
        _, _, w, h = box["bbox"]
        if self.measure == "diagonal":
            return float((w * w + h * h) / scale**2)
        area = box.get("area")
        return float(w * h if area is None else area)

    def words(self, name: str) -> str:
        """ "diagonal 30 to 60 px"."""
        low, high = self.ranges[name]
        what = "root of the area" if self.measure == "side" else self.measure
        if high == NO_LIMIT:
            return f"{what} from {low:g} px"
        return f"{what} {low:g} to {high:g} px" if low else f"{what} up to {high:g} px"

    def score(
        self,
        ground_truth: dict[str, Any],
        detections: list[dict[str, Any]],
        eleven_points: bool | None = None,
        scales: Mapping[int, float] | None = None,
    ) -> dict[str, dict[str, Any]]:
        """{name: {"range" in words, "boxes" of the truth, "AP", "AP50"}}; None without truth, and AP of VOC.

        Truth of another size is ignored, and so are detections of another size that match nothing, as in COCO's AP by
        area. eleven_points: of the average of VOC; None: COCO's. scales: of images whose limits are smaller or larger.
        """

        def squared(box: dict[str, Any]) -> float:
            return self.squared(box, scales[box["image_id"]] if scales else 1.0)

        within = {name: (low**2, high**2) for name, (low, high) in self.ranges.items()}
        if eleven_points is None:
            scores: dict[str, Any] = coco_ap_within(ground_truth, detections, within, squared)
        else:
            scores = {
                name: _voc(ground_truth, detections, eleven_points, lambda box, of=of: of[0] <= squared(box) <= of[1])
                for name, of in within.items()
            }
        return {
            name: {
                "range": self.words(name),
                "boxes": sum(low <= squared(a) <= high and not is_ignored(a) for a in ground_truth["annotations"]),
                **scores[name],
            }
            for name, (low, high) in within.items()
        }


def _voc(ground_truth: dict[str, Any], detections: list[dict[str, Any]], eleven_points: bool, fits: Any) -> dict:
    others = [{**a, "difficult": a.get("difficult") or not fits(a)} for a in ground_truth["annotations"]]
    scores = voc_ap({**ground_truth, "annotations": others}, detections, eleven_points, ignored=lambda d: not fits(d))
    any_truth = not all(is_ignored(a) for a in others)
    return {"AP": None, "AP50": scores["AP50"] if any_truth else None}


AREAS = Sizes("side", (0, 32, 96))
