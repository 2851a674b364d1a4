"""A classifier on the spikes of a converted network: one LIF neuron per class, trained by STDP."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from neurons import build_neuron
from neurons.base import DynamicNeuron
from registry import UserError


class STDPReadout(nn.Module):
    """Spikes [T, B, N] of a network's last layer -> class scores [B, K]; the optimised output layer of the paper on
    double-threshold conversion:

        m[t] = gamma v[t-1] + W s[t] + b,  a spike where m >= 1,  v = m - spike

    `fit` trains W by pair-based STDP: a presynaptic spike at t_pre and a postsynaptic one at t_post add F(x), with
    x = t_post - t_pre,

        F(x) = a_plus exp(-x / tau_plus) for x > 0,  a_minus exp(x / tau_minus) for x < 0,  F(0) = 0,  a_minus < 0

    Differs from the paper in the sign of the exponent for x < 0, a misprint there: its F grows without bound. The paper
    gives neither the constants nor how classes are assigned; these choices are this project's. The teacher is a spike
    train: a spike every `period` steps for the neuron of the image's class, none for the others. Pairs with spikes of
    the teacher count as above, pairs with spikes of the neuron itself with the opposite sign, so that W rests where
    both agree (ReSuMe, Ponulak and Kasinski, 2010). Sums over pairs are divided by the mean over images of
    sum_n (spikes of n)^2 / T, so that the constants suit any N, T and firing rate. b = 0: STDP does not train it.

    Args:
        inputs: N.
        classes: K.
        gamma: the share of the potential kept from step to step, in (0, 1).
        a_plus, a_minus, tau_plus, tau_minus: F; time constants in steps.
        period: steps between spikes of the teacher.
    """

    weight: Tensor  # [K, N], 0 at the start; a buffer, as no gradient trains it

    def __init__(
        self, inputs: int, classes: int, gamma: float = 0.9, a_plus: float = 1.0, a_minus: float = -0.3,
        tau_plus: float = 4.0, tau_minus: float = 4.0, period: int = 4,
    ):  # fmt: skip
        super().__init__()
        for name, value, good, remedy in (
            ("inputs", inputs, inputs >= 1, "give 1 or more"),
            ("classes", classes, classes >= 1, "give 1 or more"),
            ("period", period, period >= 1, "give 1 or more steps"),
            ("gamma", gamma, 0 < gamma < 1, "give a number between 0 and 1"),
            ("a_plus", a_plus, a_plus > 0, "give a number above 0"),
            ("a_minus", a_minus, a_minus <= 0, "give a number below 0: such pairs weaken a synapse"),
            ("tau_plus", tau_plus, tau_plus > 0, "give a number of steps above 0"),
            ("tau_minus", tau_minus, tau_minus > 0, "give a number of steps above 0"),
        ):
            if not good:
                raise UserError(f"{name} = {value}: {remedy}")
        neuron = build_neuron("lif", tau=1 / (1 - gamma), v_threshold=1.0, v_reset=None, fires_at_threshold=True)
        assert isinstance(neuron, DynamicNeuron)
        self.neuron = neuron
        self.a_plus, self.a_minus, self.tau_plus, self.tau_minus = a_plus, a_minus, tau_plus, tau_minus
        self.period = period
        self.register_buffer("weight", torch.zeros(classes, inputs))

    @torch.no_grad()
    def forward(self, spikes: Tensor) -> Tensor:
        """Scores [B, K] of spikes [T, B, N] or [T, B, C, H, W]: (spikes + last potential) / T of the class's neuron.

        The potential orders classes with equally many spikes.
        """
        own, potential = self._fire(self._flat(spikes))
        return (own.sum(0) + potential) / len(own)

    @torch.no_grad()
    def fit(self, spikes: Tensor, labels: Tensor, epochs: int = 20, batch_size: int = 16, seed: int = 0) -> None:
        """Train on spikes [T, B, N] or [T, B, C, H, W] of images of the classes `labels` (int64 [B]).

        Every epoch goes through the images once, in an order drawn from `seed`, with one update per batch; for data
        that does not fit into memory call it batch by batch, with epochs=1.
        """
        spikes = self._flat(spikes)
        classes = len(self.weight)
        if labels.shape != spikes.shape[1:2] or labels.dtype != torch.int64:
            raise UserError(
                f"labels of {labels.dtype} {list(labels.shape)}: give int64 [{spikes.shape[1]}], one per image"
            )
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
            raise UserError(f"labels from {int(labels.min())} to {int(labels.max())}: give 0 to {classes - 1}")
        generator = torch.Generator().manual_seed(seed)
        for _ in range(epochs):
            for batch in torch.randperm(len(labels), generator=generator).to(spikes.device).split(batch_size):
                self.weight += self.update(spikes[:, batch], labels[batch])

    def update(self, pre: Tensor, labels: Tensor) -> Tensor:
        """The change of W [K, N] that the pairs of spikes pre [T, B, N] ask for."""
        own, _ = self._fire(pre)
        teacher = torch.zeros_like(own)
        teacher[self.period - 1 :: self.period, torch.arange(len(labels), device=labels.device), labels] = 1
        change = self.pairs(pre, teacher - own) / len(labels)
        spikes_of_a_neuron = pre.abs().sum(0)
        return change * len(pre) / spikes_of_a_neuron.square().sum(1).mean().clamp(min=1)

    def pairs(self, pre: Tensor, post: Tensor) -> Tensor:
        """[K, N]: sum of F(t_post - t_pre) over images and all pairs of spikes of pre [T, B, N] and post [T, B, K]."""
        t = torch.arange(len(pre), device=pre.device, dtype=pre.dtype)
        x = t[:, None] - t  # x[t_post, t_pre]
        potentiation = self.a_plus * torch.exp(-x.abs() / self.tau_plus) * (x > 0)
        depression = self.a_minus * torch.exp(-x.abs() / self.tau_minus) * (x < 0)
        traces = torch.einsum("op,obk->pbk", potentiation + depression, post)  # what a spike at t_pre adds
        return torch.einsum("pbk,pbn->kn", traces, pre)

    def _fire(self, pre: Tensor) -> tuple[Tensor, Tensor]:
        """(spikes [T, B, K], the last potential [B, K])."""
        own, potential = self.neuron.advance(pre @ self.weight.T, None, True)
        assert isinstance(potential, Tensor)
        return own, potential

    def _flat(self, spikes: Tensor) -> Tensor:
        inputs = self.weight.shape[1]
        if spikes.ndim < 3 or spikes.shape[2:].numel() != inputs:
            raise UserError(
                f"spikes {list(spikes.shape)}: give [T, B, N] of N = {inputs} neurons, or [T, B, C, H, W] with as many"
            )
        return spikes.flatten(2).to(self.weight.dtype)

    def extra_repr(self) -> str:
        classes, inputs = self.weight.shape
        return f"inputs={inputs}, classes={classes}, period={self.period}"
