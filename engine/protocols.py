"""What an AP means: each protocol says which boxes count and how they are averaged. Print its rule beside the number.

One table, `PROTOCOLS`: `get_protocol("prophesee").score(ground_truth, detections)`. A new rule is one more entry.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass
from typing import Any

from neurons.names import did_you_mean

from .coco_ap import check_boxes, coco_ap
from .voc_ap import voc_ap


class Protocol(ABC):
    """`name`, one line of `rule`, and `score`."""

    name: str

    @property
    @abstractmethod
    def rule(self) -> str:
        """The protocol in one line, parameters included."""

    @abstractmethod
    def score(self, ground_truth: dict[str, Any], detections: list[dict[str, Any]]) -> dict[str, Any]:
        """Score COCO results (original pixels, dataset category ids) against `DetectionDataset.ground_truth()`.

        Returns AP, AP50, AP75 (None where this protocol does not define it), images (how many were evaluated), boxes
        (how many were to be found), and what else the protocol measures. ValueError for inputs it cannot judge.
        """


@dataclass(frozen=True)
class Coco(Protocol):
    name: str = "coco"
    max_dets: int = 100

    @property
    def rule(self) -> str:
        return (
            f"COCO: mean over IoU 0.5:0.05:0.95, 101 recall points, {self.max_dets} detections per image and class; "
            "crowd regions are ignored, all other boxes count"
        )

    def score(self, ground_truth: dict[str, Any], detections: list[dict[str, Any]]) -> dict[str, Any]:
        boxes = sum(not a.get("iscrowd") for a in ground_truth["annotations"])
        return {
            **coco_ap(ground_truth, detections, self.max_dets),
            "images": len(ground_truth["images"]),
            "boxes": boxes,
        }


@dataclass(frozen=True)
class Voc(Protocol):
    name: str
    eleven_points: bool

    @property
    def rule(self) -> str:
        average = "mean of 11 recall points" if self.eleven_points else "area under the monotone curve"
        return (
            f"PASCAL VOC {'2007' if self.eleven_points else '2010+'}: IoU 0.5, {average}; difficult boxes are ignored"
        )

    def score(self, ground_truth: dict[str, Any], detections: list[dict[str, Any]]) -> dict[str, Any]:
        boxes = sum(not (a.get("difficult") or a.get("iscrowd")) for a in ground_truth["annotations"])
        return {
            "AP": None,
            "AP75": None,
            **voc_ap(ground_truth, detections, self.eleven_points),
            "images": len(ground_truth["images"]),
            "boxes": boxes,
        }


@dataclass(frozen=True)
class Prophesee(Protocol):
    """The Gen1 rule as RVT applies it and those who cite RVT report it.

    Each label time of each clip is one image. Truth and detections alike count only with t > `skip_us` (strictly),
    diagonal >= `min_diagonal` and both sides >= `min_side`, in pixels of the recording. An image whose truth is
    filtered away is not evaluated, so detections there are free. Then COCO AP, with area = w * h.

    The published evaluator assigns a detection to every label time within 50 ms, which turns extra predictions between
    labels into false positives. Here a detection belongs to the label time it was computed for and to no other, which
    is the same for detectors that predict at label times only.
    """

    name: str = "prophesee"
    skip_us: int = 500_000
    min_diagonal: float = 30.0
    min_side: float = 10.0

    @property
    def rule(self) -> str:
        return (
            f"Prophesee: truth and detections with t > {self.skip_us / 1e6:g} s, diagonal >= {self.min_diagonal:g} px, "
            f"sides >= {self.min_side:g} px; label times without such truth are not evaluated; then COCO AP"
        )

    def score(self, ground_truth: dict[str, Any], detections: list[dict[str, Any]]) -> dict[str, Any]:
        check_boxes(ground_truth, detections)
        late = {image["id"] for image in self._timed(ground_truth["images"]) if image["t_us"] > self.skip_us}
        truth = [
            {**a, "area": a["bbox"][2] * a["bbox"][3], "iscrowd": 0}
            for a in ground_truth["annotations"]
            if a["image_id"] in late and self._large(a["bbox"])
        ]
        evaluated = {a["image_id"] for a in truth}
        images = [image for image in ground_truth["images"] if image["id"] in evaluated]
        found = [d for d in detections if d["image_id"] in evaluated and self._large(d["bbox"])]
        scores = coco_ap({**ground_truth, "images": images, "annotations": truth}, found)
        return {**scores, "images": len(images), "boxes": len(truth)}

    def _large(self, bbox: list[float]) -> bool:
        w, h = bbox[2], bbox[3]
        return w * w + h * h >= self.min_diagonal**2 and min(w, h) >= self.min_side

    @staticmethod
    def _timed(images: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """`images`, once each is known to be its own (clip, t_us)."""
        for image in images:
            if "t_us" not in image or "clip" not in image:
                raise ValueError(
                    f"image {image['id']} has no clip and t_us: the prophesee protocol is for event recordings. "
                    "Use --protocol coco for pictures"
                )
        counts = Counter((image["clip"], image["t_us"]) for image in images)
        moment, count = max(counts.items(), key=lambda item: item[1], default=(None, 1))
        if count > 1:
            raise ValueError(
                f"{count} images share clip and t_us {moment}: a label time is one image. Merge their boxes"
            )
        return images


PROTOCOLS: dict[str, Protocol] = {
    p.name: p for p in (Coco(), Voc("voc07", eleven_points=True), Voc("voc10", eleven_points=False), Prophesee())
}


def get_protocol(name: str) -> Protocol:
    """The protocol called `name`; ValueError naming the nearest one."""
    if name not in PROTOCOLS:
        near = did_you_mean(name, PROTOCOLS, cutoff=0.4)
        raise ValueError(f"unknown protocol {name!r}{near or ':'} There are {sorted(PROTOCOLS)}")
    return PROTOCOLS[name]
