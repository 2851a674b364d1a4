"""A training from its config: what train.py runs. `engine.trainer` has the loop over epochs."""

from .run import run_training

__all__ = ["run_training"]
