"""A network against a slow reference of the published one, layer by layer."""

import torch
from torch import nn

from models import to_published_state_dict
from models.published import published_names

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)
TARGETS = [
    {"boxes": torch.tensor([[4.0, 6.0, 40.0, 50.0], [30.0, 10.0, 60.0, 30.0]]), "labels": torch.tensor([0, 2])},
    {"boxes": torch.tensor([[50.0, 20.0, 90.0, 60.0]]), "labels": torch.tensor([1])},
]
SIZE = 64, 96
YOLOX = ("eas_snn_", "spiking_yolox_")  # the networks of test_yolox_networks.py


def enliven(model, x, lift=0.0):
    """Weights and statistics of BatchNorm under which spikes reach the head. lift: of their biases, for neurons that
    fire at rarer currents."""
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    momenta = [m.momentum for m in norms]
    model.train()
    with torch.no_grad():
        for m in norms:
            m.weight.uniform_(0.6, 1.6)
            m.bias.uniform_(lift - 0.2, lift + 0.5)
            m.momentum = 0.5
        for _ in range(4):
            model.raw(x)
        for m, momentum in zip(norms, momenta, strict=True):
            m.running_mean.add_(0.1 * torch.randn_like(m.running_mean))
            m.momentum = momentum


def published_state(model):
    """The published state dict, apart from the model: it takes gradients and statistics of its own."""
    return {
        k: v.clone().requires_grad_(k.endswith((".weight", ".bias", ".w", ".decay")))
        for k, v in to_published_state_dict(model).items()
    }


def agree(ours, theirs, what):
    """To 1e-9 of the largest value, or to 1e-9."""
    largest = float(theirs.detach().abs().max())
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9 * max(largest, 1.0), msg=lambda m: f"{what}: {m}")


def inputs_of_convolutions(model):
    """{published name: input [N, C, H, W]}, filled while the model runs."""
    names = {
        ours.removesuffix(".weight"): theirs.removesuffix(".weight") for ours, theirs in published_names(model).items()
    }
    seen = {}
    for ours, module in model.named_modules():
        if isinstance(module, CONVOLUTIONS):
            module.register_forward_pre_hook(lambda _, args, name=names[ours]: seen.update({name: args[0]}))
    return seen


def same_layers(seen, slow):
    """What each convolution got: [N, ...] of ours, perhaps padded already, [T, B, ...] of the reference. Where all
    steps are one, ours may have run it once."""
    for layer, mine in seen.items():
        other = slow[layer].flatten(0, 1)
        other = slow[layer].mean(0) if mine.shape[0] != other.shape[0] else other
        H, W = other.shape[-2:]
        top, left = (mine.shape[-2] - H) // 2, (mine.shape[-1] - W) // 2
        agree(mine[..., top : top + H, left : left + W], other, layer)


def same_training(model, state, ours, theirs):
    """Losses of the head on both logits, their gradients, and the statistics of BatchNorm."""
    losses, expected = (model.head.loss(logits, TARGETS, SIZE) for logits in (ours, theirs))
    for key, loss in losses.items():
        agree(loss, expected[key], key)
    sum(losses.values()).backward()
    sum(expected.values()).backward()
    named = published_names(model)
    for key, p in model.named_parameters():
        if p.requires_grad and not key.endswith("neuron.threshold"):  # no part of the published table
            agree(p.grad, state[named[key]].grad, key)
    for key, b in model.named_buffers():
        if key in named and "anchors" not in key and "tracked" not in key:
            agree(b, state[named[key]], key)
