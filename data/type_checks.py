"""Type checks and conversions of values in configs and label files: numbers, flags, sizes, lists of classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeGuard

from registry import UserError

_FLAGS = {"0": False, "false": False, "no": False, "1": True, "true": True, "yes": True}
_FLAGS |= {"": False, "none": False, "unspecified": False}  # labelling tools write these for "not looked at"


def is_whole(value: object) -> TypeGuard[int]:
    """An int, but not a bool."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> TypeGuard[float]:
    """An int or float, but not a bool."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_side(value: object) -> TypeGuard[int]:
    """A valid side of an image in pixels: 1 to 2^31 - 1."""
    return is_whole(value) and 0 < value < 2**31


def is_text(value: object) -> TypeGuard[str]:
    """A string that can be encoded as UTF-8: not empty, without lone surrogates."""
    return isinstance(value, str) and value != "" and not any("\ud800" <= letter <= "\udfff" for letter in value)


def flag(value: object) -> bool | None:
    """Parse a boolean: 0, 1, true, false, yes or no, as a value or a word; empty is False. None: not a boolean."""
    return bool(value) if value in (0, 1) else _FLAGS.get(str(value).strip().lower())


def height_width(size: Any, name: str = "size") -> tuple[int, int]:
    """One side in pixels, or (height, width) -> (height, width). UserError for anything else."""
    sides = [size, size] if is_whole(size) else list(size) if isinstance(size, Sequence) else []
    if isinstance(size, str) or len(sides) != 2 or not all(map(is_side, sides)):
        raise UserError(
            f"{name} = {size!r:.200}: give one number of pixels, as in 640, or [height, width], as in [480, 640]"
        )
    return int(sides[0]), int(sides[1])


def class_list(names: Any, source: str) -> list[str]:
    """`names` as a list of different strings. UserError, which names their `source`, for anything else."""
    if not isinstance(names, Sequence) or isinstance(names, str) or not names:
        raise UserError(f"{source} = {str(names)[:200]}. Give a list, as in [cat, dog]")
    for k, name in enumerate(names):
        known = isinstance(name, str | int | float) and not isinstance(name, bool) and is_text(str(name))
        if not known or str(name) in map(str, names[:k]):
            remedy = "Use a different name for each class; quote words such as no and on"
            raise UserError(f"{source}: name {k} is {name!a}. {remedy}")
    return [str(name) for name in names]
