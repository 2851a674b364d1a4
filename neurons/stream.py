"""Streaming: the state of every neuron carried from one call to the next, explicitly."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from registry import UserError

from .base import MultiStepNeuron, StatefulNeuron

_ENTERING = threading.Lock()


class Stream:
    """Within `with Stream(model) as stream:` each call of `model` starts from the state in which the last one ended.

        with Stream(model) as stream:
            for events in chunks_of_a_recording:      # [T, B, C, H, W] each
                detections = model(events)

    Processing a recording in chunks gives the same output as processing it at once. Outside the block every call
    starts from the initial state.

    A stream belongs to the thread that opened it: a call of the model from another thread raises RuntimeError. Copies
    of the model (deepcopy, pickle, torch.save, an average of its weights) are not streamed and hold no state. After a
    call that failed when some states had changed, every further call raises RuntimeError until `reset()`.

    Args:
        model: any module; the neurons below it take part. Each neuron must be called once per call of `model`.
        detach: the gradient stops between calls: truncated BPTT over one chunk. With `detach=False` it flows back
            through all calls since the last `stream.detach()`: truncated BPTT over as many chunks as you like.

    Raises UserError for a neuron that has a state but does not derive from `StatefulNeuron`.
    """

    def __init__(self, model: nn.Module, detach: bool = True):
        found = [(name, m) for name, m in model.named_modules() if isinstance(m, MultiStepNeuron) and not m.memoryless]
        for name, module in found:
            if not isinstance(module, StatefulNeuron):
                raise UserError(
                    f"{name or type(module).__name__}: {type(module).__name__} does not give out its state, so a "
                    "stream cannot carry it: derive it from neurons.StepNeuron, or set memoryless = True if y[t] "
                    "depends on x[t] alone"
                )
        self.neurons = [m for _, m in found if isinstance(m, StatefulNeuron)]
        self.detached = detach
        self.changed = False  # a state has changed since the outermost running call began
        self._model = model
        self._running: set[nn.Module] = set()  # modules that were called and have not returned
        self._hooks: list[Any] = []
        self._thread = 0

    def __enter__(self) -> Stream:
        with _ENTERING:
            if any(neuron.stream is not None for neuron in self.neurons):
                raise RuntimeError("this model is being streamed already")
            self._thread = threading.get_ident()
            for neuron in self.neurons:
                neuron.stream = self
        # The children too, since a detector is also called by its parts (`Detector.raw`).
        for module in (self._model, *self._model.children()):
            self._hooks.append(module.register_forward_pre_hook(_Hook(self, "_begin"), prepend=True))
            self._hooks.append(module.register_forward_hook(_Hook(self, "_end")))
        return self

    def __exit__(self, *exception: object) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self._running.clear()
        for neuron in self.neurons:
            neuron.stream = neuron.carried = None

    def check_thread(self) -> None:
        if torch.compiler.is_compiling():  # it cannot trace get_ident; `_begin` checks each call of the model
            return
        if threading.get_ident() != self._thread:
            raise RuntimeError(
                "this model is in a Stream that another thread opened, whose states this call would change: give "
                "each thread a model of its own, copy.deepcopy(model), or open the Stream in the thread that calls"
            )

    def _begin(self, module: nn.Module) -> None:
        self.check_thread()
        if module in self._running:  # its last call raised
            if self.changed:
                raise RuntimeError(
                    "an earlier call in this Stream failed half-way, so some neurons have processed that chunk and "
                    "others have not: stream.reset(), and go on with the first chunk of a recording"
                )
            self._running.clear()
        if not self._running:
            self.changed = False
        self._running.add(module)

    def _end(self, module: nn.Module) -> None:
        self._running.discard(module)

    def detach(self) -> None:
        """Stop the gradient here; the states keep their values."""
        for neuron in self.neurons:
            neuron.detach_state()

    def reset(self, rows: Tensor | None = None) -> None:
        """Back to the initial state: all of the batch, or the entries where `rows` (bool [B]) is True.

        For batches whose recordings end at different times.
        """
        if rows is None:
            self._running.clear()
        for neuron in self.neurons:
            if rows is None:
                neuron.carried = None
            else:
                neuron.reset_rows(rows)

    def state(self) -> list[dict[str, Any] | None]:
        """What each neuron carries, in the order of the model's modules, to be saved: copies on the CPU in plain
        dicts; None before its first call."""
        return [neuron.carried_state() for neuron in self.neurons]

    def restore(self, parts: Sequence[list[dict[str, Any] | None]], rows: slice, device: torch.device) -> None:
        """Continue on `device` from `rows` of what `state` gave in one or several processes, whose batches follow each
        other. UserError where that is of another model."""
        if any(len(part) != len(self.neurons) for part in parts):
            raise UserError(f"states of {[len(part) for part in parts]} neurons, but the model has {len(self.neurons)}")
        self.reset()
        for neuron, *saved in zip(self.neurons, *parts, strict=True):
            if all(saved):
                neuron.restore_carried(saved, rows, device)


class _Hook:
    """A hook of the streamed model that calls a method of `stream`; in a copy of the model it does nothing."""

    def __init__(self, stream: Stream | None = None, method: str = ""):
        self.stream, self.method = stream, method

    def __call__(self, module: nn.Module, *_: object) -> None:
        if self.stream is not None:
            getattr(self.stream, self.method)(module)

    def __reduce__(self) -> tuple[type[_Hook], tuple[()]]:
        return _Hook, ()
