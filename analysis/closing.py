"""When event frames close, per pixel: shares of each micro-bin over a dataset, and images of single windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from PIL import Image, ImageDraw
from torch import Tensor, nn

from models import Detector
from models.contracts import ClosesFrames
from models.layers.watch import watch

from .draw import BACKGROUND, TEXT, Colour, captioned, event_image, typeface, zoom_of
from .recorder import Recorder

OPEN: Colour = (58, 62, 72)  # a pixel whose frame did not close
NAMES = ("OFF", "ON")


class ClosingTimes(Recorder):
    """`with ClosingTimes(model) as closing: model(x)`, then `closing.shares()`.

    Empty for a model whose encoder closes no frames (`models.contracts.ClosesFrames`).
    """

    def __init__(self, model: nn.Module):
        encoder: Any = getattr(model, "encoder", None)
        layer = encoder.closing_layer() if isinstance(encoder, ClosesFrames) else None
        measure = {"bins": lambda layer, x, y: _histogram(encoder.closing_bins(y), len(y))}
        super().__init__({} if layer is None else {"encoder": layer}, measure)

    def shares(self) -> dict[str, dict[str, float]]:
        """{"frame 1": {"bin 1": share of pixels and channels that close it there, ..., "open": of those that do not}}.

        Bin 1 is the oldest of the window.
        """
        found = self.sums().get("encoder")
        if not found:
            return {}
        table = np.asarray(found["bins"])  # [slots, 1 + bins]
        table = table / table.sum(1, keepdims=True).clip(1)
        names = ["open", *(f"bin {t + 1}" for t in range(table.shape[1] - 1))]
        rows = (dict(zip(names, row.tolist(), strict=True)) for row in table)
        return {f"frame {k + 1}": {name: row[name] for name in (*names[1:], "open")} for k, row in enumerate(rows)}


def _histogram(closed: Tensor, bins: int) -> Tensor:
    """[slots, 1 + bins] of closing bins [slots, ...]: how many are open, and how many closed in each bin."""
    return torch.stack([(closed == t).flatten(1).sum(1) for t in range(-1, bins)], 1).double()


@torch.no_grad()
def closing_bins(model: Detector, x: Tensor) -> tuple[Tensor, int] | None:
    """(bin [slots, windows, C, H, W] that closed each frame of one sample x [1, Tl, Tm, C, H, W], -1 where it is open;
    number of bins Tm). None for a model whose encoder closes no frames."""
    encoder = model.encoder
    if not isinstance(encoder, ClosesFrames) or (layer := encoder.closing_layer()) is None:
        return None
    seen: list[tuple[Tensor, int]] = []
    with watch([layer], lambda layer, x, y: seen.append((encoder.closing_bins(y), len(y)))):
        model.encode(x)
    return torch.cat([closed for closed, _ in seen], 1), seen[0][1]


def closing_image(events: Tensor, closed: Tensor, bins: int) -> Tensor:
    """Events, and per channel the bin that closed their frame, side by side, one row per frame: uint8 [3, H', W'].

    Args:
        events: [T, 2, H, W] counts for display.
        closed: [frames, C, H, W] index of the bin, 0 the oldest, -1 open.
        bins: number of bins of a window.
    """
    height, width = closed.shape[-2:]
    zoom = zoom_of(height, width, shorter_side=240)
    colours = torch.tensor([OPEN, *bin_colours(bins)], dtype=torch.uint8)
    rows = []
    for k, frame in enumerate(closed.cpu()):
        shown = [("events", event_image(events)), *_maps(frame, colours, k, len(closed))]
        panels = [captioned(_enlarged(panel, zoom), title) for title, panel in shown]
        gap = torch.tensor(BACKGROUND, dtype=torch.uint8)[:, None, None].expand(3, panels[0].shape[1], 4)
        rows.append(torch.cat([part for panel in panels for part in (panel, gap)][:-1], 2))
    image = torch.cat(rows, 1)
    return torch.cat([image, _legend(bins, image.shape[2])], 1)


def bin_colours(bins: int) -> list[Colour]:
    """From dark (oldest bin) to bright (newest)."""
    shades = colormaps["viridis"](np.linspace(0.15, 1, bins))[:, :3]
    return [(int(r), int(g), int(b)) for r, g, b in (255 * shades).round()]


def _maps(frame: Tensor, colours: Tensor, k: int, frames: int) -> Sequence[tuple[str, Tensor]]:
    names = NAMES if len(frame) == 2 else [f"channel {c}" for c in range(len(frame))]
    which = f"frame {k + 1}, " if frames > 1 else ""
    return [
        (f"{which}{name}: closed in", colours[closed + 1].permute(2, 0, 1))
        for name, closed in zip(names, frame, strict=True)
    ]


def _enlarged(image: Tensor, zoom: int) -> Tensor:
    return image.repeat_interleave(zoom, 1).repeat_interleave(zoom, 2)


def _legend(bins: int, width: int) -> Tensor:
    """A strip with the colour of each bin."""
    size = 13
    strip = Image.new("RGB", (width, size + 14), BACKGROUND)
    pen, x = ImageDraw.Draw(strip), 6
    words = [f"bin {t + 1}" for t in range(bins)]
    words[0] += " (oldest)"
    words[-1] += " (newest)" if bins > 1 else ""
    for text, colour in [*zip(words, bin_colours(bins), strict=True), ("open", OPEN)]:
        pen.rectangle((x, 6, x + size, 6 + size), fill=colour)
        pen.text((x + size + 5, 5), text, fill=TEXT, font=typeface(size))
        x += size + 18 + int(pen.textlength(text, font=typeface(size)))
    return torch.from_numpy(np.array(strip)).permute(2, 0, 1).contiguous()
