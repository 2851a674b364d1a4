"""Values that change during training (`train.anneal`): of the neurons, as margin, alpha or D, and T of images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from models import Detector
from models.adjustable import Number, adjustable, set_values
from registry import UserError, none_of


class Anneal:
    """Numbers that go linearly from a first to a last value over the first epochs of a training, then stay there.

    Args:
        ends: {name: [first, last]}. T is that of the detector, all others are those of its neurons
            (`DynamicNeuron.adjustable`), of each that has one of the name. Integers are rounded.
        until: share of `epochs` after which the last value is reached, above 0 and at most 1; at the latest it is that
            of the last epoch.
        model: as it was built, with the last values.

    UserError for a name that no neuron has, for a last value that the model was not built with, and where a first value
    is out of range.
    """

    def __init__(self, ends: Mapping[str, Any], until: float, epochs: int, model: Detector):
        built = {name: values for name, values in adjustable(model).items()} | {"T": {model.T}}
        for name, pair in ends.items():
            key = f"train.anneal.{name}"
            if name not in built:
                raise UserError(none_of(f"{key}: no neuron of this network has {name!r} to change", name, built))
            if not isinstance(pair, list | tuple) or len(pair) != 2 or not all(map(_is_number, pair)):
                raise UserError(f"{key} = {pair!r}: give the first and the last value, as in [1.0, 0.0]")
            own = sorted(built[name])
            if own != [pair[1]]:
                raise UserError(
                    f"{key} = {list(pair)}: it ends at {pair[1]}, but the model is built with "
                    f"{' and '.join(map(str, own))}, with which its checkpoints are opened: set {_where(name)} to the "
                    "last value"
                )
        self.ends = {name: (first, last, type(next(iter(built[name])))) for name, (first, last) in ends.items()}
        self.last_change = min(until * epochs, epochs - 1)  # of the epochs, from 0
        for name, (first, _, kind) in self.ends.items():  # refused now, not in the first epoch
            try:
                set_values(model, {name: kind(first)})
            except UserError as error:
                raise UserError(f"train.anneal.{name} = {list(ends[name])}: {error}") from error
        set_values(model, {name: kind(last) for name, (_, last, kind) in self.ends.items()})

    def values(self, epoch: int) -> dict[str, Number]:
        """Of an epoch, from 0."""
        share = min(epoch / self.last_change, 1.0) if self.last_change > 0 else 1.0
        between = {name: first + (last - first) * share for name, (first, last, _) in self.ends.items()}
        return {name: round(value) if self.ends[name][2] is int else value for name, value in between.items()}

    def set(self, epoch: int, *models: Detector) -> dict[str, Number]:
        """Set the values of an epoch in `models`; returns them as a training logs them."""
        values = self.values(epoch)
        for model in models:
            set_values(model, values)
        return {f"anneal/{name}": value for name, value in values.items()}

    def changes_scores(self, epoch: int) -> bool:
        """Whether D or T, on which scores depend beside the weights, differ from those of the epoch before."""
        now, before = self.values(epoch), self.values(max(epoch - 1, 0))
        return any(now[name] != before[name] for name in ("D", "T") if name in now)

    def unfinished(self, epoch: int) -> dict[str, Number]:
        """The values of an epoch that are not the last ones."""
        return {name: value for name, value in self.values(epoch).items() if value != self.ends[name][1]}


def annealed_text(content: Mapping[str, Any]) -> list[str]:
    """Lines for the user about a checkpoint: the values that it is opened with, where it is of an epoch on the way."""
    values = ", ".join(f"{name} {value:g}" for name, value in content.get("annealed", {}).items())
    return [f"train.anneal had reached {values} when this checkpoint was written, with which it is used"] * bool(values)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _where(name: str) -> str:
    return "model.T" if name == "T" else f"{name} in model.neuron"
