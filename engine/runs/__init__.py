"""Run folders: what a run writes, checkpoints, resuming, where a score comes from."""

from .open import Run, open_run

__all__ = ["Run", "open_run"]
