"""Limit of the memory that compressed recordings unpack to, against decompression bombs."""

from __future__ import annotations

from pathlib import Path

from registry import UserError

MAX_UNPACKED_MB = 256  # 20 M events of 13 bytes


def check_unpacked(path: str | Path, what: str, size: int, limit_mb: int) -> None:
    """UserError where `what` in a file has more than `limit_mb` MiB unpacked (`size` bytes)."""
    if size > limit_mb << 20:
        raise UserError(
            f"{path}: {what} would unpack to {-(-size >> 20)} MiB, and the limit is {limit_mb} MiB. If you trust the "
            f"file, set data.args.max_unpacked_mb (`max_unpacked_mb` of open_events); or save it without compression, "
            f"or in smaller chunks"
        )
