"""One description of a neuron's dynamics, read by every backend.

    H[t] = keep V[t-1] + gain X[t] + rest       keep = 1 - 1/tau, gain = 1/tau if decay_input else 1,
                                                rest = v_reset / tau (hard reset to another value than 0)
    S[t] = emit(H[t])
    V[t] = reset(H[t], S[t])                    V[-1] = v_init, or the membrane that a stream carries

    emit        S                                           soft reset (v_reset None)      hard reset
    binary      [H > th], or [H >= th] if inclusive         H - th S                       v_reset where S
    ternary     P - N, P = [H >= th], N = [-H >= r th]      H - th P + r th N              v_reset where P or N
    integer     round_half_even(clip(H / th, 0, levels))    H - th S                       -
    silu        H sigmoid(H)                                C (1 - stopgrad(S)), C = S or H                -
    qcfs        th / L clip(floor(X L / th + 1/2), 0, L)    no membrane: y[t] depends on x[t] alone        -
    sth         clip(X, 0, th) or clip(slope X, -th, 0)     no membrane: y[t] depends on x[t] alone        -

th is `v_threshold`, r is `negative`, L is `levels`. P and N have the derivative `surrogate` at H - th and at -H - r th,
integer has 1/th where -margin <= H / th <= levels + margin, and outside/th elsewhere. `detach_reset` stops the gradient
through P, N and S in the reset. tau and th may be learned: the 0-d tensors `decay` (= 1/tau) and `threshold` then take
the place of the numbers.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from typing import NamedTuple

import torch
from torch import Tensor

from registry import UserError

from ..surrogate import Slopes, slopes

MEMORYLESS = ("qcfs", "sth")


class InputRange(NamedTuple):
    """The inputs of one step, from rest, between `low` and `high` of which the output depends on the input, and the one
    that reaches the threshold."""

    low: float
    high: float
    threshold: float


@dataclasses.dataclass(frozen=True)
class Dynamics:
    emit: str
    tau: float = math.inf
    decay_input: bool = False
    v_threshold: float = 1.0
    v_reset: float | None = None
    v_init: float = 0.0
    surrogate: str = "none"
    alpha: float = 1.0
    outside: float = 0.0  # of the surrogate and of the window of integer
    margin: float = 0.0
    detach_reset: bool = False
    inclusive: bool = True
    negative: float = 1.0
    levels: int = 1
    slope: float = 1.0
    carries_output: bool = False  # silu: C is S, as in a published network whose SiLU works in place

    @property
    def keep(self) -> float:
        return 1 - 1 / self.tau

    @property
    def gain(self) -> float:
        return 1 / self.tau if self.decay_input else 1.0

    @property
    def rest(self) -> float:
        return (self.v_reset or 0.0) / self.tau

    @property
    def memoryless(self) -> bool:
        return self.emit in MEMORYLESS

    @property
    def slopes(self) -> Slopes:
        """Of the surrogate, and of the window of integer."""
        return slopes(self.surrogate, self.alpha, self.outside, self.levels, self.margin)

    @functools.cached_property
    def form(self) -> Dynamics:
        """What code is compiled for: the same for all widths of the surrogate, which are its operands."""
        return dataclasses.replace(self, alpha=1.0, outside=float(self.outside != 0), margin=0.0)

    @property
    def adjustable(self) -> dict[str, float]:
        """What may change during training, by the name of the neuron's argument."""
        if self.emit == "integer":
            return {"D": self.levels, "margin": self.margin, "outside": self.outside}
        return {"alpha": self.alpha, "outside": self.outside} if self.emit in ("binary", "ternary") else {}

    @property
    def operands(self) -> Tensor:
        """What `form` leaves open, [3] float64 on the CPU, where reading it waits for no device."""
        return torch.tensor([self.alpha, self.outside, self.margin], dtype=torch.float64, device="cpu")

    def with_operands(self, operands: Tensor | None) -> Dynamics:
        if operands is None:
            return self
        alpha, outside, margin = operands.tolist()
        return dataclasses.replace(self, alpha=alpha, outside=outside, margin=margin)

    def input_range(self, v_threshold: float) -> InputRange | None:
        """0 .. levels * threshold of integers, 0 .. 2 thresholds of spikes, whose surrogates are symmetric about the
        threshold; the same below 0 for those of both signs. None: without bounds."""
        levels = {"binary": 2, "ternary": 2, "integer": self.levels, "qcfs": 1, "sth": 1}.get(self.emit)
        if levels is None:
            return None
        threshold = v_threshold / self.gain
        high = levels * threshold
        return InputRange(-high if self.emit in ("ternary", "sth") else 0.0, high, threshold)

    def check(self) -> None:
        """ValueError for constants outside the equations."""
        if not self.tau > 1:
            raise UserError(f"tau must be above 1 (the leak factor is 1 - 1/tau), got {self.tau}")
        if not 0 < self.v_threshold < math.inf:
            raise UserError(f"v_threshold must be positive, got {self.v_threshold}")
        if not (isinstance(self.levels, int) and 1 <= self.levels < 1 << 24):
            raise UserError(f"the number of levels must be a positive integer, got {self.levels}")
        if not 0 < self.slope <= 1:
            raise UserError(f"negative_slope must be above 0 and at most 1, got {self.slope}")
        if not 0 < self.alpha < math.inf:
            raise UserError(f"alpha must be a positive number, got {self.alpha}")
        if not 0 <= self.outside <= 1:
            raise UserError(f"outside must be a number from 0 to 1, got {self.outside}")
        if not 0 <= self.margin < math.inf:
            raise UserError(f"margin must be at least 0, got {self.margin}")
        if self.v_reset is not None and not -self.v_threshold < self.v_reset < self.v_threshold:
            raise UserError(f"v_reset must lie below v_threshold {self.v_threshold}, got {self.v_reset}")

    def describe(self) -> str:
        """The fields that differ from their defaults, for `repr`."""
        fields = [(f.name, getattr(self, f.name), f.default) for f in dataclasses.fields(self)]
        told = [f"{n}={v:g}" if isinstance(v, float) else f"{n}={v}" for n, v, default in fields if v != default]
        return ", ".join(told)

    def bits(self, learned_decay: bool, learned_threshold: bool) -> int:
        """Bits that backward needs per element and step; 0: it needs the input, and recomputes the rest.

        binary: inside the window, fired (hard reset, learned threshold). ternary: the same for both thresholds.
        integer: inside. sth: on one of the slopes, positive. Smooth surrogates, a learned tau, a hard reset that is not
        detached, and the learned thresholds of integer and qcfs need the values of the input.
        """
        spiking = self.emit in ("binary", "ternary")
        if learned_decay or self.emit == "silu" or (spiking and self.surrogate != "rectangle"):
            return 0
        if self.emit == "sth":
            return 2
        if not spiking:
            return 0 if learned_threshold else 1
        if self.v_reset is not None and not self.detach_reset:
            return 0
        fired = self.v_reset is not None or learned_threshold
        return (2 if self.emit == "ternary" else 1) * (2 if fired else 1)

    def to_json(self) -> str:
        """The argument of the operators: readable in graphs and exported programs."""
        return json.dumps(dataclasses.asdict(self))

    @staticmethod
    @functools.cache
    def from_json(text: str) -> Dynamics:
        return Dynamics(**json.loads(text))
