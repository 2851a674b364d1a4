"""Draw detections: boxes with names on images, event frames as images, ground truth beside predictions."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from registry import UserError

Colour: TypeAlias = tuple[int, int, int]

# Okabe and Ito's palette for colour-blind readers; its blues come last, since OFF events are blue.
PALETTE: tuple[Colour, ...] = (
    (230, 159, 0),
    (0, 158, 115),
    (204, 121, 167),
    (240, 228, 66),
    (213, 94, 0),
    (86, 180, 233),
    (0, 114, 178),
)
BACKGROUND: Colour = (22, 26, 35)
ON: Colour = (255, 255, 255)
OFF: Colour = (74, 134, 214)
TEXT: Colour = (222, 226, 234)
SHOWN = 0.3  # score from which detections are drawn


def class_colours(count: int) -> list[Colour]:
    """`count` distinct colours. The first 7 are distinct for colour-blind readers, further ones are not."""
    hues = ((0.07 + 0.618034 * k) % 1 for k in range(max(0, count - len(PALETTE))))
    more = (colorsys.hls_to_rgb(hue, (0.45, 0.62, 0.78)[k % 3], 0.75) for k, hue in enumerate(hues))
    return [*PALETTE, *((round(255 * r), round(255 * g), round(255 * b)) for r, g, b in more)][:count]


def legible(name: str, longest: int = 32) -> str:
    """`name` on one line that can be drawn: line breaks, controls and halves of surrogate pairs become �."""
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in name)
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


def draw_boxes(
    image: Tensor,
    boxes: Tensor,
    labels: Tensor,
    class_names: Sequence[str],
    scores: Tensor | None = None,
    zoom: int | None = None,
    tracks: Tensor | None = None,
) -> Tensor:
    """`image` uint8 [3, H, W] with boxes [N, 4] xyxy (pixels of `image`), each named, with its score if given, and with
    the number of its track if that is 0 or more: "car #3 0.87".

    Returns uint8 [3, zoom * H, zoom * W]. `zoom` is a whole number, by default such that names are legible: the
    shorter side reaches 480 pixels, at most 4. Boxes of higher score are on top. Labels without a name are shown as
    their number.
    ValueError for other shapes or dtypes, and for boxes that are not finite.
    """
    if image.dtype != torch.uint8 or image.dim() != 3 or image.shape[0] != 3:
        raise UserError(f"draw_boxes takes uint8 [3, H, W], this is {image.dtype} {list(image.shape)}")
    if not (len(boxes) == len(labels) == (len(boxes) if scores is None else len(scores))):
        raise UserError(f"{len(boxes)} boxes, {len(labels)} labels: there must be one label and score per box")
    if not boxes.isfinite().all():
        raise UserError("a box to be drawn is not finite: the weights that gave it have diverged")
    height, width = image.shape[1:]
    zoom = zoom or zoom_of(height, width)
    canvas = to_pil(image).resize((zoom * width, zoom * height), Image.Resampling.NEAREST)
    pen = ImageDraw.Draw(canvas)
    line = max(2, round(min(canvas.size) / 240))
    font = typeface(max(11, round(min(canvas.size) / 34)))
    order = range(len(boxes)) if scores is None else scores.argsort(stable=True).tolist()
    colours = class_colours(max(len(class_names), int(labels.max()) + 1 if len(labels) else 0))
    corners = (zoom * boxes.detach().cpu()).tolist()
    for i in order:
        x1, y1, x2, y2 = corners[i]
        # The last pixel inside is x2 - 1; an empty box is still a point.
        pen.rectangle((x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)), outline=colours[int(labels[i])], width=line)
    for i in order:  # after all boxes, so that no line crosses a name
        label = int(labels[i])
        text = legible(class_names[label]) if label < len(class_names) else str(label)
        text += f" #{int(tracks[i])}" if tracks is not None and tracks[i] >= 0 else ""
        text += "" if scores is None else f" {float(scores[i]):.2f}"
        _tag(pen, text, corners[i][0], corners[i][1], colours[label], font, canvas.size)
    return to_tensor(canvas)


def event_image(frames: Tensor) -> Tensor:
    """Event counts [T, 2, H, W] (OFF, ON) as one image uint8 [3, H, W]: ON white, OFF blue on a dark ground.

    Brightness grows with the number of events and falls linearly with age, to a quarter at the oldest step; each pixel
    shows its stronger polarity. ValueError for another number of channels.
    """
    if frames.dim() != 4 or frames.shape[1] != 2 or not len(frames):
        raise UserError(f"event_image takes [T, 2, H, W] with T >= 1, this is {list(frames.shape)}")
    age = torch.linspace(0.25, 1.0, len(frames)) if len(frames) > 1 else torch.ones(1)
    counts = frames.detach().cpu().float()
    strength = ((1 - 0.4**counts) * age[:, None, None, None]).amax(0)  # 0.6, 0.84, 0.94 .. for 1, 2, 3 .. events
    off, on = strength
    ground, colours = torch.tensor(BACKGROUND).float(), torch.tensor([OFF, ON]).float()
    hue = torch.where((on >= off)[..., None], colours[1], colours[0])
    image = ground + (hue - ground) * torch.maximum(on, off)[..., None]
    return image.round().to(torch.uint8).permute(2, 0, 1).contiguous()


def side_by_side(
    x: Tensor, truth: dict[str, Tensor], prediction: dict[str, Tensor], class_names: Sequence[str]
) -> Tensor:
    """Truth left, prediction right, under a caption: uint8 [3, H', W'].

    `x` is `Sample.x`: an image uint8 [3, H, W] or events [T, 2, H, W]. `truth` holds boxes and labels, `prediction`
    boxes, scores and labels, all in pixels of `x`. Predictions with a score below `SHOWN` are not drawn; the caption
    counts them.
    """
    image = event_image(x) if x.dim() == 4 else x.detach().cpu()
    boxes, labels, scores = _shown(prediction)
    left = draw_boxes(image, truth["boxes"].detach().cpu(), truth["labels"].detach().cpu(), class_names)
    right = draw_boxes(image, boxes, labels, class_names, scores)
    hidden = len(prediction["scores"]) - len(boxes)
    words = (
        f"truth: {_count(len(truth['boxes']))}",
        f"prediction: {_count(len(boxes))} with score ≥ {SHOWN:g}" + (f", {hidden} below" if hidden else ""),
    )
    panels = [captioned(panel, text) for panel, text in zip((left, right), words, strict=True)]
    gap = max(4, left.shape[2] // 80)
    return torch.cat([panels[0], blank(panels[0].shape[1], gap), panels[1]], 2)


def overlay(
    x: Tensor,
    truth: dict[str, Tensor],
    prediction: dict[str, Tensor],
    class_names: Sequence[str],
    steps: bool = False,
) -> Tensor:
    """Truth (white, unnamed) and prediction in one image under a caption, legible as a thumbnail: uint8 [3, H', W'].

    Arguments as of `side_by_side`; about half as large. steps: below it a strip of the frames of events, if T > 1.
    """
    image = event_image(x) if x.dim() == 4 else x.detach().cpu()
    height, width = image.shape[1:]
    zoom = zoom_of(height, width, shorter_side=240)
    size = zoom * width, zoom * height
    canvas = to_pil(image).resize(size, Image.Resampling.NEAREST)
    pen = ImageDraw.Draw(canvas)
    for x1, y1, x2, y2 in (zoom * truth["boxes"].detach().cpu()).tolist():
        pen.rectangle((x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)), outline=(255, 255, 255), width=2)
    boxes, labels, scores = _shown(prediction)
    drawn = draw_boxes(to_tensor(canvas), zoom * boxes, labels, class_names, scores, zoom=1)
    drawn = captioned(drawn, f"truth, white: {len(truth['boxes'])}; found, score ≥ {SHOWN:g}: {len(boxes)}")
    with_strip = steps and x.dim() == 4 and len(x) > 1
    return torch.cat([drawn, time_strip(x, drawn.shape[2])], 1) if with_strip else drawn


def _shown(prediction: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes, labels and scores of the detections that are drawn, on the CPU."""
    shown = prediction["scores"].detach().cpu() >= SHOWN
    boxes, labels, scores = (prediction[key].detach().cpu()[shown] for key in ("boxes", "labels", "scores"))
    return boxes, labels, scores


def time_strip(frames: Tensor, width: int) -> Tensor:
    """The T frames of events [T, 2, H, W] in a row, oldest left, numbered: uint8 [3, H', width]."""
    steps, _, h, w = frames.shape
    gap = 4
    each = max(1, (width - gap * (steps - 1)) // steps)
    tiles = []
    for k in range(steps):
        tile = to_pil(event_image(frames[k : k + 1]))
        tile = tile.resize((each, max(1, round(each * h / w))), Image.Resampling.BILINEAR)
        tiles += [captioned(to_tensor(tile), f"t = {k + 1}"), blank(1, gap)]
    tiles = [tile.expand(-1, tiles[0].shape[1], -1) for tile in tiles[:-1]]
    strip = torch.cat(tiles, 2)[..., :width]
    return torch.cat([strip, blank(strip.shape[1], width - strip.shape[2])], 2)


def zoom_of(height: int, width: int, shorter_side: int = 480) -> int:
    """How many times an image is enlarged so that names on it are legible: its shorter side reaches `shorter_side`."""
    return min(4, max(1, -(-shorter_side // max(1, min(height, width)))))


def _tag(pen: ImageDraw.ImageDraw, text: str, x: float, y: float, colour: Colour, font, size: tuple[int, int]) -> None:
    """`text` on a plate of `colour` above the corner (x, y), or inside where there is no room; within the image."""
    _, top, text_width, text_bottom = pen.textbbox((0, 0), text, font=font)
    pad = 3
    plate_width, plate_height = text_width + 2 * pad, text_bottom - top + 2 * pad
    x = min(max(0, x), max(0, size[0] - plate_width))
    y = y - plate_height if y >= plate_height else max(0, y)
    y = min(y, max(0, size[1] - plate_height))
    pen.rectangle((x, y, x + plate_width - 1, y + plate_height - 1), fill=colour)
    brightness = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
    pen.text((x + pad, y + pad - top), text, fill=(0, 0, 0) if brightness > 110 else (255, 255, 255), font=font)


def captioned(panel: Tensor, text: str) -> Tensor:
    """`panel` with `text` on a strip above it."""
    width = panel.shape[2]
    size = max(11, min(18, width // 22))
    strip = Image.new("RGB", (width, size + 12), BACKGROUND)
    ImageDraw.Draw(strip).text((6, 5), text, fill=TEXT, font=typeface(size))
    return torch.cat([to_tensor(strip), panel], 1)


def _count(boxes: int) -> str:
    return f"{boxes} box" if boxes == 1 else f"{boxes} boxes"


def blank(height: int, width: int) -> Tensor:
    return torch.tensor(BACKGROUND, dtype=torch.uint8)[:, None, None].expand(3, height, width)


@lru_cache
def typeface(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, installed with matplotlib: Latin, Greek and Cyrillic class names."""
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)


def to_pil(image: Tensor) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(image.detach().cpu().permute(1, 2, 0).numpy()))


def to_tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
