"""The state of a neuron: one tensor, or a tuple or dict of several."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

from torch import Tensor

State: TypeAlias = Tensor | tuple[Tensor, ...] | dict[str, Tensor]


class Carrier(Protocol):
    """What a neuron needs of the `Stream` that carries its state: see `neurons.stream`."""

    detached: bool  # the gradient stops between calls
    changed: bool  # set by the neuron whose state has changed

    def check_thread(self) -> None: ...


def tensors_of(state: State) -> list[Tensor]:
    if isinstance(state, Tensor):
        return [state]
    return list(state.values() if isinstance(state, dict) else state)


def map_state(function: Callable[..., Tensor], state: State, *others: State) -> State:
    """`function` of every tensor of `state` and those in its place in `others`, in the same form."""
    if isinstance(state, Tensor):
        return function(state, *others)
    if isinstance(state, dict):
        return {key: function(tensor, *(other[key] for other in others)) for key, tensor in state.items()}  # type: ignore[call-overload, index]
    return tuple(function(*tensors) for tensors in zip(state, *others, strict=True))  # type: ignore[arg-type]
