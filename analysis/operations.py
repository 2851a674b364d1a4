"""Operations of a network: additions of spikes (synaptic operations) and multiply-accumulates, of each convolution."""

from __future__ import annotations

from functools import cache
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models import Detector
from models.layers.spike_conv import SpikeConv
from models.layers.step_weights import StepWeights
from models.layers.time import is_repeated, mean_over_time
from models.layers.watch import watch
from models.samplers.cells import CellConv
from neurons import MultiStepNeuron, StepNeuron

from .recorder import Recorder

TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, *TRANSPOSED)
WHOLE = 0.01  # how far from a whole number the sum of spikes over T may be that a mean, rounded to bf16, gives
OPERATIONS = ("theta", "synops", "macs", "dense_macs")


class Operations(Recorder):
    """`with Operations(detector) as operations: detector(x)`, then `operations.totals()` and `operations.layers()`.

    Of every convolution and linear layer, per image, all T steps together:

        theta       unit spikes at its input, sum |s|: an integer s is |s| of them, a ternary one has its magnitude
        synops      additions: sum |s| (outputs that the input reaches). Exact at borders, and with strides, dilation,
                    groups and transposed convolutions
        macs        multiply-accumulates where the input is real: outputs x inputs per group x taps, zeros included
        dense_macs  those of one step, whatever the input is: one pass of the ANN twin over an image

    An input is spikes if the network has spiking neurons and every value of all batches is a whole number, also after
    sums, pools and upsampling. An image is real whatever its values are, up to the first spiking neuron; event counts
    are spikes. A layer of the mean over T (`layers.time.readout`) counts what its T steps would: T times the mean is
    the sum, in which ternary spikes of both signs cancel. Spikes that the read-out weights by their step count as they
    are, since the sums of each step can be weighted instead. While all T steps are one image, before the first neuron
    with a membrane, a layer counts once.

    Not counted: bias, BatchNorm, sums of maps, pools, FFTs, the updates of neurons, the weights of steps.
    """

    def __init__(self, model: Detector):
        layers = {name: m for name, m in model.named_modules() if isinstance(m, LAYERS)}
        # Several convolutions without a neuron between them are one where spikes are added (`models.deploy.fuse`).
        blocks = {f"{name}.conv": m.conv for name, m in model.named_modules() if isinstance(m, SpikeConv)}
        self._merged: dict[str, nn.Module] = {name: m for name, m in blocks.items() if name not in layers}
        self._one: dict[nn.Module, nn.Module] = {m: m.dense() for m in self._merged.values()}  # type: ignore[operator]
        self._parts = {name for name in layers if any(name.startswith(f"{block}.") for block in self._merged)}
        encoder: Any = model.encoder
        super().__init__({"images": encoder, **layers, **self._merged}, {"counts": self._measure})
        self._encoder, self._in_encoder, self._constant = encoder, set(encoder.modules()), model.constant_input
        self._neurons = [m for m in model.modules() if isinstance(m, MultiStepNeuron)]
        self._in_steps = {m for neuron in self._neurons if isinstance(neuron, StepNeuron) for m in neuron.modules()}
        self._spiking = any(neuron.spiking for neuron in self._neurons)
        self._unweighted: dict[Any, Tensor] = {}  # the mean over T before the weights of a learned read-out
        self._T = self._B = 1
        self._image = self._repeated = False  # whether a layer called now sees an image; and it T times

    def __enter__(self) -> Self:
        self._following = watch(self._neurons, self._after_neuron)
        self._following.__enter__()
        return super().__enter__()

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)
        self._following.__exit__(*exception)

    def layers(self, merged: bool = False) -> dict[str, dict[str, float]]:
        """{layer: {theta, synops, macs, dense_macs}} per image, in the order of the network.

        merged: convolutions without a neuron between them (SpikeYOLO's RepConv and SepRepConv) as the one dense
        convolution that they equal in evaluation, in place of each as it is run.
        """
        sums = self.sums()
        if "images" not in sums:
            return {}
        images, left_out = sums.pop("images")["counts"][0], self._parts if merged else self._merged
        table = {}
        for name, found in sums.items():
            real, *counts = found["counts"]
            row = dict(zip(OPERATIONS, (count / images for count in counts), strict=True))
            spikes = self._spiking and not real
            if name not in left_out:
                table[name] = row | ({"macs": 0.0} if spikes else {"theta": 0.0, "synops": 0.0})
        return table

    def totals(self) -> dict[str, Any]:
        """{"synops", "macs", "dense_macs"} per image, and of a network with layers to merge also of its "merged" form:
        {the same three}. An ANN is not merged: that would cost it more."""
        totals: dict[str, Any] = _sum(self.layers())
        return totals | ({"merged": _sum(self.layers(merged=True))} if self._spiking and self._merged else {})

    def _after_neuron(self, neuron: nn.Module, x: Tensor, y: Tensor) -> None:
        self._image &= not neuron.spiking
        self._repeated &= bool(neuron.memoryless)
        if isinstance(neuron, StepWeights):
            self._unweighted[neuron] = mean_over_time(x.float())

    def _measure(self, layer: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """float64 sums over the images: of the encoder [images], of a layer the columns of `_count`."""
        if layer is not self._encoder:
            return self._count(layer, *self._maps(layer, x, y)).sum(0)
        self._T, self._B = y.shape[:2]
        self._image, self._repeated = self._constant(x), is_repeated(y)
        return torch.tensor([self._B], dtype=torch.float64)

    def _maps(self, layer: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """x and y of a call as maps [rows, ...] of the sizes that its weights are for."""
        x = self._unweighted.pop(getattr(layer, "step_weights", None), x)
        if isinstance(layer, CellConv) and x.shape[1] != layer.in_channels:
            return F.pixel_shuffle(x, 2), F.pixel_shuffle(y, 2)
        if isinstance(layer, nn.Linear) and x.dim() > 2:  # [T, B, ..., features]
            return x.flatten(0, 1), y.flatten(0, 1)
        return x, y

    def _count(self, layer: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """Of each image, float64 [B, 1 + len(OPERATIONS)]: inputs that are not whole, *OPERATIONS. x, y: `_maps`."""
        one = self._one.get(layer, layer)
        passes, steps = self._passes(layer, x)
        found = torch.ones(self._B, 1 + len(OPERATIONS), dtype=torch.float64, device=x.device)
        macs = multiply_accumulates(one, x, y) / min(self._B, len(x))
        found[:, 3], found[:, 4] = macs * min(steps, 1.0), macs / self._dense_passes(layer, passes)
        if self._spiking:
            summed = x.float().abs() * max(steps, 1.0)
            spikes = summed.round()
            if layer in self._in_encoder or not self._image:
                real = (summed - spikes).abs() > WHOLE * spikes.clamp(max=1)
                found[:, 0] = self._of_images(real.flatten(1).sum(1))
            found[:, 1:3] = min(steps, 1.0) * self._spikes(one, spikes, y)
        return found

    def _spikes(self, layer: nn.Module, spikes: Tensor, y: Tensor) -> Tensor:
        """Of each image, float64 [B, 2]: theta and synops of a layer y = layer(spikes)."""
        theta = spikes.flatten(1).sum(1, dtype=torch.float64)
        return torch.stack([self._of_images(theta), self._of_images(additions_of_rows(layer, spikes, y))], 1)

    def _of_images(self, rows: Tensor) -> Tensor:
        """Sums over the steps of each image, [B], of rows [T * B] in this order; of a single row, which all images
        share, each has it; the mean where there are other rows."""
        if len(rows) == 1:
            return rows.double().expand(self._B)
        if len(rows) % self._B:
            return (rows.double().sum() / self._B).expand(self._B)
        return rows.double().view(-1, self._B).sum(0)

    def _passes(self, layer: nn.Module, x: Tensor) -> tuple[float, float]:
        """(how many maps of each image this call takes, how many steps each of them stands for)."""
        rows = len(x)
        passes = rows / self._B if rows % self._B == 0 else 1.0
        if layer in self._in_encoder or layer in self._in_steps:
            return passes, 1.0
        return passes, 1 / passes if self._repeated else self._T if passes == 1 else 1.0

    def _dense_passes(self, layer: nn.Module, passes: float) -> float:
        """By what the work of a call that takes `passes` maps of each image is divided for `dense_macs`."""
        if layer in self._in_encoder:
            return 1.0  # an encoder runs once for all steps
        return float(self._T) if layer in self._in_steps else passes  # a recurrent convolution is called in each step


def multiply_accumulates(layer: nn.Module, x: Tensor, y: Tensor) -> int:
    """Of a dense layer y = layer(x); those with the zeros of a border are among them."""
    if isinstance(layer, nn.Linear):
        return y.numel() * layer.in_features
    weight: Any = layer.weight
    return (x if isinstance(layer, TRANSPOSED) else y).numel() * weight[0].numel()


def additions(layer: nn.Module, spikes: Tensor, y: Tensor) -> Tensor:
    """Sum over the spikes [N, C, ...], integers >= 0, of their value times the outputs of y = layer(spikes) that they
    reach: float64, 0-d."""
    return additions_of_rows(layer, spikes, y).sum()


def additions_of_rows(layer: nn.Module, spikes: Tensor, y: Tensor) -> Tensor:
    """`additions` of each row of the spikes: float64 [N]."""
    if isinstance(layer, nn.Linear):
        return spikes.flatten(1).sum(1, dtype=torch.float64) * layer.out_features
    conv: Any = layer
    padding, axes = conv.padding, range(2, spikes.dim())
    if conv.padding_mode != "zeros":  # pixels of the border are there several times
        around = conv._reversed_padding_repeated_twice
        spikes, padding = F.pad(spikes, around, mode=conv.padding_mode), (0,) * len(axes)
    elif isinstance(padding, str):
        padding = tuple(
            d * (k - 1) // 2 if padding == "same" else 0 for d, k in zip(conv.dilation, conv.kernel_size, strict=True)
        )
    reached = torch.tensor(conv.out_channels // conv.groups, dtype=torch.float64, device=spikes.device)
    for i, axis in enumerate(axes):
        settings = conv.kernel_size[i], conv.stride[i], padding[i], conv.dilation[i]
        count = outputs_reached(spikes.shape[axis], y.shape[axis], *settings, isinstance(layer, TRANSPOSED))
        reached = reached.unsqueeze(-1) * reached.new_tensor(count)
    return (spikes.sum(1, dtype=torch.float64) * reached).flatten(1).sum(1)


@cache
def outputs_reached(
    size: int, out: int, k: int, stride: int, padding: int, dilation: int, transposed: bool
) -> tuple[int, ...]:
    """Along one axis: of each of `size` inputs, how many of `out` outputs it reaches through a kernel of k taps."""

    def reaches(i: int, tap: int) -> bool:
        if transposed:
            return 0 <= i * stride - padding + tap * dilation < out
        place, rest = divmod(i + padding - tap * dilation, stride)
        return not rest and 0 <= place < out

    return tuple(sum(reaches(i, tap) for tap in range(k)) for i in range(size))


def _sum(layers: dict[str, dict[str, float]]) -> dict[str, float]:
    return {key: sum(row[key] for row in layers.values()) for key in OPERATIONS[1:]}
