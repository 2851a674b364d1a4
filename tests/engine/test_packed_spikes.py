"""Packed spikes change no digit, and less is kept for backward."""

import copy

import pytest
import torch
from family_members import MEMBERS, member, targets
from torch import nn

import train
from engine.packed_spikes import pack_spikes
from engine.precision import autocast
from engine.wrap import wrap
from neurons import MultiStepNeuron, build_neuron

CPU = torch.device("cpu")


def step(model, x, precision="fp32", labels=None):
    """(loss, gradients and buffers, bytes kept for backward without parameters) of one training step."""
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept = {}

    def keep(tensor):
        kept.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), autocast(CPU, precision):
        y = model(x, targets()) if labels is None else model(x)
        loss = sum(y.values()) if isinstance(y, dict) else y.float().square().sum()
    size = sum(t.untyped_storage().nbytes() for place, t in kept.items() if place not in own)
    loss.backward()
    state = [*(p.grad for p in model.parameters() if p.grad is not None), *model.buffers()]
    return loss.detach(), state, size


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", MEMBERS.values(), ids=MEMBERS.keys())
def test_every_family_gives_the_same_digits(name, precision, layout):
    plain = member(name).to(memory_format=layout)
    packed = copy.deepcopy(plain)
    pack_spikes(packed)
    x = torch.rand(2, 3, 64, 64)
    (loss, state, size), (loss2, state2, size2) = (step(model, x, precision) for model in (plain, packed))
    assert torch.equal(loss, loss2) and all(map(torch.equal, state, state2)) and len(state) == len(state2)
    assert size2 <= size
    assert list(plain.state_dict()) == list(packed.state_dict())


class Layer(nn.Module):
    def __init__(self, neuron, conv):
        super().__init__()
        self.neuron, self.conv = neuron() if callable(neuron) else build_neuron(neuron), conv

    def forward(self, x):
        return self.conv(self.neuron(x).flatten(0, 1))


@pytest.mark.parametrize(
    ("neuron", "bits"), [("lif", 1), ("ternary_lif", 2), ({"name": "ilif", "D": 4}, 4), ({"name": "ilif", "D": 99}, 8)]
)
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize(
    "conv",
    [
        lambda: nn.Conv2d(4, 6, 3, 2, 1, bias=True),
        lambda: nn.Conv2d(4, 4, 5, padding=2, groups=4, dilation=1, bias=False),
        lambda: nn.ConvTranspose2d(4, 6, 3, 2, 1, output_padding=1),
    ],
)
def test_a_convolution_keeps_bits(neuron, bits, precision, conv):
    torch.manual_seed(0)
    x = 4 * torch.randn(2, 3, 4, 16, 16)
    plain = Layer(neuron, conv())
    packed = copy.deepcopy(plain)
    pack_spikes(packed)
    found = []
    for model in (plain, packed):
        leaf = x.clone().requires_grad_()
        loss, state, size = step(model, leaf, precision, labels=[])
        found.append((loss, *state, leaf.grad, size))
    *numbers, size = found[0]
    *numbers2, size2 = found[1]
    assert all(map(torch.equal, numbers, numbers2)) and len(numbers) == len(numbers2)
    spikes = x.numel() * (4 if precision == "fp32" else 2)  # autocast gives the convolution a copy
    assert size - size2 == spikes - x.numel() * bits // 8


class Signs(MultiStepNeuron):
    """A neuron of plain PyTorch, whose output may be changed in place."""

    emits = (0, 1)

    def steps(self, x_seq):
        return (x_seq > 0).float() + (x_seq - x_seq.detach())


def test_values_that_are_not_the_neuron_s_stay_as_they_are():
    """Changed in place after the neuron, or computed from its output."""

    class Changed(Layer):
        def forward(self, x):
            y = self.neuron(x).flatten(0, 1)
            y.mul_(0.5)
            return self.conv(y) + self.conv(y + 0.5)

    plain = Changed(Signs, nn.Conv2d(4, 4, 3))
    packed = copy.deepcopy(plain)
    pack_spikes(packed)
    x = torch.randn(2, 3, 4, 16, 16)
    one, two = (step(model, x.clone().requires_grad_(), labels=[]) for model in (plain, packed))
    assert torch.equal(one[0], two[0]) and all(map(torch.equal, one[1], two[1])) and one[2] == two[2]


def test_with_checkpointing_only_the_inputs_of_blocks_are_kept():
    plain = member("ems_resnet10_ee")
    x = torch.rand(2, 3, 64, 64)
    loss, state, size = step(copy.deepcopy(plain), x)
    sizes = []
    for checkpoint in (False, True):
        model = wrap(copy.deepcopy(plain), checkpoint, False, CPU, pack=True)
        loss2, state2, size2 = step(model, x)
        assert torch.equal(loss, loss2) and all(map(torch.equal, state, state2))
        sizes.append(size2)
    assert sizes[1] < sizes[0] < size


def test_a_run_is_the_same_with_packed_spikes(tiny, trained):
    run = train.main([tiny, "train.pack_spikes=true"])
    weights = [torch.load(f / "checkpoint_last.pt", weights_only=True)["model"] for f in (trained, run)]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_compiled_blocks_are_refused(tiny):
    with pytest.raises(ValueError, match="train.pack_spikes = true: .*train.compile=false"):
        train.main([tiny, "train.pack_spikes=true", "train.compile=true"])
