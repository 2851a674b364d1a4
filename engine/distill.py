"""Distillation (`train.distill`): the maps and logits of a trained detector as further targets of a training.

Hinton et al., "Distilling the Knowledge in a Neural Network", 2015, for the logits; Romero et al., "FitNets: Hints for
Thin Deep Nets", ICLR 2015, for maps within a network; Cao et al., "PKD: General Distillation Framework for Object
Detectors via Pearson Correlation Coefficient", NeurIPS 2022, for the distance of maps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from data.sample import Batch
from models import Detector
from models.contracts import Distills
from models.heads.precision import at_least_float32
from models.layers.time import is_repeated
from neurons import MultiStepNeuron, Stream
from registry import UserError

from .loop import stream_of
from .runs.fingerprint import weights_digest
from .runs.open import Run, open_run

Losses = Callable[[Tensor, Batch], dict[str, Tensor]]


def open_teacher(path: str, class_names: Sequence[str], in_channels: int, input: Mapping[str, Any] | None) -> Run:
    """The run at `path`, whose averaged weights teach a detector of `class_names` and `in_channels`.

    input: how the samples of the training are prepared (`Input.to_plain`), None if unknown. UserError if the teacher
    has other classes, another input, or is a converted network, which has no maps of its own.
    """
    try:
        run = open_run(path)
    except UserError as error:
        raise UserError(f"train.distill = {path}: {error}") from error
    theirs = run.content.get("input")
    compared: dict[str, tuple[Any, Any]] = {
        "class names": (run.class_names, list(class_names)),
        "input channels": (run.content["model_kwargs"].get("in_channels", in_channels), in_channels),
    }
    if input is not None and theirs is not None:
        compared |= {f"input {key}": (theirs.get(key), input.get(key)) for key in ("kind", "representation")}
    for what, (there, here) in compared.items():
        if there != here:
            raise UserError(
                f"train.distill = {path}: its {what} {there}, here {here}: take a teacher that was trained on this data"
            )
    if run.ann is not None:
        raise UserError(f"train.distill = {path}: a converted network: take the checkpoint that it was converted from")
    return run


def teacher_text(run: Run) -> str:
    """What a teacher is, for the user and the checkpoint of its student: model, neuron, digest of its weights."""
    kwargs = run.content["model_kwargs"]
    neuron = kwargs.get("neuron")
    neuron = neuron["name"] if isinstance(neuron, Mapping) else neuron
    return f"{kwargs['name']}, {neuron}, weights {weights_digest(run.content['ema'])}"


class Distillation:
    """The losses of a student against a teacher: `distill_features` and `distill_logits`, sums over labelled images.

    distill_features: 1 - r, r the correlation coefficient of a channel of the student's map with the teacher's over the
        images of the batch and all cells; the mean over channels and levels. The maps are the output of `network`,
        averaged over T. r depends on no channel's scale or offset, and is that of a batch, as BatchNorm is.
        Differs from PKD in the weights: there the sum over levels, times 6.
    distill_logits: `head.distill`, of the logits averaged over T.

    Both are multiplied by `weight`. The teacher is on the device of the student, in evaluation mode, without gradients,
    and sees the same batch, through its own encoder. UserError if heads, strides or channels differ.
    """

    def __init__(self, teacher: Detector, student: Detector, weight: float = 1.0):
        _check_fits(teacher, student)
        self.teacher, self.student, self.weight = teacher.eval().requires_grad_(False), student, weight
        self.stream: Stream | None = None  # of the teacher, within `epoch`
        self.memoryless = all(m.memoryless for m in teacher.modules() if isinstance(m, MultiStepNeuron))

    @contextmanager
    def epoch(self, batches: DataLoader) -> Iterator[Losses]:
        """Within: a function of (x, batch), called after each call of the student with x, its losses. A teacher with
        state is streamed where the loader's dataset is sequential, as the student."""
        seen: dict[str, list[Tensor]] = {}  # the student's maps and logits of its last call
        hooks = [getattr(self.student, part).register_forward_hook(_Keeps(seen, part)) for part in ("network", "head")]
        try:
            with stream_of(self.teacher, batches) as stream:
                self.stream = stream

                def losses(x: Tensor, batch: Batch) -> dict[str, Tensor]:
                    if stream is not None and batch.starts.any():
                        stream.reset(batch.starts)
                    return self._losses(seen.pop("network"), seen.pop("head"), x, batch)

                yield losses
        finally:
            self.stream = None
            for hook in hooks:
                hook.remove()

    def _losses(self, maps: list[Tensor], logits: list[Tensor], x: Tensor, batch: Batch) -> dict[str, Tensor]:
        with torch.no_grad():
            x_TBCHW = self.teacher.encode(x)
            if self.memoryless and is_repeated(x_TBCHW):
                x_TBCHW = x_TBCHW[:1]  # the same maps at each step
            wanted_maps = self.teacher.network(x_TBCHW)
            wanted_logits = self.teacher.logits_of(wanted_maps)
        known = [i for i, target in enumerate(batch.targets) if target is not None]

        def labelled(levels: list[Tensor]) -> list[Tensor]:
            return levels if len(known) == len(batch.targets) else [level[known] for level in levels]

        pairs = zip(*(labelled([m.mean(0) for m in levels]) for levels in (maps, wanted_maps)), strict=True)
        features = torch.stack([uncorrelated(ours, theirs) for ours, theirs in pairs]).mean() * len(known)
        of_logits = self.student.head.distill(labelled(logits), labelled(wanted_logits))  # type: ignore[attr-defined]
        return {"distill_features": self.weight * features, "distill_logits": self.weight * of_logits}


def uncorrelated(maps: Tensor, wanted: Tensor, eps: float = 1e-6) -> Tensor:
    """1 - r of two maps [B, C, H, W], from 0 (equal up to a scale and an offset per channel) to 2, the mean over C.

    Computed as (x - y)^2 / 2 of maps of mean 0 and variance 1 per channel (PKD, section 3.3), the mean over B, H and W.
    eps: added to variances: a channel that is constant in one of both has the constant loss 1/2, without gradient.
    """
    x, y = (_standardised(at_least_float32(m), eps) for m in (maps, wanted))
    return (x - y).square().sum() / (2 * max(x.numel(), 1))  # 0 of no image, where a mean would be NaN


def _standardised(maps: Tensor, eps: float) -> Tensor:
    centred = maps - maps.mean((0, 2, 3), keepdim=True)
    return centred * (centred.square().mean((0, 2, 3), keepdim=True) + eps).rsqrt()


class _Keeps:
    """A forward hook that keeps the output of a part; in a copy of the student it does nothing."""

    def __init__(self, seen: dict[str, list[Tensor]] | None = None, part: str = ""):
        self.seen, self.part = seen, part

    def __call__(self, module: nn.Module, inputs: Any, output: list[Tensor]) -> None:
        if self.seen is not None:
            self.seen[self.part] = output

    def __reduce__(self) -> tuple[type[_Keeps], tuple[()]]:
        return _Keeps, ()


def _check_fits(teacher: Detector, student: Detector) -> None:
    theirs, ours = teacher.head, student.head
    if not isinstance(ours, Distills):
        raise UserError(f"train.distill: head {type(ours).__name__} cannot be distilled: it has no `distill`")
    if type(theirs) is not type(ours):
        raise UserError(
            f"train.distill: the teacher's head is {type(theirs).__name__}, here {type(ours).__name__}: set model.head "
            "to that of the teacher"
        )
    compared = {
        "strides": (list(teacher.network.strides), list(student.network.strides)),
        "channels": (list(teacher.network.channels), list(student.network.channels)),
        **{key: (theirs.logit_code()[key], value) for key, value in ours.logit_code().items()},  # type: ignore[attr-defined]
    }
    for what, (there, here) in compared.items():
        if there != here:
            remedy = (
                "start from the teacher's with train.init_from, and set train.fit_anchors=false"
                if what == "anchors"
                else "take a teacher of the same family and width (model.name, model.args)"
            )
            raise UserError(f"train.distill: the teacher's {what} {there}, here {here}: {remedy}")
