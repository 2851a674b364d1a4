"""Base classes of all neurons: multi-step SpikingJelly MemoryModules, stateless between calls."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from spikingjelly.activation_based import base
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from registry import UserError, none_of

from .multistep.backends import check_backend
from .multistep.dynamics import Dynamics, InputRange
from .multistep.formulas import compute_dtype
from .multistep.one_step import Membrane, applies
from .multistep.ops import steps
from .state import Carrier, State, map_state, tensors_of
from .threshold import fill, positive


def without_autocast(x: Tensor) -> AbstractContextManager:
    """Membranes are float32 whatever autocast does. Where it does nothing, this does nothing: torch.export has an
    operator for a change of autocast."""
    device = x.device.type
    on = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    return torch.autocast(device, enabled=False) if on else nullcontext()


class MultiStepNeuron(base.MemoryModule):
    """x_seq [T, ...] -> y_seq [T, ...], of the same shape, dtype and memory layout.

    Every call starts from the initial state and stores nothing: two calls with one input give one output, and
    `reset_net`, EMA copies and pickling never meet a live graph. Subclasses implement `steps`, for all T at once; a
    neuron whose state goes from step to step derives from `StepNeuron`, which can stream.
    """

    spiking: bool = True  # False for the activations of ANN twins
    signed: bool | None = None  # whether it may emit negative values; None: not known
    memoryless: bool = False  # True where y[t] depends on x[t] alone, so that there is no state to carry

    def __init__(self) -> None:
        super().__init__()
        self.step_mode = "m"

    def supported_step_mode(self) -> tuple[str, ...]:
        return ("m",)

    def input_range(self) -> InputRange | None:
        """The inputs to which it responds; None: not known, or without bounds, as of ReLU."""
        return None

    @property
    def emits(self) -> tuple[int, int] | None:
        """(smallest, largest) output, where all are integers between them; None: not known, or no integers."""
        return None

    def steps(self, x_seq: Tensor) -> Tensor:
        """All steps in float32 (float64 where the input is), [T, ...] -> [T, ...]. Must not write into `x_seq`."""
        raise NotImplementedError

    def multi_step_forward(self, x_seq: Tensor) -> Tensor:  # type: ignore[override]
        with without_autocast(x_seq):
            return self.steps(x_seq.to(compute_dtype(x_seq.dtype))).to(x_seq.dtype)


class StatefulNeuron(MultiStepNeuron):
    """A neuron whose state goes from step to step, and from call to call within a `neurons.Stream`.

    Subclasses implement `initial_state` and `advance`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stream: Carrier | None = None  # the Stream this neuron is in, which sets it
        self.carried = None
        self._membrane: Membrane | None = None  # the same, where a step can overwrite it
        self._like: Tensor | None = None  # one step of that call's input: shape, dtype and device, without memory

    @property
    def carried(self) -> State | None:
        """The state after the last call, within a Stream. A call in inference mode may overwrite it."""
        return self._carried

    @carried.setter
    def carried(self, state: State | None) -> None:
        self._carried, self._membrane = state, None

    def initial_state(self, x: Tensor) -> State:
        """The state before the first step, for inputs like x [B, ...], whose values must not be used."""
        raise NotImplementedError

    def advance(self, x_seq: Tensor, state: State | None, return_state: bool) -> tuple[Tensor, State | None]:
        """(y_seq, state after the last step, if wanted) of x_seq [T, ...] from `state`; None: the initial state."""
        raise NotImplementedError

    def reset(self) -> None:
        super().reset()
        self.carried = None

    def reset_rows(self, rows: Tensor) -> None:
        """The carried state of the batch entries where `rows` (bool [B]) is True becomes the initial one."""
        if self.carried is None:
            return
        assert self._like is not None
        batch = self._like.shape[:1]
        if rows.dtype != torch.bool or rows.shape != batch:
            raise UserError(f"rows must be bool {list(batch)}, got {rows.dtype} {list(rows.shape)}")

        def chosen(state: Tensor, initial: Tensor) -> Tensor:
            return torch.where(rows.to(state.device).view(-1, *[1] * (state.ndim - 1)), initial, state)

        self.carried = map_state(chosen, self.carried, self.initial_state(self._like))

    def carried_state(self) -> dict[str, Any] | None:
        """A copy of what is carried, on the CPU, to be saved: `state`, and `shape` and `dtype` (an empty tensor) of a
        step of the input."""
        if self.carried is None:
            return None
        assert self._like is not None
        state = map_state(lambda t: t.detach().clone().cpu(), self.carried)
        return {"state": state, "shape": list(self._like.shape), "dtype": self._like.new_empty(0, device="cpu")}

    def restore_carried(self, parts: Sequence[dict[str, Any]], rows: slice, device: torch.device) -> None:
        """Carry, on `device`, `rows` of what `carried_state` gave in one or several processes."""
        states = [part["state"] for part in parts]
        self.carried = map_state(lambda *tensors: torch.cat(tensors)[rows].to(device), *states)
        batch = len(tensors_of(self.carried)[0])
        self._like = parts[0]["dtype"].new_empty((), device=device).expand(batch, *parts[0]["shape"][1:])

    def detach_state(self) -> None:
        """Stop the gradient at the carried state."""
        if self.carried is not None:
            self.carried = map_state(Tensor.detach, self.carried)

    def __getstate__(self) -> dict[str, Any]:
        """Copies, pickles and averages of a neuron in a stream are not in it."""
        return self.__dict__ | {"stream": None, "_carried": None, "_membrane": None}

    def multi_step_forward(self, x_seq: Tensor) -> Tensor:  # type: ignore[override]
        if x_seq.ndim == 0 or x_seq.shape[0] == 0 or not x_seq.is_floating_point():
            raise UserError(
                f"{type(self).__name__} needs a floating point input [T, ...] with T >= 1, "
                f"got {x_seq.dtype} {list(x_seq.shape)}"
            )
        stream = self.stream
        if stream is None:
            return self.advance(x_seq, None, False)[0]
        stream.check_thread()
        if self.carried is not None and self._like is not None and self._like.shape != x_seq.shape[1:]:
            raise UserError(
                f"{type(self).__name__} carries the state of steps of shape {list(self._like.shape)} but one step of "
                f"its input is {list(x_seq.shape[1:])}: keep the batch as it is within a stream, or reset the stream"
            )
        y_seq, state = self.advance(x_seq, self.carried, True)
        assert state is not None
        for tensor in tensors_of(state):
            if tensor.shape[:1] != x_seq.shape[1:2]:
                raise UserError(
                    f"{type(self).__name__}: a state of shape {list(tensor.shape)} cannot be carried for a batch of "
                    f"{list(x_seq.shape[1:2])}: the first axis of every state is the batch, whose rows start and end "
                    "apart"
                )
        stream.changed = True
        self.carried = state
        self._like = x_seq.new_empty((), dtype=compute_dtype(x_seq.dtype)).expand(x_seq.shape[1:])
        if stream.detached:
            self.detach_state()
        return y_seq


class DynamicNeuron(StatefulNeuron):
    """A neuron that is one of the `Dynamics`, computed by the multi-step kernels.

    Args:
        dynamics: equation and constants.
        learn_threshold: make `v_threshold` a parameter, `threshold`. What is used is `learned_threshold()`, which is
            positive. Weight decay must not act on it (`engine.optim` leaves it alone).
        backend: `auto` (the fastest that works), `cupy` (CUDA), `compile` (torch.compile) or `torch` (eager). All give
            the same output and gradient; a backend asked for by name that cannot work raises and says why.
        per_channel: the parameter is [C], along axis 2 of the input [T, B, C, ...], in place of 0-d. Only for dynamics
            without a membrane. C is that of the first input, or of the state dict that is loaded before: until then
            the parameter has no shape, as PyTorch's lazy modules. `create_model` gives it one.
        learn_tau: make tau a parameter `w`, 0-d, with 1/tau = sigmoid(w) (Fang et al., ICCV 2021).
    """

    def __init__(
        self, dynamics: Dynamics, learn_threshold: bool = False, backend: str = "auto", per_channel: bool = False,
        learn_tau: bool = False,
    ):  # fmt: skip
        super().__init__()
        check_backend(backend)
        dynamics.check()
        if per_channel and not learn_threshold:
            raise UserError("per_channel = True: needs learn_threshold = True, since v_threshold is one number")
        assert dynamics.memoryless or not per_channel
        self.dynamics, self.backend, self.per_channel = dynamics, backend, per_channel
        self.memoryless = dynamics.memoryless
        self.signed = dynamics.emit not in ("binary", "integer")
        self.threshold: nn.Parameter | None = None
        if per_channel:
            self.threshold = UninitializedParameter()  # type: ignore[assignment]
            dynamics = dataclasses.replace(dynamics, v_threshold=1.0)
        elif learn_threshold:
            self.threshold = nn.Parameter(torch.tensor(dynamics.v_threshold))
        if learn_tau and dynamics.tau == math.inf:
            raise UserError("learn_tau = True: needs a finite tau to start from")
        self.w = nn.Parameter(torch.tensor(-math.log(dynamics.tau - 1))) if learn_tau else None
        self._json = dynamics.to_json()
        self._adjusted: Tensor | None = None  # what `adjust` has changed since, but D
        self._in_place = backend in ("auto", "torch") and not learn_threshold and applies(dynamics)

    def learned_threshold(self) -> Tensor | None:
        """The threshold in use where it is learned, 0-d or [C]: at least 1e-3, whatever the parameter is."""
        return None if self.threshold is None else positive(self.threshold)

    def input_range(self) -> InputRange | None:
        learned = self.learned_threshold()
        threshold = self.dynamics.v_threshold if learned is None else float(learned.detach().mean())
        return self.dynamics.input_range(threshold)

    @property
    def emits(self) -> tuple[int, int] | None:
        return {"binary": (0, 1), "ternary": (-1, 1), "integer": (0, self.dynamics.levels)}.get(self.dynamics.emit)

    def decay(self) -> Tensor | None:
        """1/tau, 0-d, where it is learned."""
        return None if self.w is None else self.w.sigmoid()

    @property
    def adjustable(self) -> dict[str, float]:
        """The numbers that may change during training, and their values now: of `ilif` D, margin and outside, of binary
        and ternary neurons alpha and outside, of others none. All but D change the gradient alone."""
        return self.dynamics.adjustable

    def adjust(self, **values: float) -> None:
        """Change what is `adjustable`, from the next call on: `adjust(margin=0.5)`.

        Parameters and carried states stay as they are; a copy of the neuron is adjusted by itself. Code is compiled
        again at the first change, where `outside` becomes 0 or ceases to be 0, and for each D; not for other values.
        UserError for another name and for a value that the constructor refuses; the neuron is then as it was.
        """
        known = self.adjustable
        for name in values:
            if name not in known:
                raise UserError(none_of(f"{type(self).__name__} has no {name!r} to adjust", name, known))
        levels = values.pop("D", self.dynamics.levels)
        dynamics = dataclasses.replace(self.dynamics, levels=levels, **values)  # type: ignore[arg-type]
        dynamics.check()
        self.dynamics, self._adjusted = dynamics, dynamics.operands
        self._json = dataclasses.replace(Dynamics.from_json(self._json), levels=levels).to_json()  # type: ignore[arg-type]

    def initial_state(self, x: Tensor) -> Tensor:
        return x.new_tensor(self.dynamics.v_init).expand_as(x)

    def advance(self, x_seq: Tensor, state: State | None, return_state: bool) -> tuple[Tensor, State | None]:
        assert state is None or isinstance(state, Tensor)
        if self.per_channel:
            return self._of_channels(x_seq), None
        decay, threshold = self.decay(), self.learned_threshold()
        parts = [t for t in (x_seq, state, decay, threshold) if t is not None]
        save = torch.is_grad_enabled() and any(t.requires_grad for t in parts)
        y_seq, _, v = steps(
            x_seq, state, decay, threshold, self._json, save, return_state, self.backend, self._adjusted
        )
        return y_seq, v if return_state else None

    def multi_step_forward(self, x_seq: Tensor) -> Tensor:  # type: ignore[override]
        stream, state = self.stream, self._carried
        if not self._in_place or stream is None or state is None:
            return super().multi_step_forward(x_seq)
        if self._membrane is None:
            assert isinstance(state, Tensor)
            self._membrane = Membrane(self.dynamics, state)
        if not self._membrane.fits(x_seq):
            return super().multi_step_forward(x_seq)
        stream.check_thread()
        stream.changed = True
        return self._membrane.advance(x_seq)

    def _of_channels(self, x_seq: Tensor) -> Tensor:
        """th f(x / th) with f the activation of threshold 1, which is the same function and has the same gradients."""
        if x_seq.ndim < 3:
            raise UserError(f"per_channel = True: needs an input [T, B, C, ...], got {list(x_seq.shape)}")
        assert self.threshold is not None
        fill(self.threshold, (x_seq.shape[2],), self.dynamics.v_threshold)
        if len(self.threshold) != x_seq.shape[2]:
            raise UserError(f"{len(self.threshold)} thresholds, but the input has {x_seq.shape[2]} channels")
        with without_autocast(x_seq):
            th = positive(self.threshold).view(-1, *[1] * (x_seq.ndim - 3))
            x = x_seq.to(compute_dtype(x_seq.dtype)) / th
            save = torch.is_grad_enabled() and x.requires_grad
            y, _, _ = steps(x, None, None, None, self._json, save, False, self.backend)
            return (y * th).to(x_seq.dtype)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        loaded = state_dict.get(f"{prefix}threshold")
        if self.per_channel and self.threshold is not None and loaded is not None and loaded.ndim == 1:
            fill(self.threshold, loaded.shape, self.dynamics.v_threshold)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        text = self.dynamics.describe()
        if self.threshold is not None:
            text += ", learn_threshold=True"
        if self.per_channel:
            text += ", per_channel=True"
        if self.w is not None:
            text += ", learn_tau=True"
        return text if self.backend == "auto" else f"{text}, backend={self.backend}"
