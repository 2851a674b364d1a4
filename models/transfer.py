"""Transfer weights to another detector (train.init_from): by name and shape, and per class name in the head."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from neurons import NeuronSpec, neuron_factory
from neurons.base import DynamicNeuron

from .contracts import HasClassRows, Head, RenamesKeys
from .detector import Detector


@dataclass
class Transfer:
    """`weights`: the tensors that fit. `whole`: keys taken as a whole. `in_part`: keys of the head, with some classes
    only. `shape_differs`: (key, shape there, shape here). `absent`: keys that the source lacks. `classes`:
    those taken by name. `new_classes`: those that keep their initial weights. `convolutions`: how many of the model's
    convolutions fit, and how many it has. `unused`: keys of the source that the model lacks. `levels`: thresholds
    that are lambda / L of a QCFS source."""

    weights: dict[str, Tensor]
    whole: list[str] = field(default_factory=list)
    in_part: list[str] = field(default_factory=list)
    shape_differs: list[tuple[str, list[int], list[int]]] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    new_classes: list[str] = field(default_factory=list)
    convolutions: tuple[int, int] = (0, 0)
    unused: list[str] = field(default_factory=list)
    levels: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        total = len(self.whole) + len(self.in_part) + len(self.shape_differs) + len(self.absent)
        fit, all_ = self.convolutions
        shapes = [f"{key} {there}, here {here}" for key, there, here in self.shape_differs]
        parts = [f"{len(self.whole)} of {total} tensors fit, {fit} of {all_} convolutions among them"]
        if self.in_part:
            parts.append(f"{len(self.in_part)} of the head by class: {_some(self.classes) or 'none in both'}")
            parts[-1] += f" (new: {_some(self.new_classes)})" if self.new_classes else ""
        parts += [f"{len(shapes)} shapes differ: {_some(shapes, 3)}"] if shapes else []
        parts += [f"{len(self.absent)} not there: {_some(self.absent, 3)}"] if self.absent else []
        parts += [f"{len(self.unused)} there not used: {_some(self.unused, 3)}"] if self.unused else []
        parts += [f"{len(self.levels)} thresholds are lambda / L of qcfs"] if self.levels else []
        return "; ".join(parts)


def fitting_weights(
    model: Detector,
    source: Mapping[str, Tensor],
    source_classes: Sequence[str] | None,
    classes: Sequence[str],
    source_neuron: NeuronSpec | None = None,
) -> Transfer:
    """The weights in `source`, of a detector of `source_classes` (None: unknown), that fit `model`, of `classes`.

    A head names the tensors that have one row per class (`class_rows`). If the classes differ, rows of classes with the
    same name are taken, and all rows that belong to no class. Tensors of a head without `class_rows` are then left out.

    source_neuron: that of the source, None if unknown. A learned lambda of `qcfs` becomes the threshold lambda / L of
    `ilif`, whose levels then begin at the same inputs: it gives L / lambda times the output, which a following
    BatchNorm undoes once its statistics are new. Thresholds between other kinds of neurons are not taken.
    """
    own = model.state_dict()
    source = copy.copy(source)  # with the versions of its modules (`_metadata`)
    for name, module in model.named_modules():
        if isinstance(module, RenamesKeys):
            module.rename_keys(source, f"{name}.")  # type: ignore[arg-type]
    result = Transfer(copy.copy(source))  # type: ignore[arg-type]
    result.weights.clear()
    result.levels = _thresholds(model, source, source_neuron)  # type: ignore[arg-type]
    result.unused = [key for key in source if key not in own]
    by_class: dict[str, int] | None = None
    same_classes = list(source_classes or ()) == list(classes)
    if not same_classes:
        by_class = _class_rows(model.head)
        result.classes = [name for name in classes if name in (source_classes or ())]
        result.new_classes = [name for name in classes if name not in result.classes]
    for key, here in own.items():
        there = source.get(key)
        if there is None or (key.startswith("head.") and not same_classes and by_class is None):
            result.absent.append(key)
        elif by_class is not None and key in by_class:
            rows = _rows_by_name(there, here, by_class[key], source_classes, classes)
            if rows is None:
                result.shape_differs.append((key, list(there.shape), list(here.shape)))
            else:
                result.weights[key] = rows
                result.in_part.append(key)
        elif there.shape != here.shape:
            result.shape_differs.append((key, list(there.shape), list(here.shape)))
        else:
            result.weights[key] = there
            result.whole.append(key)
    result.convolutions = (sum(t.dim() == 4 for t in result.weights.values()), sum(t.dim() == 4 for t in own.values()))
    return result


def _thresholds(model: Detector, source: dict[str, Tensor], source_neuron: NeuronSpec | None) -> list[str]:
    """Convert thresholds in `source` for neurons of another kind, or remove them, in place. Keys of those converted."""
    neuron = None if source_neuron is None else neuron_factory(source_neuron)()
    if not isinstance(neuron, DynamicNeuron):
        return []
    converted, theirs = [], neuron.dynamics
    for name, module in model.named_modules():
        key = f"{name}.threshold"
        if isinstance(module, DynamicNeuron) and key in source and module.dynamics.emit != theirs.emit:
            threshold = source.pop(key)
            if (theirs.emit, module.dynamics.emit) == ("qcfs", "integer"):
                source[key] = threshold / theirs.levels
                converted.append(key)
    return converted


def _class_rows(head: Head) -> dict[str, int] | None:
    return {f"head.{key}": n for key, n in head.class_rows().items()} if isinstance(head, HasClassRows) else None


def _rows_by_name(
    there: Tensor, here: Tensor, groups: int, source_classes: Sequence[str] | None, classes: Sequence[str]
) -> Tensor | None:
    """`here` [groups * (n + classes), ...] with the n rows of each group, and those of classes that both have, from
    `there`; None if the shape of `there` does not fit."""
    n = here.shape[0] // groups - len(classes)
    if there.dim() != here.dim() or there.shape[1:] != here.shape[1:] or there.shape[0] % groups:
        return None
    old, new = there.unflatten(0, (groups, -1)), here.unflatten(0, (groups, -1)).clone()
    if source_classes is not None and old.shape[1] != n + len(source_classes) or old.shape[1] < n:
        return None
    new[:, :n] = old[:, :n]
    for k, name in enumerate(classes):
        if source_classes is not None and name in source_classes:
            new[:, n + k] = old[:, n + list(source_classes).index(name)]
    return new.flatten(0, 1)


def _some(names: Sequence[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (" ..." if len(names) > most else "")
