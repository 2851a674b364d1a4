"""Channels of a network that is narrower or wider than the published one."""

from __future__ import annotations


def scaled(channels: int, width: float) -> int:
    """channels * width, rounded to a multiple of 4, at least 4."""
    return max(4, round(channels * width / 4) * 4)
