"""Detector: an encoder (images or events to T steps), a spiking or ANN network, and a detection head."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from neurons import MultiStepNeuron
from registry import UserError

from .contracts import Encoder, EncodesSteps, Head, Network
from .encoders import encode_step
from .layers.time import is_repeated


class NonFiniteLogitsError(UserError):
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
    image: boxes [N, 4] xyxy in pixels of x, scores [N], labels [N], best first. Stateless between calls.

    Args:
        network: x [T, B, C, H, W] -> feature maps [T, B, C_l, H_l, W_l], finest first.
        head: the maps -> logits, averaged over T; logits -> losses or detections.
        encoder: a batch of a dataset -> x [T, B, C, H, W]; `DirectEncoder(T)` repeats images, keeps event frames.

    `models.contracts` specifies each part.
    """

    network: Network
    head: Head
    encoder: Encoder
    leak: float = 1.0  # of the read-out in a simulation: at T, step t has the weight leak^(T - t)

    def __init__(self, network: Network, head: Head, encoder: Encoder):
        super().__init__()
        self.network, self.head, self.encoder = network, head, encoder
        self.memory: nn.Module | None = None  # recurrent cells on the maps: the option `memory` of `create_model`
        # Of a trained detector (`load_detector`): the names of its labels, and how images or windows of events become
        # its x, the plain values of a `data.Input`.
        self.class_names: list[str] = []
        self.input: dict[str, Any] | None = None

    @property
    def T(self) -> int:
        """Time steps of the encoder. Set it to evaluate images with another number."""
        return self.encoder.T

    @T.setter
    def T(self, steps: int) -> None:
        self.encoder.T = steps

    def encode(self, x: Tensor) -> Tensor:
        """A batch of a dataset -> [T, B, C, H, W]."""
        return self.encoder(x)

    def encode_step(self, x: Tensor, t: int) -> Tensor:
        """Step t of `encode(x)`, [1, B, C, H, W], t from 0; without making the others if the encoder can."""
        return encode_step(self.encoder, x, t)

    def constant_input(self, x: Tensor) -> bool:
        """Whether `encode_step(x, t)` is the same for every t."""
        return isinstance(self.encoder, EncodesSteps) and self.encoder.constant(x)

    def logits(self, x_TBCHW: Tensor) -> list[Tensor]:
        """Logits per level [B, ...], finest first, averaged over the steps of x [T, B, C, H, W], for any T >= 1.

        Within `neurons.Stream`, in evaluation mode, the mean over T calls with one step each equals one call with these
        T steps, so that a loop over steps simulates the network in memory that does not grow with T.
        """
        return self.logits_of(self.network(x_TBCHW))

    def logits_of(self, maps: list[Tensor]) -> list[Tensor]:
        """Logits of maps of the network [T, B, C_l, H_l, W_l], through the memory, if there is one."""
        return self.head(maps if self.memory is None else self.memory(maps))

    def steps(self, x: Tensor) -> Callable[[int], Tensor]:
        """A function of t from 0: step t of `encode(x)`, [1, B, C, H, W].

        An encoder that cannot make one step alone, as a learned sampler, runs once, here. If it shows one frame for all
        T steps, t may be T and more.
        """
        if isinstance(self.encoder, EncodesSteps):
            return lambda t: self.encode_step(x, t)
        x_TBCHW = self.encode(x)
        return partial(_step, x_TBCHW)

    def stepper(self, x: Tensor) -> Callable[[int], list[Tensor]]:
        """A function of t, called with 0, 1, 2, ... within a Stream: the logits of step t of a batch of a dataset."""
        steps = self.steps(x)
        return lambda t: self.logits(steps(t))

    def spiking_layers(self) -> dict[str, MultiStepNeuron]:
        """{name: neuron} of all layers that emit spikes, in the order of the network."""
        return {n: m for n, m in self.named_modules() if isinstance(m, MultiStepNeuron) and m.spiking}

    def raw(self, x: Tensor) -> list[Tensor]:
        """`logits(encode(x))`: logits per level, finest first, of a batch of a dataset."""
        return self.logits(self.encode(x))

    def decode(self, logits: list[Tensor], size: tuple[int, int]) -> list[dict[str, Tensor]]:
        """Per image boxes [N, 4] xyxy, scores [N], labels [N] of `logits`; size: (height, width) of the input.

        Logits that are not finite raise NonFiniteLogitsError: NaN would pass as "no detection".
        """
        _require_finite(logits)
        return self.head.decode(logits, size)

    def forward(
        self, x: Tensor, targets: Sequence[dict[str, Tensor] | None] | None = None
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """x: a batch as `encode` takes it; targets: per image boxes [N, 4] xyxy and labels [N], N >= 0.

        None marks an unlabelled image: it updates the state but is excluded from loss and decoding.

        In evaluation, logits that are not finite raise NonFiniteLogitsError, as in `decode`.
        """
        size = (x.shape[-2], x.shape[-1])
        logits = self.raw(x)
        if not self.training:
            _require_finite(logits)
        if targets is None:
            if self.training:
                raise UserError("in training mode the model needs targets; call model.eval() for detections")
            return self.decode(logits, size)
        batch = logits[0].shape[0]
        if len(targets) != batch:
            raise UserError(f"{batch} images, but {len(targets)} targets")
        known = [i for i, target in enumerate(targets) if target is not None]
        nothing = {"boxes": logits[0].new_zeros(0, 4), "labels": logits[0].new_zeros(0, dtype=torch.int64)}
        if not self.training:
            found = [{**nothing, "scores": logits[0].new_zeros(0)} for _ in range(batch)]
            decoded = self.head.decode([level[known] for level in logits], size) if known else []
            for i, detections in zip(known, decoded, strict=True):
                found[i] = detections
            return found
        if not known:  # zero losses that keep every parameter in the graph, as DDP requires
            nothing["unlabelled"] = logits[0].new_zeros(())  # not counted by heads that count images over processes
            losses = self.head.loss([level[:1] for level in logits], [nothing], size)
            return {key: 0 * loss for key, loss in losses.items()}
        if len(known) < batch:
            logits = [level[known] for level in logits]
        return self.head.loss(logits, [target for target in targets if target is not None], size)


def _step(x_TBCHW: Tensor, t: int) -> Tensor:
    T = len(x_TBCHW)
    if t >= T and T > 1 and not is_repeated(x_TBCHW):
        raise UserError(f"t = {t}: the input has T={T} steps, so t must be below {T}")
    return x_TBCHW[t % T : t % T + 1]


def _require_finite(logits: list[Tensor]) -> None:
    finite = torch.stack([level.flatten(1).isfinite().all(1) for level in logits]).all(0)
    if not finite.all():
        raise NonFiniteLogitsError((~finite).nonzero().flatten().tolist(), len(finite))
