"""Distances of logits from those of a teacher (distillation): 0 where both give the same probabilities."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def sigmoid_kl(logits: Tensor, wanted: Tensor) -> Tensor:
    """KL divergence of Bernoulli(sigmoid(logits)) from Bernoulli(sigmoid(wanted)), of the shape of both.

    Its gradient is that of BCE with the teacher's probabilities as targets: BCE minus the teacher's entropy.
    """
    target = wanted.sigmoid()
    cross = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return cross - F.binary_cross_entropy_with_logits(wanted, target, reduction="none")


def softmax_kl(logits: Tensor, wanted: Tensor) -> Tensor:
    """KL divergence of softmax(logits) from softmax(wanted), both [..., N] -> [...]."""
    log_p, log_q = wanted.log_softmax(-1), logits.log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1)
