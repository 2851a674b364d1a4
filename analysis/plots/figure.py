"""What all plots share: titles, names drawn as they are, writing the png."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from ..draw import legible


def title_of_axes(axes: Axes, title: str, conditions: str) -> None:
    """A title above one of the axes."""
    axes.set_title(_lines(title, conditions), fontsize=10, parse_math=False)


def titled(figure: Figure, title: str, conditions: str) -> None:
    """A title above all axes."""
    figure.suptitle(_lines(title, conditions), fontsize=10, parse_math=False)


def _lines(title: str, conditions: str) -> str:
    return f"{legible(title, 90)}\n{conditions}"


def verbatim(texts: Iterable[Text]) -> None:
    """Disable mathtext, so that a "$" in a name is drawn as it is."""
    for text in texts:
        text.set_parse_math(False)


def write_figure(figure: Figure, path: str | Path) -> None:
    """Write a png with an Agg canvas: pyplot would keep the figure and choose a backend."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure).print_png(path)
