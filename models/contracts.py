"""Interfaces (protocols) of the parts of a `Detector`: encoder, network, head. Each part is an `nn.Module`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from torch import Tensor, nn

# torch.nn.Module.__call__ is typed as `Callable[..., Any]`, so the docstrings give the shapes.


class Encoder(Protocol):
    """Calling it turns a batch of a dataset into x [T, B, C, H, W], of the same H and W.

    The batch: images [B, C, H, W], event frames [T, B, C, H, W], or micro-bins [B, Tl, Tm, C, H, W]; UserError for a
    shape that this encoder does not accept. It may have weights (a learned sampler) or be random (Poisson coding).
    Optional: `ChecksShape`, `EncodesSteps`, `MakesFrames`, and `input_scale`, the value of a pixel whose code has the
    mean 1 over the steps (where it is missing, 1).
    """

    T: int  # number of steps; may be set, to evaluate with another one

    __call__: Callable[..., Any]


@runtime_checkable
class ChecksShape(Protocol):
    """An encoder that checks the shape of a batch, so that a wrong dataset is reported before training."""

    def check(self, shape: tuple[int, ...]) -> None:
        """UserError for a batch of a shape that it does not accept."""


@runtime_checkable
class EncodesSteps(Protocol):
    """An encoder that can make one step without the others: a simulation over many steps needs memory for one.

    Without it, `Detector.encode_step` encodes all T steps and takes one of them.
    """

    def step(self, x: Tensor, t: int) -> Tensor:
        """Step t >= 0 of a batch of a dataset, [1, B, C, H, W]. Images: any t, also T and more. UserError beyond the
        last of event frames."""

    def constant(self, x: Tensor) -> bool:
        """Whether the steps of this batch are all equal, so that layers before the first neuron need run only once."""


@runtime_checkable
class MakesFrames(Protocol):
    """An encoder that makes frames of windows of micro-bins, so that a dataset's number of windows need not be T."""

    def fixed_steps(self, windows: int) -> int | None:
        """Number of frames of a sample of `windows` windows; None where one frame is shown for any T."""

    def describe(self, shape: tuple[int, ...]) -> str:
        """A line for the user: what becomes of a batch of this shape."""


@runtime_checkable
class ClosesFrames(Protocol):
    """An encoder of micro-bins in which spikes decide, per pixel and channel, when an event frame closes."""

    def closing_layer(self) -> nn.Module | None:
        """The layer that emits these spikes, once per window or group of windows; None where no frame closes."""

    def closing_bins(self, spikes: Tensor) -> Tensor:
        """Bin that closed each frame, [frames, B, C, H, W] int64, 0 the oldest of its window, -1 where it is open; of
        an output [Tm, ...] of that layer. B counts the windows of a group apart."""


class Network(Protocol):
    """Calling it turns x [T, B, C, H, W], of any T >= 1, into maps [T, B, C_l, H_l, W_l], finest first.

    H_l = ceil(H / stride_l), the same for W. Optional: `HasPublishedNames`, and with it `published_head`;
    `keeps_steps`, False where the maps have one step for all T of x; `neck`, the names of its children after the
    backbone, unless they begin with neck_ (`models.parts`).
    """

    @property
    def channels(self) -> Sequence[int]: ...  # C_l of the maps, for the head

    @property
    def strides(self) -> Sequence[int]: ...  # pixels of the input per cell of the maps, for the head

    __call__: Callable[..., Any]


class Head(Protocol):
    """Calling it turns a network's maps into logits, a list with one tensor [B, ...] per level, finest first.

    Its logits are those of each step, averaged over T (`layers.time.readout`). `size` is the input's
    (height, width) in pixels; `targets` are one dict per image of boxes [N, 4] xyxy in pixels and labels [N], N >= 0.
    Optional: `GivesCandidates`, `Selects`, `Distills`, `HasClassRows`, `FitsAnchors`, `FollowsEpochs`, `ReadsOut`,
    `HasPublishedNames`.
    """

    __call__: Callable[..., Any]

    def loss(self, logits: list[Tensor], targets: list[dict[str, Tensor]], size: tuple[int, int]) -> dict[str, Tensor]:
        """Losses to be summed, each a sum over the batch's images."""

    def decode(self, logits: list[Tensor], size: tuple[int, int]) -> list[dict[str, Tensor]]:
        """Per image boxes [N, 4] xyxy in pixels of the input, scores [N], labels [N], best first."""


@runtime_checkable
class GivesCandidates(Protocol):
    """A head whose decoding ends in thresholds and NMS: what goes into them, of the same shape for all logits."""

    def candidates(self, logits: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Boxes [B, M, 4] xyxy in pixels of the input and scores [B, M, K] of all M predictions."""


@runtime_checkable
class Selects(Protocol):
    """A head whose thresholds and NMS can be changed for an evaluation: `selection` holds the arguments."""

    selection: dict[str, Any]


@runtime_checkable
class Distills(Protocol):
    """A head that can be trained towards the logits of another detector with the same kind of head, its teacher."""

    def distill(self, logits: list[Tensor], wanted: list[Tensor]) -> Tensor:
        """Distance of the logits from a teacher's, 0 where they are equal, a sum over the batch's images, B >= 0. With
        several processes all of them call it equally often."""

    def logit_code(self) -> dict[str, Any]:
        """{name: plain value} of what logits of one shape mean besides; those of a teacher must be equal."""


@runtime_checkable
class HasClassRows(Protocol):
    """A head whose weights can be transferred to other classes, class by class (`models.transfer`)."""

    def class_rows(self) -> dict[str, int]:
        """{key of the state dict: number of groups of rows, each of which ends in one row per class}."""


@runtime_checkable
class FitsAnchors(Protocol):
    """A head with anchors that can be fitted to a dataset."""

    def fit_anchors(self, sizes: np.ndarray) -> str:
        """Fit the anchors to box sizes [N, 2] in pixels of the input. Returns one line for the user."""


@runtime_checkable
class ReadsOut(Protocol):
    """A head whose steps can be weighted (`models.options.readout`): it applies these convolutions by
    `layers.time.readout`, and nothing that is not linear after them."""

    def readouts(self) -> Sequence[nn.Conv2d]:
        """The convolutions that give the logits."""


@runtime_checkable
class FollowsEpochs(Protocol):
    """A module that trains differently in the last epochs. The trainer sets `epochs_left` before each epoch, also after
    a resume; the state dict does not hold it."""

    epochs_left: int | None  # with the epoch that begins: 1 in the last one. None: no trainer has set it


@runtime_checkable
class HasPublishedNames(Protocol):
    """A part whose paper published weights (`models.published`).

    The network's `published_head` is the prefix of a head's names, or a function from a head's name to its name in the
    network, or, where the head's layers are apart in the published table, {published name of such a layer: its name in
    that table}. A head with values in another unit than
    published also has `published_factor(our key) -> Tensor | None`: ours = published * factor.
    """

    def published_names(self) -> dict[str, str]:
        """{our key of the part's state dict: published key}, one to one."""


@runtime_checkable
class RenamesKeys(Protocol):
    """A module whose state dict had other keys in earlier versions. It also converts them when it is loaded."""

    def rename_keys(self, state_dict: dict[str, Tensor], prefix: str) -> None:
        """Rename earlier keys below `prefix` to the current ones, in place."""
