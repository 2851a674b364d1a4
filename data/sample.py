"""`Sample`, an item of a dataset; `Batch`, stacked by `collate`; `Placement`, maps boxes to the original image."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Placement:
    """Affine map from the original image to `x`: `x_pixel = original_pixel * scale + offset`, per axis."""

    scale_x: float = 1.0
    scale_y: float = 1.0
    left: float = 0.0
    top: float = 0.0

    def to_original(self, boxes: Tensor) -> Tensor:
        """Boxes [N, 4] xyxy in pixels of `x` -> pixels of the original image."""
        offset = boxes.new_tensor([self.left, self.top, self.left, self.top])
        scale = boxes.new_tensor([self.scale_x, self.scale_y, self.scale_x, self.scale_y])
        return (boxes - offset) / scale

    def to_sample(self, boxes: Tensor) -> Tensor:
        """Boxes [N, 4] xyxy in pixels of the original image -> pixels of `x`."""
        offset = boxes.new_tensor([self.left, self.top, self.left, self.top])
        scale = boxes.new_tensor([self.scale_x, self.scale_y, self.scale_x, self.scale_y])
        return boxes * scale + offset


@dataclass
class Sample:
    """One image or one event window with its boxes.

    x:             image uint8 [3, H, W] (RGB), or events [T, C, H, W] in the dtype of their representation
    boxes:         float32 [N, 4] xyxy, absolute pixels of `x`; N = 0 is normal
    labels:        int64 [N], from 0
    image_id:      id of the image in `dataset.ground_truth()["images"]`
    original_size: (height, width) before any resizing
    labelled:      False: an event window without a label at its end, which only updates the state of a detector
    start:         the state is reset before it: the first window of a recording, or any sample of random sampling
    """

    x: Tensor
    boxes: Tensor
    labels: Tensor
    image_id: int
    original_size: tuple[int, int]
    placement: Placement = field(default_factory=Placement)
    labelled: bool = True
    start: bool = True


@dataclass
class Batch:
    """Samples of one shape, stacked: images `x` [B, 3, H, W], events [T, B, C, H, W] or micro-bins
    [B, T, bins, C, H, W], in their own dtype.

    targets: boxes and labels of each sample; None for an event window without a label at its end
    starts:  bool [B]: `Sample.start` of each
    """

    x: Tensor
    targets: list[dict[str, Tensor] | None]
    image_ids: list[int]
    original_sizes: list[tuple[int, int]]
    placements: list[Placement]
    scale: float
    starts: Tensor

    def to(self, device: torch.device | str) -> tuple[Tensor, list[dict[str, Tensor] | None]]:
        """(float32 input times `scale`, targets), both on `device`, as `Detector.forward` takes them."""
        x = self.x.to(device, non_blocking=True).float()
        if self.scale != 1.0:
            x = x * self.scale
        targets = [
            None if t is None else {k: v.to(device, non_blocking=True) for k, v in t.items()} for t in self.targets
        ]
        return x, targets

    def pin_memory(self) -> Batch:
        self.x = self.x.pin_memory()
        self.targets = [t if t is None else {k: v.pin_memory() for k, v in t.items()} for t in self.targets]
        return self


def collate(samples: list[Sample], scale: float) -> Batch:
    """Stack samples. The batch axis of event frames [T, C, H, W] is the second one, as in SpikingJelly."""
    xs = [s.x for s in samples]
    return Batch(
        x=torch.stack(xs, dim=1 if xs[0].dim() == 4 else 0),
        targets=[{"boxes": s.boxes, "labels": s.labels} if s.labelled else None for s in samples],
        image_ids=[s.image_id for s in samples],
        original_sizes=[s.original_size for s in samples],
        placements=[s.placement for s in samples],
        scale=scale,
        starts=torch.tensor([s.start for s in samples]),
    )
