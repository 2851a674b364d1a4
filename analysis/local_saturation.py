"""Local firing saturation: how often neighbouring neurons all fire at their largest rate, on objects and off them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.samplers.base import Sampler

from .firing_rate import spiking_layers
from .recorder import Recorder
from .spike_times import largest_output

SIDE, SATURATED = 3, 0.9


class LocalSaturation(Recorder):
    """`with LocalSaturation(model, boxes, size) as local: model(x)`, then `local.shares()`.

    Of each layer of spikes or integers [T, B, C, h, w], but not of samplers of events: the share of its windows of
    3 x 3 neurons of a channel whose mean output over T is at least 0.9 of the largest one (1, or D of `ilif`). There
    the layer shows a patch without structure. A window is on an object if its centre lies in a box; at borders it is
    the part that there is.

    After the Local Firing Saturation Index of SpikeDet (arXiv 2501.15151), whose formula is not public: the size of the
    window and the bound are ours.

    Args:
        boxes: per image [N, 4] xyxy in pixels of x, N >= 0; None for an image that is left out.
        size: (height, width) of x.
    """

    def __init__(self, model: nn.Module, boxes: Sequence[Tensor | None], size: tuple[int, int]):
        sampled = {m for sampler in model.modules() if isinstance(sampler, Sampler) for m in sampler.modules()}
        spiking = spiking_layers(model).items()
        layers = {name: layer for name, layer in spiking if layer.emits and layer not in sampled}
        super().__init__(layers, {"counts": partial(_counts, _Objects(boxes, size))})

    def shares(self) -> dict[str, dict[str, float]]:
        """{layer: {"on_objects", "off_objects": share of saturated windows}}, without a place that has no window, in
        the order of the network."""
        names = ("on_objects", "off_objects")
        return {
            layer: {
                name: full / windows for name, (windows, full) in zip(names, sums["counts"], strict=True) if windows
            }
            for layer, sums in self.sums().items()
        }


class _Objects:
    """`objects(h, w, device)`: which cells of a map of (h, w) lie on objects of the labelled images, and which beside
    them, bool [B, 1, h, w] each."""

    def __init__(self, boxes: Sequence[Tensor | None], size: tuple[int, int]):
        # Copies: those of a loader's worker lie in shared memory, each with a descriptor.
        self.boxes, self._size = [None if b is None else b.clone() for b in boxes], size
        self._masks: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}

    def __call__(self, h: int, w: int, device: torch.device) -> tuple[Tensor, Tensor]:
        if (h, w) not in self._masks:
            known = torch.tensor([boxes is not None for boxes in self.boxes]).view(-1, 1, 1, 1)
            none = torch.zeros(0, 4)
            inside = torch.stack([_inside(none if b is None else b.cpu(), h, w, self._size) for b in self.boxes])
            self._masks[h, w] = (inside & known).to(device), (~inside & known).to(device)
        return self._masks[h, w]


def _counts(objects: _Objects, layer: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """[2, 2] float64: windows, and saturated ones, on objects and off them."""
    if y.dim() != 5 or y.shape[1] != len(objects.boxes):
        return torch.zeros(2, 2, dtype=torch.float64, device=y.device)
    rate = y.abs().mean(0, dtype=torch.float32) / largest_output(layer)
    mean = F.avg_pool2d(rate, SIDE, 1, SIDE // 2, count_include_pad=False)
    full = (mean >= SATURATED).sum(1, keepdim=True)
    places = objects(y.shape[-2], y.shape[-1], y.device)
    return torch.stack([torch.stack([where.sum() * y.shape[2], (full * where).sum()]) for where in places]).double()


def _inside(boxes: Tensor, h: int, w: int, size: tuple[int, int]) -> Tensor:
    """bool [1, h, w]: cells of a map of an image of `size` whose centre lies in one of `boxes` [N, 4] xyxy."""
    y, x = ((torch.arange(n) + 0.5) * side / n for n, side in zip((h, w), size, strict=True))
    x1, y1, x2, y2 = boxes[:, :, None].unbind(1)
    across, down = (x >= x1) & (x < x2), (y >= y1) & (y < y2)
    return (down[:, :, None] & across[:, None]).any(0, keepdim=True)
