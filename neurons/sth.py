"""Clipped leaky ReLU: the activation of ANNs that convert to signed integrate-and-fire neurons."""

from __future__ import annotations

from .base import DynamicNeuron
from .multistep.dynamics import Dynamics
from .registry import register_neuron


@register_neuron("sth")
class STH(DynamicNeuron):
    """Y = clip(X, 0, th) where X >= 0, clip(negative_slope X, -th, 0) below

    The sthLeakyReLU of double-threshold conversion: the firing rate of `signed_if` with this slope and threshold th.
    The paper gives neither th nor the slope; 0.1 and a learned th from 4 on are this project's.

    Args: `negative_slope`; `v_threshold`: th at the start; `learn_threshold`: train it, kept positive; `per_channel`:
    one th per channel; `backend`.
    """

    spiking = False

    def __init__(
        self, negative_slope: float = 0.1, v_threshold: float = 4.0, learn_threshold: bool = True,
        per_channel: bool = False, backend: str = "auto",
    ):  # fmt: skip
        dynamics = Dynamics("sth", v_threshold=v_threshold, slope=negative_slope)
        super().__init__(dynamics, learn_threshold, backend, per_channel)
