"""What every neuron here is: a SpikingJelly `MemoryModule` that runs all T steps in one call and forgets them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from spikingjelly.activation_based import base
from torch import Tensor, nn

from .multistep.backends import check_backend
from .multistep.dynamics import Dynamics
from .multistep.ops import steps

if TYPE_CHECKING:
    from .stream import Stream


class MultiStepNeuron(base.MemoryModule):
    """x_seq [T, ...] -> y_seq [T, ...], of the same shape, dtype and memory layout.

    Every call starts from the resting potential and stores nothing, so two calls with one input give one output and
    `reset_net`, EMA copies and pickling never meet a live graph; `neurons.Stream` carries the membrane on where that
    is wanted. The membrane is float32 whatever autocast does. Subclasses implement `steps`.
    """

    spiking: bool = True  # False for the activations of ANN twins
    memoryless: bool = False  # True where every step stands alone, so that there is nothing to carry on

    def __init__(self) -> None:
        super().__init__()
        self.step_mode = "m"

    def supported_step_mode(self) -> tuple[str, ...]:
        return ("m",)

    def steps(self, x_seq: Tensor) -> Tensor:
        """The dynamics in float32, [T, ...] -> [T, ...]. Must not write into `x_seq`."""
        raise NotImplementedError

    def multi_step_forward(self, x_seq: Tensor) -> Tensor:  # type: ignore[override]
        with torch.autocast(x_seq.device.type, enabled=False):
            return self.steps(x_seq.float()).to(x_seq.dtype)


class DynamicNeuron(MultiStepNeuron):
    """A neuron that is one of the `Dynamics`, computed by the multi-step kernels.

    Args:
        dynamics: equation and constants.
        learn_threshold: make `v_threshold` a 0-d parameter.
        backend: `auto` (the fastest that works), `cupy` (CUDA), `compile` (torch.compile) or `torch` (eager). All give
            the same output and gradient; a backend asked for by name that cannot work raises and says why.
    """

    def __init__(self, dynamics: Dynamics, learn_threshold: bool = False, backend: str = "auto"):
        super().__init__()
        check_backend(backend)
        dynamics.check()
        self.dynamics, self.backend = dynamics, backend
        self.memoryless = dynamics.memoryless
        self._json = dynamics.to_json()
        self.threshold = nn.Parameter(torch.tensor(dynamics.v_threshold)) if learn_threshold else None
        self.stream: Stream | None = None  # that this neuron is in, which sets it
        self.carried: Tensor | None = None  # membrane after the last call, within a stream

    def decay(self) -> Tensor | None:
        """1/tau, 0-d, where it is learned."""
        return None

    def reset(self) -> None:
        super().reset()
        self.carried = None

    def __getstate__(self) -> dict[str, Any]:
        """Copies, pickles and averages of a neuron in a stream are not in it."""
        return self.__dict__ | {"stream": None, "carried": None}

    def multi_step_forward(self, x_seq: Tensor) -> Tensor:  # type: ignore[override]
        if x_seq.ndim == 0 or x_seq.shape[0] == 0 or not x_seq.is_floating_point():
            raise ValueError(
                f"{type(self).__name__} needs a floating point input [T, ...] with T >= 1, "
                f"got {x_seq.dtype} {list(x_seq.shape)}"
            )
        stream, v = self.stream, None
        if stream is not None:
            stream.check_thread()
            v = self.carried
        if v is not None and v.shape != x_seq.shape[1:]:
            raise ValueError(
                f"{type(self).__name__} carries a membrane of shape {list(v.shape)} but one step of its input is "
                f"{list(x_seq.shape[1:])}: keep the batch as it is within a stream, or reset the stream"
            )
        decay = self.decay()
        parts = [t for t in (x_seq, v, decay, self.threshold) if t is not None]
        save = torch.is_grad_enabled() and any(t.requires_grad for t in parts)
        y_seq, _, v_last = steps(x_seq, v, decay, self.threshold, self._json, save, stream is not None, self.backend)
        if stream is not None:
            stream.changed = True
            self.carried = v_last.detach() if stream.detached else v_last
        return y_seq

    def extra_repr(self) -> str:
        text = self.dynamics.describe()
        if self.threshold is not None:
            text += ", learn_threshold=True"
        return text if self.backend == "auto" else f"{text}, backend={self.backend}"
