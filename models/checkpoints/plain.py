"""Check plain values (dicts, lists, scalars) of an untrusted file: types, number, depth, no interpolations."""

from __future__ import annotations

from typing import Any

from registry import UserError

MOST = 100_000  # values: a config holds some hundred, class names some thousand
DEEPEST = 32


def is_plain(value: Any) -> bool:
    try:
        check_plain(value, "")
    except ValueError:
        return False
    return True


def check_plain(value: Any, source: str) -> None:
    """ValueError unless `value` is made of dicts with names as keys, lists, tuples, str, int, float, bool and None.

    At most MOST values, DEEPEST levels deep: a list that is its own element, or that stands ten times in a list that
    stands ten times in the next, takes few bytes in a pickle, but endless time. No `${...}`: a config is saved with
    its interpolations resolved, and one from elsewhere could read the environment.
    """
    left = [(value, 0)]
    seen = 0
    while left:
        node, depth = left.pop()
        seen += 1
        if depth > DEEPEST or seen > MOST:
            raise UserError(f"{source}: more than {MOST} values, or nested deeper than {DEEPEST}: damaged or hostile")
        if isinstance(node, dict):
            if not all(isinstance(key, str) for key in node):
                raise UserError(f"{source}: a mapping has keys that are no text: {list(node)[:3]!r:.200}")
            left += ((child, depth + 1) for child in (*node, *node.values()))
        elif isinstance(node, list | tuple):
            left += ((child, depth + 1) for child in node)
        elif isinstance(node, str) and "${" in node:
            raise UserError(
                f"{source}: {node!r:.200} is an interpolation, which is not resolved there. Write its value"
            )
        elif not (node is None or isinstance(node, str | int | float | bool)):
            raise UserError(f"{source}: holds a {type(node).__name__}, not plain values alone")
