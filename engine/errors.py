"""What to tell a user of an error: its reason, without the way it came."""

from __future__ import annotations


def reason(error: Exception) -> str:
    """The message of `error`; of one that crossed from a loader's process, without that process's traceback."""
    return str(error).rsplit("\nValueError: ", 1)[-1].strip()
