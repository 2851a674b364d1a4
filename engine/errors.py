"""Error messages for users: remedies for errors of torch, and the reason of an error from a loader process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from registry import UserError


@contextmanager
def remedies() -> Iterator[None]:
    """Context around training: raise errors of torch that the config causes as UserErrors naming its keys."""
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        shape = str(error).rpartition("size ")[2]
        raise UserError(
            f"BatchNorm needs more than one value per channel in training, and in some layer a batch has one: {shape}, "
            "which is samples x steps, channels, height, width. Set train.batch_size so that no batch holds a single "
            "sample (the last one holds what is left), or a larger data.size, of which more than one cell is left"
        ) from error


def reason(error: Exception) -> str:
    """The message of `error`, without the traceback that a DataLoader puts in front of a worker's error."""
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return str(error).rsplit(f"\n{name}: ", 1)[-1].strip()
