"""Long recordings in pieces: the membrane of every neuron carried from one call to the next, explicitly."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .base import DynamicNeuron, MultiStepNeuron


class Stream:
    """Within `with Stream(model) as stream:` each call of `model` goes on where the last one ended.

        with Stream(model) as stream:
            for events in pieces_of_a_recording:      # [T, B, C, H, W] each
                detections = model(events)

    Outside the block, and after it, every call starts from rest again. A recording in pieces gives what it gives whole.

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
        self.mode = "detached" if detach else "attached"

    def __enter__(self) -> Stream:
        for neuron in self.neurons:
            if neuron.stream is not None:
                raise RuntimeError("this model is being streamed already")
            neuron.stream = self.mode
        return self

    def __exit__(self, *exception: object) -> None:
        for neuron in self.neurons:
            neuron.stream = neuron.carried = None

    def detach(self) -> None:
        """Stop the gradient here; the membranes keep their values."""
        for neuron in self.neurons:
            if neuron.carried is not None:
                neuron.carried = neuron.carried.detach()

    def reset(self, rows: Tensor | None = None) -> None:
        """Back to rest: all membranes, or those of the batch entries where `rows` (bool [B]) is True.

        For batches whose recordings end at different times.
        """
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
