"""Images of all layers of a network, one row each: when they fire, and their membranes against the threshold."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib import colormaps
from PIL import Image, ImageDraw
from torch import Tensor

from .draw import BACKGROUND, TEXT, Colour, legible, typeface
from .saturation import Histogram

NAME, CELLS, NUMBER, ROW, TOP, BOTTOM = 230, 340, 54, 13, 40, 24  # pixels
LONGEST = 38  # characters of a name
THRESHOLD: Colour = (255, 92, 92)
WINDOW: Colour = (96, 214, 255)
DECADES = 3  # of firing rates, from 0.001 to 1
RATES, SHARES = (
    (255 * colormaps[name](np.linspace(0, 1, 256))[:, :3]).round().astype(np.uint8) for name in ("inferno", "gray")
)


def firing_image(rates: Mapping[str, Sequence[Sequence[float]]]) -> Tensor:
    """Layer x time: the firing rate of each layer in each step as colour, on a logarithmic scale, and its mean over the
    steps as a number. A step of integers has one column for each level. uint8 [3, H, 624].

    rates: {layer: [T][levels]}, the shares of outputs of each step that reach each level (`SpikeTimes.rates`). Layers
    of another T than most, as a sampler of micro-bins, have it beside their name.
    """
    tables = {name: np.asarray(of_steps) for name, of_steps in rates.items()}
    steps, _ = Counter(len(table) for table in tables.values()).most_common(1)[0]
    rows = {name if len(table) == steps else f"{name}, {len(table)} steps": table for name, table in tables.items()}
    numbers = {name: f"{100 * table[:, 0].mean():.3g} %" for name, table in rows.items()}
    canvas, pen = _rows({name: RATES[_shade(table.reshape(-1))] for name, table in rows.items()}, numbers)
    levels = max(table.shape[1] for table in tables.values())
    columns = f"; columns of a step: at least 1 .. {levels}" if levels > 1 else ""
    pen.text((6, 5), f"firing rate: share of outputs that are not 0{columns}", fill=TEXT, font=typeface(12))
    for t in range(steps):
        left, right = (NAME + CELLS * edge // steps for edge in (t, t + 1))
        pen.text(((left + right) // 2, TOP - 4), f"t = {t + 1}", fill=TEXT, font=typeface(11), anchor="mb")
    for row, table in enumerate(rows.values()):
        for t in range(1, len(table)):
            edge = NAME + CELLS * t // len(table)
            pen.line((edge, TOP + ROW * row, edge, TOP + ROW * (row + 1) - 1), fill=BACKGROUND)
    for k in range(DECADES + 1):
        x, rate = NAME + 85 * k, 10.0 ** (k - DECADES)
        colour = tuple(int(c) for c in RATES[_shade(np.array(rate))])
        pen.rectangle((x, canvas.height - 16, x + 12, canvas.height - 6), fill=colour, outline=TEXT)
        pen.text((x + 18, canvas.height - 7), f"{100 * rate:g} %", fill=TEXT, font=typeface(11), anchor="ls")
    return _tensor(canvas)


def membrane_image(histograms: Mapping[str, Histogram]) -> Tensor:
    """How the membranes H of each layer are distributed, in units of its threshold: brightness is the root of the share
    of a value, relative to the most frequent one. Red: where a neuron begins to fire; blue: the ends of the window in
    which it passes a gradient. At the right the share of H in that window. uint8 [3, H, 624]."""
    of_all = list(histograms.values())
    low, high = of_all[0].low, of_all[0].high
    counts = {name: np.asarray(histogram.counts) for name, histogram in histograms.items()}
    shades = {name: SHARES[(255 * np.sqrt(of / max(of.max(), 1))).astype(np.uint8)] for name, of in counts.items()}
    canvas, pen = _rows(shades, {name: f"{100 * h.inside:.3g} %" for name, h in histograms.items()})

    def place(value: float) -> int:
        return NAME + round(CELLS * (value - low) / (high - low))

    for row, histogram in enumerate(of_all):
        for values, colour in ((histogram.window, WINDOW), (histogram.fires, THRESHOLD)):
            for value in values:
                if low <= value <= high:
                    pen.line((place(value), TOP + ROW * row, place(value), TOP + ROW * (row + 1) - 2), fill=colour)
    for value in range(math.ceil(low), math.floor(high) + 1):
        pen.text((place(value), TOP - 4), str(value), fill=TEXT, font=typeface(11), anchor="mb")
    beyond = "the first and the last column also have what lies beyond"
    pen.text((NAME, canvas.height - 7), beyond, fill=TEXT, font=typeface(11), anchor="ls")
    x = 6
    words = (("membrane H / threshold", TEXT), ("begins to fire", THRESHOLD), ("window of the gradient, share", WINDOW))
    for text, colour in words:
        pen.text((x, 5), text, fill=colour, font=typeface(12))
        x += 22 + int(pen.textlength(text, font=typeface(12)))
    return _tensor(canvas)


def _rows(shades: Mapping[str, np.ndarray], numbers: Mapping[str, str]) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """A row for each layer: its name, cells of the colours [N, 3], a number."""
    canvas = Image.new("RGB", (NAME + CELLS + NUMBER, TOP + ROW * len(shades) + BOTTOM), BACKGROUND)
    pen = ImageDraw.Draw(canvas)
    for row, (name, colours) in enumerate(shades.items()):
        y = TOP + ROW * row
        cells = Image.fromarray(colours[None]).resize((CELLS, ROW - 1), Image.Resampling.NEAREST)
        canvas.paste(cells, (NAME, y))
        pen.text((6, y + ROW - 3), _short(name), fill=TEXT, font=typeface(11), anchor="ls")
        pen.text((NAME + CELLS + 5, y + ROW - 3), numbers[name], fill=TEXT, font=typeface(11), anchor="ls")
    return canvas, pen


def _short(name: str) -> str:
    name = name.removeprefix("network.").removesuffix(".neuron").replace(".neuron,", ",")
    return legible(name if len(name) <= LONGEST else f"…{name[1 - LONGEST :]}", LONGEST)


def _shade(rates: np.ndarray) -> np.ndarray:
    """Indices into `RATES`: 0 for a rate up to 0.001, 255 for 1."""
    return (255 * (1 + np.log10(np.maximum(rates, 10.0**-DECADES)) / DECADES)).round().astype(np.uint8)


def _tensor(canvas: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(canvas)).permute(2, 0, 1).contiguous()
