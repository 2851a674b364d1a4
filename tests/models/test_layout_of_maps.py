"""channels_last is kept by every layer of every family, forward and backward, but at the ends: input and logits."""

import pytest
import torch
from family_members import MEMBERS, member, targets
from torch import nn

from models.layers.layout import concat
from models.layers.spike_conv import RateConv


def lost(x: torch.Tensor) -> bool:
    """Whether the channels of a map [N, C, H, W] or [T, B, C, H, W] are not innermost in memory. Gradients may be those
    of a part of the channels."""
    return x.dim() in (4, 5) and min(x.shape[-3:]) > 1 and x.stride(-3) != 1


def watch(model: nn.Module) -> list[str]:
    """Names of the layers whose output or gradient there is not channels_last, as the model runs."""
    found = []

    def hook(name, module):
        def look(_, inputs, output):
            for x in output if isinstance(output, list) else [output]:
                if isinstance(x, torch.Tensor) and lost(x):
                    found.append(name)
                if isinstance(x, torch.Tensor) and x.requires_grad:
                    x.register_hook(lambda gradient: found.append(f"gradient of {name}") if lost(gradient) else None)

        module.register_forward_hook(look)

    for name, module in model.network.named_modules():
        hook(name, module)
    for name, module in model.head.named_modules():
        # Logits are averaged over T and permuted there: [B, A, H, W, 5 + K], or concatenated.
        is_last = isinstance(module, RateConv) or (isinstance(module, nn.Conv2d) and module.bias is not None)
        if name and not is_last and not any(isinstance(m, RateConv) for m in module.modules()):
            hook(f"head.{name}", module)
    return found


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", MEMBERS.values(), ids=MEMBERS.keys())
def test_no_layer_loses_channels_last(name, precision):
    model = member(name).to(memory_format=torch.channels_last)
    found = watch(model)
    x = torch.rand(2, 3, 96, 96)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        losses = model(x, targets())
    sum(losses.values()).backward()
    # The input itself (an identity); gradients of a Fourier transform, which is contiguous.
    ends = ("down1.neuron", "gradient of dark5.2.m.0.ffc1.ffc.convg2g.fu.neuron")
    assert [layer for layer in found if layer not in (*ends, ends[1].replace("ffc1", "ffc2"))] == []


def test_contiguous_maps_are_seen():
    model = member("ems_resnet10_ee")
    found = watch(model)
    sum(model(torch.rand(2, 3, 96, 96), targets()).values()).backward()
    assert {"stem.conv", "gradient of stem.conv", "stages.2", "head.predict.0"} - set(found) == {"head.predict.0"}


def test_concatenation_is_that_of_torch():
    maps = [torch.rand(2, 3, c, 4, 5, dtype=torch.float64).requires_grad_() for c in (2, 3, 4)]
    assert torch.equal(concat(maps), torch.cat(maps, 2))
    assert torch.autograd.gradcheck(lambda *x: concat(list(x)), maps)
    last = [x.detach().flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, (2, 3)) for x in maps]
    assert concat(last).flatten(0, 1).is_contiguous(memory_format=torch.channels_last)
