"""Precision of training and evaluation: autocast to bfloat16 or float16, and the scaler of float16's losses."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler

from registry import UserError

PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
SMALLEST_SCALE = 2.0**-10  # gradients that overflow float16 at this scale would be above 1e7


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    if precision not in PRECISIONS:
        raise UserError(f"train.precision must be one of {list(PRECISIONS)}, got {precision!r}")
    dtype = PRECISIONS[precision]
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype)


class LossScaler:
    """Dynamic loss scaling (Micikevicius et al., "Mixed Precision Training", ICLR 2018): losses are multiplied by a
    scale before backward, gradients divided by it before the step, so that small ones do not vanish in float16.

    A step whose gradients overflow is skipped and the scale halved; after 2000 steps without one it is doubled, as in
    `torch.amp.GradScaler`, which this uses. The decision takes the gradient norm that the loop reads anyway, and so
    needs no synchronisation of its own. `GradScaler.step` would need one.

    skipped: steps since the training began, those before a resume too.
    """

    def __init__(self, device: torch.device):
        self._scaler = GradScaler(device.type)
        self.skipped = 0

    @property
    def scale(self) -> float:
        """Waits for the device."""
        return self._scaler.get_scale()

    def scaled(self, loss: Tensor) -> Tensor:
        return self._scaler.scale(loss)

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Divide the gradients by the scale, in place."""
        self._scaler.unscale_(optimizer)

    def skips(self, grad_norm: float) -> bool:
        """Adapt the scale to the norm of the unscaled gradients; whether they overflowed, so that the step must be
        skipped. False below `SMALLEST_SCALE`, where gradients that are not finite have another reason."""
        self._scaler.update()
        if math.isfinite(grad_norm) or self.scale < SMALLEST_SCALE:
            return False
        self.skipped += 1
        return True

    def record(self) -> dict[str, float]:
        """For the record of an epoch."""
        return {"loss_scale": self.scale, "skipped_steps": self.skipped}

    def state_dict(self) -> dict[str, float]:
        return {**self._scaler.state_dict(), "skipped": self.skipped}

    def load_state_dict(self, state: dict[str, float]) -> None:
        own = {key: value for key, value in state.items() if key != "skipped"}
        self._scaler.load_state_dict(own)
        self.skipped = int(state["skipped"])


def loss_scaler(device: torch.device, precision: str) -> LossScaler | None:
    """The scaler of a training; None where the precision has the range of float32."""
    return LossScaler(device) if precision == "fp16" else None
