"""Values that people write into configs and label files: read as they were meant, or refused with what to write."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeGuard

from registry import UserError

_FLAGS = {"0": False, "false": False, "no": False, "1": True, "true": True, "yes": True}
_FLAGS |= {"": False, "none": False, "unspecified": False}  # labelling tools write these for "not looked at"


def is_whole(value: object) -> TypeGuard[int]:
    """A whole number, which true and false are not."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> TypeGuard[float]:
    """A number, which true and false are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_side(value: object) -> TypeGuard[int]:
    """A number of pixels that a side can have."""
    return is_whole(value) and 0 < value < 2**31


def is_text(value: object) -> TypeGuard[str]:
    """Text that can be printed and written to a file: not empty, and without half of a surrogate pair."""
    return isinstance(value, str) and value != "" and not any("\ud800" <= letter <= "\udfff" for letter in value)


def flag(value: object) -> bool | None:
    """0, 1, true, false, yes, no, as such or as a word; nothing is false. None: neither."""
    return bool(value) if value in (0, 1) else _FLAGS.get(str(value).strip().lower())


def height_width(size: Any, name: str = "size") -> tuple[int, int]:
    """One number of pixels, or (height, width) -> (height, width)."""
    sides = [size, size] if is_whole(size) else list(size) if isinstance(size, Sequence) else []
    if isinstance(size, str) or len(sides) != 2 or not all(map(is_side, sides)):
        raise UserError(
            f"{name} = {size!r:.200}: give one number of pixels, as in 640, or [height, width], as in [480, 640]"
        )
    return int(sides[0]), int(sides[1])


def class_list(names: Any, source: str) -> list[str]:
    """`names` as strings, each of them there once. `source` says in an error where they come from."""
    if not isinstance(names, Sequence) or isinstance(names, str) or not names:
        raise UserError(f"{source} = {str(names)[:200]}. Give a list, as in [cat, dog]")
    for k, name in enumerate(names):
        known = isinstance(name, str | int | float) and not isinstance(name, bool) and is_text(str(name))
        if not known or str(name) in map(str, names[:k]):
            raise UserError(f"{source}: name {k} is {name!a}. Give each class its own; quote words like no and on")
    return [str(name) for name in names]
