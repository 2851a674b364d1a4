"""A detector: a network of spiking (or ANN) layers that gives feature maps over time, and a head that reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .time import repeat_over_time


class NonFiniteLogitsError(ValueError):
    """`entries`: the indices within the batch of the images whose logits are not finite."""

    def __init__(self, entries: list[int], batch: int):
        self.entries = entries
        super().__init__(
            f"logits are not finite for {len(entries)} of {batch} images, entries {entries[:5]} of the batch: an input "
            "that is not finite, or weights that have diverged"
        )


class Detector(nn.Module):
    """The torchvision detection contract, with a time axis.

    In training `model(x, targets)` gives a dict of losses to be summed; in evaluation `model(x)` gives one dict per
    picture: boxes [N, 4] xyxy in pixels of x, scores [N], labels [N], best first. Nothing is remembered between calls.

    Args:
        network: x_seq [T, B, C, H, W] -> feature maps [T, B, C_l, H_l, W_l], finest first. Its attribute
            `published_names() -> dict[ours, theirs]` maps parameter names (see `models.published`).
        head: reads the maps; see `models.heads`.
        T: steps an image is shown for, and the number of frames expected of an event sample.
    """

    network: Any
    head: Any

    def __init__(self, network: nn.Module, head: nn.Module, T: int):
        super().__init__()
        if T < 1:
            raise ValueError(f"T must be at least 1, got {T}")
        self.network, self.head, self.T = network, head, T

    def raw(self, x: Tensor) -> list[Tensor]:
        """The head's logits per level, finest first, averaged over T; x is [B, C, H, W] or [T, B, C, H, W]."""
        if x.dim() == 4:
            x = repeat_over_time(x, self.T)
        elif x.dim() == 6:
            raise ValueError(
                f"events with an axis of micro-bins, [T, B, bins, C, H, W] = {tuple(x.shape)}: only a network with a "
                "learned sampler takes them, whose own `raw` merges the bins. For this one set "
                "data.args.representation to stacked_histogram, which has the bins in its channels, or to counts"
            )
        elif x.dim() != 5:
            raise ValueError(f"expected images [B, C, H, W] or events [T, B, C, H, W], got {tuple(x.shape)}")
        elif x.shape[0] != self.T:
            raise ValueError(
                f"the model was built for T={self.T} steps, but the events have T={x.shape[0]}: {tuple(x.shape)}"
            )
        return self.head(self.network(x))

    def forward(
        self, x: Tensor, targets: Sequence[dict[str, Tensor] | None] | None = None
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """x: [B, C, H, W] or [T, B, C, H, W] float; targets: per picture boxes [N, 4] xyxy and labels [N], N >= 0.

        A target of None says that nothing is asked of that picture, whose events only move the membranes: it takes no
        part in the losses, and in evaluation nothing is decoded for it.

        In evaluation NonFiniteLogitsError names images whose logits are not finite, as NaN is below any threshold.
        """
        raw = self.raw(x)
        if not self.training:
            _require_finite(raw)
        if targets is None:
            if self.training:
                raise ValueError("in training mode the model needs targets; call model.eval() for detections")
            return self.head.decode(raw)
        batch = raw[0].shape[0]
        if len(targets) != batch:
            raise ValueError(f"{batch} pictures, but {len(targets)} targets")
        known = [i for i, target in enumerate(targets) if target is not None]
        nothing = {"boxes": raw[0].new_zeros(0, 4), "labels": raw[0].new_zeros(0, dtype=torch.int64)}
        if not self.training:
            found = [{**nothing, "scores": raw[0].new_zeros(0)} for _ in range(batch)]
            for i, detections in zip(known, self.head.decode([r[known] for r in raw]) if known else [], strict=True):
                found[i] = detections
            return found
        if not known:  # zero losses that reach every weight, as DDP asks for
            nothing["unlabelled"] = raw[0].new_zeros(())  # heads that count images over processes leave this one out
            return {key: 0 * loss for key, loss in self.head.loss([r[:1] for r in raw], [nothing]).items()}
        if len(known) < batch:
            raw = [r[known] for r in raw]
        return self.head.loss(raw, [targets[i] for i in known])


def _require_finite(raw: list[Tensor]) -> None:
    finite = torch.stack([r.flatten(1).isfinite().all(1) for r in raw]).all(0)
    if not finite.all():
        raise NonFiniteLogitsError((~finite).nonzero().flatten().tolist(), len(finite))
