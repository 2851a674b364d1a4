"""Wiring: which neuron takes the output of which layer, and which BatchNorm is folded into it, seen while they run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef


@dataclass
class Wiring:
    """Layers and neurons by their names.

    into:   {neuron: the layer whose output it takes}
    shared: layers whose output goes to more than one neuron, or elsewhere
    normed: layers whose BatchNorm becomes their bias
    """

    into: dict[str, str] = field(default_factory=dict)
    shared: set[str] = field(default_factory=set)
    normed: set[str] = field(default_factory=set)
    _source: dict[StorageWeakRef, str] = field(default_factory=dict)  # {storage of an output: its layer}

    def layer(self, name: str, y: Tensor) -> None:
        """A layer gave y."""
        self._source[storage(y)] = name

    def neuron(self, name: str, x: Tensor, y: Tensor) -> None:
        """A neuron made y of x."""
        source = self._source.get(storage(x))
        if storage(y) != storage(x):
            self._source.pop(storage(y), None)
        if source is None:
            if name in self.into:
                self.shared.add(self.into[name])
            return
        known = self.into.setdefault(name, source)
        if known != source or any(other == source and own != name for own, other in self.into.items()):
            self.shared |= {source, known}

    def operation(self, inputs: list[Tensor], output: Tensor, normalises: bool) -> bool:
        """An operation between layers; whether it is a BatchNorm that a layer takes in."""
        sources = [self._source[storage(x)] for x in inputs if storage(x) in self._source]
        if normalises and sources:
            self._source[storage(output)] = sources[0]
            self.normed.add(sources[0])
            return True
        if not any(storage(x) == storage(output) for x in inputs):  # no view
            self._source.pop(storage(output), None)
            self.shared.update(sources)
        return False

    def forget(self) -> None:
        """The tensors of this batch."""
        self._source.clear()

    def merge(self, state: dict[str, Any]) -> None:
        """Add the `state()` of another process."""
        self.into |= state["into"]
        self.shared |= state["shared"]
        self.normed |= state["normed"]

    def state(self) -> dict[str, Any]:
        return {"into": self.into, "shared": self.shared, "normed": self.normed}


def storage(x: Tensor) -> StorageWeakRef:
    """What views of one tensor have in common. Not its address, which a later tensor gets once this one is dropped."""
    return StorageWeakRef(x.untyped_storage())
