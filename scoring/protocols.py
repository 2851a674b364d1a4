"""Evaluation protocols (COCO, VOC, Prophesee, raw): which boxes count in an AP, and how it is averaged.

One table, `PROTOCOLS`: `get_protocol("prophesee").score(ground_truth, detections)`. A new protocol is one more entry.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from registry import UserError, none_of

from .coco_ap import best_of_each_image, check_boxes, coco_ap
from .sizes import AREAS, Sizes
from .voc_ap import voc_ap

LONGEST_US = 3_600_000_000  # later label times need `start_us`, the time at which their recording begins


class Protocol(ABC):
    """An evaluation protocol: `name`, its `rule` in one line, the boxes that are `counted`, and `score`."""

    name: str

    @property
    @abstractmethod
    def rule(self) -> str:
        """The protocol in one line, parameters included."""

    @abstractmethod
    def counted(
        self, ground_truth: dict[str, Any], detections: list[dict[str, Any]]
    ) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The images, truth and detections that count, for `score` and for plots.

        Truth with `iscrowd` or `difficult` is ignored: neither a miss nor a false positive. UserError as in `score`.
        """

    def why_none(self, ground_truth: dict[str, Any]) -> str:
        """Why no truth counts, as the end of an error message."""
        return ""

    @abstractmethod
    def score(self, ground_truth: dict[str, Any], detections: list[dict[str, Any]]) -> dict[str, Any]:
        """Score COCO results (original pixels, dataset category ids) against `DetectionDataset.ground_truth()`.

        Returns AP, AP50, AP75 (None where this protocol does not define it), images (how many were evaluated), boxes
        (how many were to be found), and what else the protocol measures. UserError for inputs it does not apply to.
        """

    def by_size(self, ground_truth: dict[str, Any], detections: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """{size: {"range", "boxes", "AP", "AP50"}} of the boxes that count, smallest first: see `Sizes.score`.

        By area as COCO (32 and 96 pixels squared); of event recordings by the diagonal, which is what their protocols
        limit: from `min_diagonal`, twice and four times that. UserError as in `score`.
        """
        truth, found = self.counted(ground_truth, detections)
        return AREAS.score(truth, found)


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

    def counted(
        self, ground_truth: dict[str, Any], detections: list[dict[str, Any]]
    ) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        check_boxes(ground_truth, detections)
        truth = [{**a, "difficult": 0} for a in ground_truth["annotations"]]  # COCO has no such flag
        return {**ground_truth, "annotations": truth}, best_of_each_image(detections, self.max_dets)

    def score(self, ground_truth: dict[str, Any], detections: list[dict[str, Any]]) -> dict[str, Any]:
        truth, found = self.counted(ground_truth, detections)
        boxes = sum(not a.get("iscrowd") for a in truth["annotations"])
        return {**coco_ap(truth, found, self.max_dets), "images": len(truth["images"]), "boxes": boxes}


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

    def counted(
        self, ground_truth: dict[str, Any], detections: list[dict[str, Any]]
    ) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        check_boxes(ground_truth, detections)
        return ground_truth, detections

    def score(self, ground_truth: dict[str, Any], detections: list[dict[str, Any]]) -> dict[str, Any]:
        boxes = sum(not (a.get("difficult") or a.get("iscrowd")) for a in ground_truth["annotations"])
        return {
            "AP": None,
            "AP75": None,
            **voc_ap(ground_truth, detections, self.eleven_points),
            "images": len(ground_truth["images"]),
            "boxes": boxes,
        }

    def by_size(self, ground_truth: dict[str, Any], detections: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
        truth, found = self.counted(ground_truth, detections)
        return AREAS.score(truth, found, self.eleven_points)


@dataclass(frozen=True)
class Raw(Protocol):
    """COCO AP of all boxes, without filters: the rule of SNN papers on Gen1 that filter nothing."""

    name: str = "raw"

    @property
    def rule(self) -> str:
        return (
            "raw: every box of every image or label time counts, crowd and difficult ones too, none left out by time "
            "or size; then COCO AP, area = w * h"
        )

    def counted(
        self, ground_truth: dict[str, Any], detections: list[dict[str, Any]]
    ) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        check_boxes(ground_truth, detections)
        truth = [_plain(a) for a in ground_truth["annotations"]]
        return {**ground_truth, "annotations": truth}, best_of_each_image(detections)

    def score(self, ground_truth: dict[str, Any], detections: list[dict[str, Any]]) -> dict[str, Any]:
        truth, found = self.counted(ground_truth, detections)
        return {**coco_ap(truth, found), "images": len(truth["images"]), "boxes": len(truth["annotations"])}


@dataclass(frozen=True)
class Prophesee(Protocol):
    """The rules for event recordings: `prophesee` (Gen1) and `prophesee_1mpx` as RVT applies them, and `toolbox`.

    Each label time of each clip is one image. Truth and detections alike count only with t > `skip_us` (strictly) after
    the recording's start (`start_us` of its images, 0 where they have none; see `data.events.Span.start_us`), diagonal
    >= `min_diagonal` and both sides >= `min_side`, in pixels of the recording. An image whose truth is filtered away is
    not evaluated, so detections there are free. Then COCO AP, with area = w * h.

    sensor_width: of the recordings that the sizes are for; those half as wide have half the sizes, others are
                  rejected. None: the sizes apply to every recording
    tolerance_us: a label time takes the detections of its clip that are at most so far from it, ends included. Those
                  computed between labels then become false positives, and one may serve several label times. With 0 a
                  detection belongs to the label time it was computed for, which is the same for detectors that
                  predict at label times only, if these are farther apart than the tolerance
    """

    name: str = "prophesee"
    title: str = "Prophesee Gen1"
    skip_us: int = 500_000
    min_diagonal: float = 30.0
    min_side: float = 10.0
    sensor_width: int | None = None
    tolerance_us: int = 0

    @property
    def rule(self) -> str:
        half = f" (half of both at {self.sensor_width / 2:g} px width)" if self.sensor_width else ""
        near = f"each takes the detections within {self.tolerance_us / 1e3:g} ms; " if self.tolerance_us else ""
        return (
            f"{self.title}: truth and detections with t > {self.skip_us / 1e6:g} s, "
            f"diagonal >= {self.min_diagonal:g} px, sides >= {self.min_side:g} px{half}; "
            f"label times without such truth are not evaluated; {near}then COCO AP"
        )

    def counted(
        self, ground_truth: dict[str, Any], detections: list[dict[str, Any]]
    ) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        check_boxes(ground_truth, detections)
        images = {image["id"]: image for image in self._timed(ground_truth["images"])}
        scales = {image_id: self._scale(image) for image_id, image in images.items()}

        def counts(box: dict[str, Any]) -> bool:
            image_id, (_, _, w, h) = box["image_id"], box["bbox"]
            diagonal, side = self.min_diagonal * scales[image_id], self.min_side * scales[image_id]
            return self._late(images[image_id]) and w * w + h * h >= diagonal**2 and min(w, h) >= side

        truth = [_plain(a) for a in ground_truth["annotations"] if counts(a)]
        labelled = {a["image_id"] for a in truth}
        evaluated = [image for image_id, image in images.items() if image_id in labelled]
        found = self._near(evaluated, images, [d for d in detections if counts(d)])
        return {**ground_truth, "images": evaluated, "annotations": truth}, best_of_each_image(found)

    def score(self, ground_truth: dict[str, Any], detections: list[dict[str, Any]]) -> dict[str, Any]:
        truth, found = self.counted(ground_truth, detections)
        return {**coco_ap(truth, found), "images": len(truth["images"]), "boxes": len(truth["annotations"])}

    def by_size(self, ground_truth: dict[str, Any], detections: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
        truth, found = self.counted(ground_truth, detections)
        scales = {image["id"]: self._scale(image) for image in truth["images"]}
        limits = self.min_diagonal, 2 * self.min_diagonal, 4 * self.min_diagonal
        return Sizes("diagonal", limits).score(truth, found, scales=scales)

    def why_none(self, ground_truth: dict[str, Any]) -> str:
        early = {image["id"] for image in ground_truth["images"] if not self._late(image)}
        boxes = ground_truth["annotations"]
        count = sum(a["image_id"] in early for a in boxes)
        late = [a["bbox"] for a in boxes if a["image_id"] not in early]
        what = f": {count} come at t <= {self.skip_us / 1e6:g} s of their recording" if count else ""
        if late:
            w, h = max((bbox[2:] for bbox in late), key=lambda size: (min(size), max(size)))
            what += f"{', ' if what else ': '}{len(late)} are too small, the largest {w:g} x {h:g} px"
        return what

    def _late(self, image: dict[str, Any]) -> bool:
        return image["t_us"] - image.get("start_us", 0) > self.skip_us

    def _near(
        self, evaluated: list[dict[str, Any]], images: dict[int, dict[str, Any]], found: list[dict[str, Any]]
    ) -> list[dict[str, Any]]:
        """The detections of each evaluated label time, by time, as results of its image."""
        clips: dict[Any, list[tuple[int, dict[str, Any]]]] = defaultdict(list)
        for detection in found:
            image = images[detection["image_id"]]
            clips[image["clip"]].append((image["t_us"], detection))
        time = itemgetter(0)
        for timed in clips.values():
            timed.sort(key=time)  # keeps the order of equal times
        taken = []
        for image in evaluated:
            timed = clips[image["clip"]]
            first = bisect_left(timed, image["t_us"] - self.tolerance_us, key=time)
            last = bisect_right(timed, image["t_us"] + self.tolerance_us, key=time)
            taken += [{**detection, "image_id": image["id"]} for _, detection in timed[first:last]]
        return taken

    def _scale(self, image: dict[str, Any]) -> float:
        width = image.get("width")
        if self.sensor_width is None or width == self.sensor_width:
            return 1.0
        if width is None or 2 * width != self.sensor_width:
            raise UserError(
                f"image {image['id']} has width {width}: the {self.name} protocol is for recordings "
                f"{self.sensor_width} or {self.sensor_width // 2} px wide. Use --protocol prophesee for Gen1"
            )
        return 0.5

    def _timed(self, images: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """`images`, after checking that each has its own (clip, t_us)."""
        for image in images:
            if "t_us" not in image or "clip" not in image:
                raise UserError(
                    f"image {image['id']} has no clip and t_us: the {self.name} protocol is for event recordings. "
                    "Use --protocol coco for images"
                )
        first: dict[str, int] = {}
        for image in images:
            if "start_us" not in image:
                first[image["clip"]] = min(image["t_us"], first.get(image["clip"], image["t_us"]))
        for clip, t_us in first.items():
            if t_us > LONGEST_US:
                raise UserError(
                    f"clip {clip!r}: its first label time is t_us = {t_us}, hours after 0, so its clock did not begin "
                    f'with the recording, and "t > {self.skip_us / 1e6:g} s" counts from there. Give its images '
                    "`start_us`, the time of the first event"
                )
        counts = Counter((image["clip"], image["t_us"]) for image in images)
        moment, count = max(counts.items(), key=lambda item: item[1], default=(None, 1))
        if count > 1:
            raise UserError(
                f"{count} images share clip and t_us {moment}: a label time is one image. Merge their boxes"
            )
        return images


def _plain(annotation: dict[str, Any]) -> dict[str, Any]:
    """The annotation with area w * h and without flags."""
    area = annotation["bbox"][2] * annotation["bbox"][3]
    return {**annotation, "area": area, "iscrowd": 0, "difficult": 0}


PROTOCOLS: dict[str, Protocol] = {
    p.name: p
    for p in (
        Coco(),
        Voc("voc07", eleven_points=True),
        Voc("voc10", eleven_points=False),
        Prophesee(),
        Prophesee("prophesee_1mpx", "Prophesee 1Mpx", min_diagonal=60.0, min_side=20.0, sensor_width=1280),
        # psee_evaluator.py --camera GEN1 of the Prophesee automotive dataset toolbox, whose numbers are not the paper's
        Prophesee("toolbox", "Prophesee toolbox, Gen1", skip_us=100_000, min_side=20.0, tolerance_us=50_000),
        Raw(),
    )
}


def get_protocol(name: str) -> Protocol:
    """The protocol `name`. UserError naming the nearest one for an unknown name."""
    if name not in PROTOCOLS:
        raise UserError(none_of(f"unknown protocol {name!r}", name, sorted(PROTOCOLS)))
    return PROTOCOLS[name]
