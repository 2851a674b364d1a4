"""Pieces of HTML: text, numbers, tables, lists, figures. All text that is not markup passes through `escape`."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from ..draw import Colour, legible


class Markup(str):
    """HTML that is complete and safe; text that is added to it is escaped."""

    def __add__(self, other: str) -> Markup:
        return Markup(str.__add__(self, escape(other)))


def escape(content: Any) -> Markup:
    """`content` as HTML: markup as it is, text with its <, >, &, quotes and controls replaced."""
    return content if isinstance(content, Markup) else Markup(html.escape(legible(str(content), longest=2000)))


def tag(name: str, content: Any = "", **attributes: Any) -> Markup:
    """An element; `class_` and `for_` give class and for, `data_x` gives data-x. None leaves an attribute out."""
    given = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items() if value is not None}
    shown = "".join(f' {key}="{html.escape(str(value))}"' for key, value in given.items())
    return Markup(f"<{name}{shown}>{escape(content)}</{name}>")


def join(pieces: Iterable[Any], between: str = "\n") -> Markup:
    return Markup(between.join(escape(piece) for piece in pieces))


def number(value: float | int | None, digits: int = 3) -> str:
    """An AP, a rate or a count; "–" for one that is not defined."""
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:.{digits}f}"


def table(header: Sequence[Any], rows: Iterable[Sequence[Any]], id: str, numbers_from: int = 1) -> Markup:
    """A table that scrolls sideways where it is wider than the page. Columns from `numbers_from` are numbers."""

    def cells(name: str, row: Sequence[Any]) -> Markup:
        numeric = ["n" if k >= numbers_from else None for k in range(len(row))]
        return tag("tr", join((tag(name, cell, class_=c) for cell, c in zip(row, numeric, strict=True)), ""))

    body = join(cells("td", row) for row in rows)
    content = join([tag("thead", cells("th", header)), tag("tbody", body)])
    return tag("div", tag("table", content, id=id), class_="scroll")


def facts(rows: Iterable[tuple[str, Any]], id: str) -> Markup:
    """A table of names and their values in words."""
    lines = (tag("tr", tag("th", name, scope="row") + tag("td", value)) for name, value in rows)
    return tag("table", tag("tbody", join(lines)), id=id, class_="facts")


def bullets(lines: Iterable[Any], id: str) -> Markup:
    return tag("ul", join(tag("li", line) for line in lines), id=id)


def swatch(colour: Colour) -> Markup:
    return tag("i", class_="swatch", style=f"--c:{hexadecimal(colour)}")


def hexadecimal(colour: Colour) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def picture(file: Path, caption: Any) -> Markup:
    """The image of the png `file` within the page, as a png or a JPEG, whichever is smaller, with its caption."""
    png = file.read_bytes()
    with Image.open(file) as image, io.BytesIO() as stream:
        width, height = image.size
        image.convert("RGB").save(stream, "jpeg", quality=88)
        jpeg = stream.getvalue()
    kind, data = ("png", png) if len(png) <= len(jpeg) else ("jpeg", jpeg)
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    alternative = html.escape(str(caption))
    shown = Markup(f'<img src="{source}" width="{width}" height="{height}" alt="{alternative}">')
    return tag("figure", shown + tag("figcaption", caption))
