"""Long recordings in pieces: the membrane of every neuron carried from one call to the next, explicitly."""

from __future__ import annotations

import threading
from typing import Any

import torch
from torch import Tensor, nn

from .base import DynamicNeuron, MultiStepNeuron

_ENTERING = threading.Lock()


class Stream:
    """Within `with Stream(model) as stream:` each call of `model` goes on where the last one ended.

        with Stream(model) as stream:
            for events in pieces_of_a_recording:      # [T, B, C, H, W] each
                detections = model(events)

    Outside the block, and after it, every call starts from rest again. A recording in pieces gives what it gives whole.

    A stream belongs to the thread that opened it: a call of the model from another thread raises RuntimeError. Copies
    of the model (deepcopy, pickle, torch.save, an average of its weights) start from rest and are not streamed. After a
    call that failed when membranes had changed, every further call raises RuntimeError until `reset()`.

    Args:
        model: any module; the neurons below it take part. Each neuron must be called once per call of `model`.
        detach: the gradient stops between calls: truncated BPTT of one piece. With `detach=False` it flows back
            through all calls since the last `stream.detach()`: truncated BPTT of as many pieces as you like.

    Raises ValueError for a neuron that has a membrane and cannot carry it on.
    """

    def __init__(self, model: nn.Module, detach: bool = True):
        found = [(name, m) for name, m in model.named_modules() if isinstance(m, MultiStepNeuron) and not m.memoryless]
        for name, module in found:
            if not isinstance(module, DynamicNeuron):
                raise ValueError(
                    f"{name or type(module).__name__}: {type(module).__name__} keeps no membrane between calls; "
                    "derive it from neurons.DynamicNeuron to stream"
                )
        self.neurons = [m for _, m in found if isinstance(m, DynamicNeuron)]
        self.detached = detach
        self.changed = False  # a membrane has changed since the outermost running call began
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
        if threading.get_ident() != self._thread:
            raise RuntimeError(
                "this model is in a Stream that another thread opened, whose membranes this call would change: give "
                "each thread a model of its own, copy.deepcopy(model), or open the Stream in the thread that calls"
            )

    def _begin(self, module: nn.Module) -> None:
        self.check_thread()
        if module in self._running:  # its last call raised
            if self.changed:
                raise RuntimeError(
                    "an earlier call in this Stream failed half-way, so some membranes have taken that piece in and "
                    "others have not: stream.reset(), and go on with the first piece of a recording"
                )
            self._running.clear()
        if not self._running:
            self.changed = False
        self._running.add(module)

    def _end(self, module: nn.Module) -> None:
        self._running.discard(module)

    def detach(self) -> None:
        """Stop the gradient here; the membranes keep their values."""
        for neuron in self.neurons:
            if neuron.carried is not None:
                neuron.carried = neuron.carried.detach()

    def reset(self, rows: Tensor | None = None) -> None:
        """Back to rest: all membranes, or those of the batch entries where `rows` (bool [B]) is True.

        For batches whose recordings end at different times.
        """
        if rows is None:
            self._running.clear()
        for neuron in self.neurons:
            v = neuron.carried
            if v is None:
                continue
            if rows is None:
                neuron.carried = None
                continue
            if rows.dtype != torch.bool or rows.shape != v.shape[:1]:
                raise ValueError(f"rows must be bool [{v.shape[0]}], got {rows.dtype} {list(rows.shape)}")
            mask = rows.to(v.device).view(-1, *[1] * (v.ndim - 1))
            neuron.carried = torch.where(mask, neuron.dynamics.v_init, v)


class _Hook:
    """A hook of the streamed model that calls a method of `stream`; in a copy of the model it does nothing."""

    def __init__(self, stream: Stream | None = None, method: str = ""):
        self.stream, self.method = stream, method

    def __call__(self, module: nn.Module, *_: object) -> None:
        if self.stream is not None:
            getattr(self.stream, self.method)(module)

    def __reduce__(self) -> tuple[type[_Hook], tuple[()]]:
        return _Hook, ()
