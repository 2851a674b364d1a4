"""Published weights of the papers: map their parameter names and values to ours and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn

from registry import UserError

from .contracts import HasPublishedNames
from .detector import Detector


@dataclass
class LoadReport:
    """Published names: `matched` were loaded; `missing` are expected but absent; `unexpected` are not used;
    `shape_differs` names what was skipped as (name, published shape, our shape)."""

    matched: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    shape_differs: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{len(self.matched)} matched, {len(self.missing)} missing, {len(self.unexpected)} unexpected, "
            f"{len(self.shape_differs)} of another shape"
        )


def published_names(model: Detector) -> dict[str, str]:
    """{our state-dict key: published key} of the model, one to one.

    UserError naming the encoder, network or head that has weights but no published names.
    """
    names: dict[str, str] = {}
    parts = {"encoder": model.encoder, "network": model.network, "head": model.head, "memory": model.memory}
    for part, module in parts.items():
        own = module.published_names() if isinstance(module, HasPublishedNames) else {}
        if own and part == "head":
            own = _within(model.network.published_head, own)  # type: ignore[attr-defined]
        names |= {f"{part}.{ours}": theirs for ours, theirs in own.items()}
        if not own and any(key.startswith(f"{part}.") for key in model.state_dict()):
            raise UserError(
                f"{type(module).__name__}, the {part} of this model, has no `published_names`, so its weights cannot "
                "be loaded from, or saved under, published names"
            )
    return names


def _within(place: str | Mapping[str, str] | Callable[[str], str], names: Mapping[str, str]) -> dict[str, str]:
    """A head's names {our key: its published key} in those of its network, whose `published_head` is `place`."""
    if callable(place):
        return {ours: place(theirs) for ours, theirs in names.items()}
    if isinstance(place, str):
        return {ours: f"{place}.{theirs}" for ours, theirs in names.items()}
    layers = {ours: theirs.rpartition(".") for ours, theirs in names.items()}
    return {ours: f"{place[layer]}.{leaf}" for ours, (layer, _, leaf) in layers.items() if layer in place}


def names_of_rows(network: nn.Module, rows: Mapping[str, int], table: str = "model") -> dict[str, str]:
    """{our key: published key} of a network whose layers are rows of a published table, "<table>.<rows[layer]>" there.

    A layer is a block, whose dict `published` maps the names of its parts, or a Sequential of blocks.
    """
    names = {}
    for layer, row in rows.items():
        module = network.get_submodule(layer)
        blocks: dict[str, nn.Module] = {"": module}
        if isinstance(module, nn.Sequential):
            blocks = {f".{i}": block for i, block in enumerate(module)}
        for index, block in blocks.items():
            for part, their_part in cast(dict[str, str], block.published).items():
                for leaf in block.get_submodule(part).state_dict():
                    names[f"{layer}{index}.{part}.{leaf}"] = f"{table}.{row}{index}.{their_part}.{leaf}"
    return names


def load_published_weights(model: Detector, state_dict: Mapping[str, Tensor]) -> LoadReport:
    """Copy a published state dict into `model`. The report names everything that did not fit."""
    own = model.state_dict()
    names = published_names(model)
    report = LoadReport(unexpected=sorted(set(state_dict) - set(names.values())))
    with torch.no_grad():
        for ours, theirs in names.items():
            if theirs not in state_dict:
                report.missing.append(theirs)
            elif state_dict[theirs].shape != own[ours].shape:
                report.shape_differs.append((theirs, tuple(state_dict[theirs].shape), tuple(own[ours].shape)))
            else:
                own[ours].copy_(state_dict[theirs])
                if (factor := _factor(model, ours)) is not None:
                    own[ours].mul_(factor)
                report.matched.append(theirs)
    return report


def to_published_state_dict(model: Detector) -> dict[str, Tensor]:
    """The model's weights under the published names, as `load_published_weights` takes them."""
    own, published = model.state_dict(), {}
    for ours, theirs in published_names(model).items():
        factor = _factor(model, ours)
        published[theirs] = own[ours].clone() if factor is None else own[ours] / factor
    return published


def _factor(model: Detector, ours: str) -> Tensor | None:
    """Factor of `ours = published * factor`, for values of a head in another unit (anchors, published in strides)."""
    factor = getattr(model.head, "published_factor", None)
    return factor(ours.removeprefix("head.")) if factor and ours.startswith("head.") else None
