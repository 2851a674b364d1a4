"""Draw all representations of one event window side by side: `python -m tools.draw_representations OUT.png`.

The window is of a generated scene. Up to four channels of the newest step are drawn per representation, as a network
gets them, with a colour bar of their values.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from analysis.draw import BACKGROUND, TEXT
from data.recordings import open_events
from data.representations import build_representation, list_representations
from data.scenes import generate_scenes

SCENE: dict[str, Any] = {"train": 1, "val": 1, "test": 1, "seconds": 1.0, "width": 160, "height": 120, "speed": 2.5}
SCENE |= {"noise_hz": 0.05, "max_pan": 40, "workers": 1, "pictures": False}
# Arguments of representations whose defaults would draw the same as another one.
OPTIONS: dict[str, dict[str, Any]] = {
    "sbt": {"polarity": "signed"},
    "sbn": {"polarity": "signed", "value": "binary"},
    "event_volume": {"bins": 3},
}


@dataclass
class Panel:
    """title: name and arguments; x: [C, H, W] of the newest step, one of equal channels; empty: x without events."""

    title: str
    x: np.ndarray
    empty: float

    @property
    def shown(self) -> list[int]:
        """Up to four channels, evenly spread."""
        return sorted({round(k) for k in np.linspace(0, len(self.x) - 1, min(4, len(self.x)))})

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the mosaic."""
        return (2, 2) if len(self.shown) > 2 else (1, len(self.shown))

    def mosaic(self) -> np.ndarray:
        """float [rows H, columns W] of the `shown` channels, row by row; what is left over is NaN."""
        (rows, columns), (height, width) = self.grid, self.x.shape[1:]
        tiles = np.full((rows * columns, height, width), np.nan)
        tiles[: len(self.shown)] = self.x[self.shown]
        return tiles.reshape(rows, columns, height, width).swapaxes(1, 2).reshape(rows * height, columns * width)


def draw(num_steps: int, window_ms: float, seed: int) -> list[Panel]:
    """A panel of every registered form."""
    with tempfile.TemporaryDirectory() as folder:
        scenes = SCENE | {"seed": seed}
        reader = open_events(generate_scenes(f"{folder}/scenes", **scenes) / "train" / "scene_0000_td.dat")
        t1, (height, width) = 900_000, reader.sensor_size or (0, 0)
        t0 = t1 - round(window_ms * 1e3)
        panels = []
        for name in list_representations():
            options = OPTIONS.get(name, {})
            form = build_representation({"name": name, **options}, num_steps)
            x = form(reader.read(t0 - form.history_us, t1), t0, t1, height, width)[-1]
            title = ", ".join([name, *(f"{key} {value}" for key, value in options.items())])
            shape = " x ".join(map(str, x.shape[:-2]))
            x = x[:1] if form.gray_images else x.reshape(-1, height, width)
            panels.append(Panel(f"{title}\n[{shape}, H, W] {x.dtype}", x, form.empty))
        reader.close()
    return panels


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.draw_representations")
    parser.add_argument("out", type=Path, help="a .png")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--window-ms", type=float, default=200)
    parser.add_argument("--columns", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    panels = draw(args.steps, args.window_ms, args.seed)
    rows = -(-len(panels) // args.columns)
    ground, text = (f"#{bytes(colour).hex()}" for colour in (BACKGROUND, TEXT))
    figure = Figure(figsize=(3.9 * args.columns, 3.1 * rows), facecolor=ground, layout="constrained")
    for axes in figure.subplots(rows, args.columns).flat:
        axes.axis("off")
        if not panels:
            continue
        panel = panels.pop(0)
        # The few largest values would leave all others dark.
        values = panel.x[panel.x != panel.empty]
        least, most = np.percentile(values, [3, 97]) if len(values) else (panel.empty, panel.empty + 1)
        if panel.x.min() < 0:
            limit = max(abs(least), abs(most))
            colours, norm = "RdBu_r", Normalize(-limit, limit)
        else:
            low, high = min(panel.empty, least), max(panel.empty, most)
            colours, norm = ("gray", Normalize(low, high)) if panel.empty else ("magma", PowerNorm(0.6, low, high))
        image = axes.imshow(panel.mosaic(), cmap=colours, norm=norm, interpolation="nearest")
        bar = figure.colorbar(image, ax=axes, shrink=0.85, extend="neither")
        bar.ax.tick_params(labelsize=8, colors=text)
        axes.set_title(panel.title, fontsize=10, color=text)
        height, width = panel.x.shape[1:]
        for k, channel in enumerate(panel.shown):
            x, y = 3 + k % panel.grid[1] * width, 3 + k // panel.grid[1] * height
            plate = {"facecolor": ground, "edgecolor": "none", "pad": 1.5}
            axes.text(x, y, str(channel), fontsize=8, color=text, va="top", bbox=plate)
            axes.add_patch(Rectangle((x - 3.5, y - 3.5), width, height, fill=False, edgecolor=text, linewidth=0.4))
    figure.savefig(args.out, dpi=90)


if __name__ == "__main__":
    main()
