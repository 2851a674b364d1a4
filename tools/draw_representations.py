"""All representations of one event window, side by side: `python -m tools.draw_representations OUT.png`.

The window is of a synthetic scene, made for it. Drawn is the newest step of each form, as `Representation.view` has it.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from analysis.draw import BACKGROUND, TEXT, event_picture
from data.events import open_events
from data.representations import build_representation, list_representations
from data.scenes import Scenes

SCENE = {"train": 1, "val": 1, "test": 1, "seconds": 1.0, "width": 240, "height": 180, "speed": 2.5, "noise_hz": 0.05}
SCENE |= {"max_pan": 40, "workers": 1, "pictures": False}


def draw(num_steps: int, window_ms: float, seed: int) -> list[tuple[str, Tensor]]:
    """(name, uint8 [3, H, W]) of every registered form, with its defaults."""
    with tempfile.TemporaryDirectory() as folder:
        scenes = SCENE | {"seed": seed}
        path = Scenes("train", root=f"{folder}/scenes", scenes=scenes).recordings[0]
        reader = open_events(path)
        t1, (height, width) = 900_000, reader.sensor_size or (0, 0)
        t0 = t1 - round(window_ms * 1e3)
        pictures = []
        for name in list_representations():
            form = build_representation(name, num_steps)
            x = form(reader.read(t0 - form.history_us, t1), t0, t1, height, width)
            shown = torch.from_numpy(form.view(x))
            pictures.append((name, shown[-1] if form.picture else event_picture(shown[-1:])))
        reader.close()
    return pictures


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.draw_representations")
    parser.add_argument("out", type=Path, help="a .png")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--window-ms", type=float, default=200)
    parser.add_argument("--columns", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    pictures = draw(args.steps, args.window_ms, args.seed)
    rows = -(-len(pictures) // args.columns)
    ground, text = (f"#{bytes(colour).hex()}" for colour in (BACKGROUND, TEXT))
    figure = Figure(figsize=(2.5 * args.columns, 2.06 * rows), facecolor=ground, layout="constrained")
    for axes in figure.subplots(rows, args.columns).flat:
        axes.axis("off")
        if pictures:
            name, picture = pictures.pop(0)
            axes.imshow(picture.permute(1, 2, 0).numpy(), interpolation="nearest")
            axes.set_title(name, fontsize=9, color=text)
    figure.savefig(args.out, dpi=100)


if __name__ == "__main__":
    main()
