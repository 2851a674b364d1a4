"""Run folders: checkpoints, logs, resuming, provenance, folders of evaluations. `open_run` loads a trained detector."""

from .open import Run, open_run

__all__ = ["Run", "open_run"]
