"""Line charts as SVG, whose text and grid take the colours of the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..draw import Colour
from .markup import Markup, escape, hexadecimal, join, tag

WIDTH, HEIGHT = 420, 300
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 10, 40
TICKS, MOST = 5, 8  # of the unit axes, of others


@dataclass(frozen=True)
class Line:
    """x, y: equally many; a y of None interrupts the line. colour: None: grey, below the others. mean: thick, dashed.
    dots: a point at each value."""

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    colour: Colour | None = None
    mean: bool = False
    dots: bool = False


def chart(
    lines: Sequence[Line],
    x_label: str,
    y_label: str,
    caption: str,
    marks: Sequence[tuple[float, float, Colour]] = (),
    unit: bool = True,
    logarithmic: bool = False,
) -> Markup:
    """A figure. marks: points (x, y, colour). unit: both axes are 0 to 1; otherwise they span the values, y
    from 0, with ticks at the values of x. logarithmic: the x axis."""
    xs = [x for line in lines for x in line.x]
    ys = [y for line in lines for y in line.y if y is not None]
    if not xs or not ys:
        return Markup()
    scale = math.log if logarithmic else float
    low, high = (0.0, 1.0) if unit else (scale(min(xs)), scale(max(xs)))
    top = 1.0 if unit else _above(max(ys))
    span = high - low or 1.0

    def place(x: float, y: float) -> tuple[float, float]:
        across = (scale(x) - low) / span if high > low else 0.5
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - y / top * (HEIGHT - TOP - BOTTOM)

    x_ticks = [(k / TICKS, f"{k / TICKS:g}") for k in range(TICKS + 1)] if unit else _ticks(xs)
    shapes = [_grid(place, x_ticks, top), _labels(x_label, y_label)]
    shapes += [_line(line, place) for line in sorted(lines, key=lambda line: (line.mean, line.colour is not None))]
    shapes += [_dot(*place(x, y), colour) for x, y, colour in marks]
    drawing = tag("svg", join(shapes), viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=caption)
    return tag("figure", drawing + tag("figcaption", caption), class_="chart")


def _above(value: float) -> float:
    """The next round number."""
    if value <= 0:
        return 1.0
    power = 10 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if step * power >= value * 0.999)


def _ticks(xs: Sequence[float]) -> list[tuple[float, str]]:
    """(value, text) at the values of x, at most `MOST` of them."""
    ticks = sorted({(x, f"{x:.3g}") for x in xs})
    return ticks[:: math.ceil(len(ticks) / MOST)]


def _grid(place, x_ticks: Sequence[tuple[float, str]], top: float) -> Markup:
    lines, x0, x1 = [], LEFT, WIDTH - RIGHT
    for k in range(TICKS + 1):
        value = top * k / TICKS
        y = HEIGHT - BOTTOM - k / TICKS * (HEIGHT - TOP - BOTTOM)
        lines.append(f'<path class="grid" d="M{x0} {y:.1f}H{x1}"/>')
        lines.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.3g}</text>')
    for value, text in x_ticks:
        x, _ = place(value, 0)
        lines.append(f'<path class="grid" d="M{x:.1f} {TOP}V{HEIGHT - BOTTOM}"/>')
        near = len(text) > 3 and {LEFT: "start", x1: "end"}.get(round(x))  # so that it stays within the drawing
        anchor = near or "middle"
        lines.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 15}" text-anchor="{anchor}">{escape(text)}</text>')
    return Markup("\n".join(lines))


def _labels(x_label: str, y_label: str) -> Markup:
    across, middle = (LEFT + WIDTH - RIGHT) / 2, (TOP + HEIGHT - BOTTOM) / 2
    return Markup(
        f'<text x="{across}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x_label)}</text>'
        f'<text transform="translate(11 {middle}) rotate(-90)" text-anchor="middle">{escape(y_label)}</text>'
    )


def _line(line: Line, place) -> Markup:
    steps, broken, dots = [], True, []
    for x, y in zip(line.x, line.y, strict=True):
        if y is None:
            broken = True
            continue
        across, down = place(x, y)
        steps.append(f"{'M' if broken else 'L'}{across:.1f} {down:.1f}")
        broken = False
        if line.dots:
            dots.append(_dot(across, down, line.colour))
    kind = "line mean" if line.mean else "line" if line.colour else "line faint"
    style = f' style="--c:{hexadecimal(line.colour)}"' if line.colour else ""
    title = tag("title", line.name)
    return Markup(f'<path class="{kind}"{style} d="{"".join(steps)}">{title}</path>{"".join(dots)}')


def _dot(x: float, y: float, colour: Colour | None) -> Markup:
    style = f' style="--c:{hexadecimal(colour)}"' if colour else ""
    return Markup(f'<circle class="dot"{style} cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>')
