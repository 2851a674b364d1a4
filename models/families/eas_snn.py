"""EAS-SNN: an adaptive event sampler, and YOLOX of parametric LIF neurons for the frames that it gives.

Wang et al., "EAS-SNN: End-to-End Adaptive Sampling and Representation for Event-based Detection with Recurrent Spiking
Neural Networks", ECCV 2024. The sampler (`models.samplers`) turns micro-bins of events into frames; with one frame, the
published setting, all T steps show that frame.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from neurons import NeuronSpec, neuron_factory
from registry import UserError, none_of

from ..detector import Detector
from ..heads import HeadSpec, build_head
from ..layers.csp import Factory, Focus, Stem6x6
from ..layers.csp_darknet import YOLOXNetwork, in_container, published_name
from ..layers.time import is_repeated, mean_over_time
from ..registry import register_model
from ..samplers import SamplerEncoder, SamplerSpec, build_sampler

SAMPLER: dict[str, Any] = {  # what a mapping leaves out is as here
    "name": "arsnn", "k": 5, "depth": 2, "out_steps": 1, "rpd": True, "sat": True, "readout": "sum", "reverse": True,
}  # fmt: skip
# Which parts spike; the published names are full_spike_v2, full_spike, True and False.
SPIKING = ("full", "backbone_neck", "backbone", "none")
STEMS = {"focus": Focus, "spiking": Stem6x6}


class EASNetwork(YOLOXNetwork):
    """`YOLOXNetwork` whose later parts may be an ANN, of the mean over T of the spiking maps before it.

    Args:
        base, depth: of the size.
        neurons, activations: make those of spiking and of ANN parts.
        spiking: "full", "backbone_neck" or "backbone": which parts spike. "none": an ANN.
        stem: "focus", which the published code leaves an ANN layer in every network, or "spiking", a 6 x 6 convolution
            (published for N-Caltech101).
    """

    def __init__(
        self, base: int, depth: float, neurons: Factory, activations: Factory, in_channels: int, spiking: str, stem: str
    ):
        for name, value, known in (("spiking", spiking, SPIKING), ("stem", stem, tuple(STEMS))):
            if value not in known:
                raise UserError(none_of(f"{name} = {value!r}", str(value), known))
        backbone = neurons if spiking != "none" else activations
        neck = neurons if spiking in ("full", "backbone_neck") else activations
        first = (activations if stem == "focus" else backbone)()
        super().__init__(STEMS[stem](in_channels, base, first), base, depth, backbone, neck)
        self.spiking, self.stem_kind = spiking, stem

    @property
    def hybrid(self) -> bool:
        """Whether an ANN follows on spiking parts."""
        return self.spiking in ("backbone", "backbone_neck")

    @property
    def keeps_steps(self) -> bool:
        return self.spiking == "full"

    def before_mean(self, x: Tensor) -> list[Tensor]:
        """x [T, B, C, H, W] -> the maps [T, B, ...] of the spiking parts."""
        maps = self.features(x)
        return maps if self.spiking == "backbone" else self.fuse(maps)

    def after_mean(self, maps: list[Tensor]) -> list[Tensor]:
        """The maps for the head from the means over T [1, B, ...] of those of `before_mean`."""
        return self.fuse(maps) if self.spiking == "backbone" else maps

    def forward(self, x: Tensor) -> list[Tensor]:
        if self.spiking == "none" and is_repeated(x):
            x = x[:1]  # an ANN gives the same at every step
        if not self.hybrid:
            return super().forward(x)
        return self.after_mean([mean_over_time(level).unsqueeze(0) for level in self.before_mean(x)])

    def published_names(self) -> dict[str, str]:
        names = {}
        for key in self.state_dict():
            if (name := published_name(key)) is None:
                continue
            in_neck = key.startswith("neck_")
            if key.startswith("stem.") and self.stem_kind == "focus":
                name = name if self.spiking == "none" else name.replace(".stem.", ".stem.0.", 1)
            elif self.spiking in ("full", "backbone_neck") or self.spiking == "backbone" and not in_neck:
                name = in_container(name)
            names[key] = name
        return names

    def published_head(self, name: str) -> str:
        return f"head.{in_container(name) if self.spiking == 'full' else name}"


class HybridDetector(Detector):
    """A detector whose ANN part sees the mean over T of spiking maps: its logits are not a mean over steps.

    Within `neurons.Stream` a call gives the logits of the mean over the steps of that call. `stepper`, and with it
    `simulate`, gives those of the mean over all steps so far.
    """

    network: EASNetwork

    def stepper(self, x: Tensor) -> Callable[[int], list[Tensor]]:
        if self.memory is not None:
            raise UserError("memory: behind a mean over T it makes one step per call, so there is no AP against T")
        steps = self.steps(x)
        sums: list[Tensor] = []
        total: list[Tensor] = []

        def step(t: int) -> list[Tensor]:
            """(t + 1) logits(t + 1) - t logits(t), where logits(t) are those of t steps: their mean is logits(T)."""
            nonlocal sums, total
            maps = self.network.before_mean(steps(t))
            sums = [a + b for a, b in zip(sums, maps, strict=True)] if sums else maps
            logits = self.head(self.network.after_mean([level / (t + 1) for level in sums]))
            before, total = total, [level * (t + 1) for level in logits]
            return [a - b for a, b in zip(total, before, strict=True)] if before else total

        return step


class Size(NamedTuple):
    """depth: of the CSP layers. width: 1 is 64 channels after the stem."""

    depth: float
    width: float


def _detector(
    size: Size, num_classes: int, T: int, neuron: NeuronSpec, head: HeadSpec, in_channels: int, width: float,
    spiking: str, stem: str, sampler: SamplerSpec,
) -> Detector:  # fmt: skip
    neurons = neuron_factory(neuron)
    # The activations of the ANN parts of a spiking network are SiLU; those of an ANN twin are one kind throughout.
    activations = neuron_factory("silu") if getattr(neurons(), "spiking", True) else neurons
    if isinstance(sampler, Mapping):
        sampler = {**SAMPLER, **sampler}
    encoder = SamplerEncoder(T, build_sampler(sampler, in_channels))
    base = max(1, int(64 * size.width * width))
    network = EASNetwork(base, size.depth, neurons, activations, in_channels, spiking, stem)
    in_head = neurons if spiking == "full" else activations
    own_head = build_head(head, network.channels, network.strides, num_classes, in_head)
    return (HybridDetector if network.hybrid else Detector)(network, own_head, encoder)


@register_model
def eas_snn_s(
    num_classes=2, T=3, neuron="plif", head="yolox", in_channels=2, width=1.0, spiking="full", stem="focus",
    sampler=SAMPLER,
) -> Detector:  # fmt: skip
    """8,938,206 parameters at 2 classes; backbone and neck spiking 8,938,191, backbone 8,938,167, ANN 8,938,133."""
    return _detector(Size(0.33, 0.5), num_classes, T, neuron, head, in_channels, width, spiking, stem, sampler)


@register_model
def eas_snn_m(
    num_classes=2, T=3, neuron="plif", head="yolox", in_channels=2, width=1.0, spiking="full", stem="focus",
    sampler=SAMPLER,
) -> Detector:  # fmt: skip
    """25,280,918 parameters at 2 classes; backbone and neck spiking 25,280,903, backbone 25,280,871, ANN 25,280,821."""
    return _detector(Size(0.67, 0.75), num_classes, T, neuron, head, in_channels, width, spiking, stem, sampler)


@register_model
def eas_snn_l(
    num_classes=2, T=3, neuron="plif", head="yolox", in_channels=2, width=1.0, spiking="full", stem="focus",
    sampler=SAMPLER,
) -> Detector:  # fmt: skip
    """54,147,790 parameters at 2 classes; backbone and neck spiking 54,147,775, backbone 54,147,735, ANN 54,147,669."""
    return _detector(Size(1.0, 1.0), num_classes, T, neuron, head, in_channels, width, spiking, stem, sampler)
