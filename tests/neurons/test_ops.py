"""The operators behave like PyTorch's own: fake tensors, torch.compile, export, checkpointing, double backward."""

import math

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from neurons import build_neuron
from neurons.multistep.dynamics import Dynamics
from neurons.multistep.ops import run_steps, steps
from neurons.multistep.reference import reference

NEURONS = ["lif", "plif", "ilif", "ternary_lif", "graded_silu", "qcfs", "sth"]


@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "expanded"])
@pytest.mark.parametrize("name", NEURONS)
def test_opcheck(name, layout):
    d = build_neuron(name).dynamics
    adjusted = d.operands if name in ("ilif", "plif") else None
    x = torch.randn(3, 2, 4, 5, 6)
    if layout == "channels_last":
        x = x.flatten(0, 1).to(memory_format=torch.channels_last).unflatten(0, (3, 2))
    elif layout == "expanded":
        x = x[:1].expand(3, -1, -1, -1, -1)
    decay = torch.tensor(0.4, requires_grad=True) if name == "plif" else None
    v = None if d.memoryless else torch.randn(2, 4, 5, 6, requires_grad=True)
    x.requires_grad_()
    arguments = (x, v, decay, None, d.to_json(), True, not d.memoryless, "torch", adjusted)
    torch.library.opcheck(torch.ops.spikesight.steps.default, arguments)


class Net(nn.Module):
    def __init__(self, name):
        super().__init__()
        self.conv, self.neuron1, self.neuron2 = nn.Conv2d(3, 8, 3, padding=1), build_neuron(name), build_neuron(name)

    def forward(self, x_seq):
        x = self.conv(self.neuron1(x_seq).flatten(0, 1)).unflatten(0, x_seq.shape[:2])
        return self.neuron2(3 * x)


def gradients(net, x, run):
    net.zero_grad()
    y = run(x)
    y.square().sum().backward()
    return [y.detach(), *(p.grad.clone() for p in net.parameters())]


@pytest.mark.parametrize("name", ["lif", "plif"])
def test_a_compiled_network_keeps_one_node_per_neuron_and_its_results(name):
    torch.manual_seed(0)
    net, graphs = Net(name), []
    x = torch.randn(4, 2, 3, 8, 8)

    def backend(graph, inputs):
        graphs.append(graph)
        return graph

    eager = gradients(net, x, net)
    for compiled in (torch.compile(net, fullgraph=True, backend=backend), torch.compile(net, fullgraph=True)):
        for a, b in zip(gradients(net, x, compiled), eager, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    (graph,) = graphs
    assert sum("spikesight.steps" in str(n.target) for n in graph.graph.nodes) == 2


def test_export_runs_and_carries_readable_dynamics():
    net = Net("lif").eval()
    net.neuron2.adjust(outside=0.1)
    x = torch.randn(4, 2, 3, 8, 8)
    with torch.no_grad():
        program = torch.export.export(net, (x,))
        torch.testing.assert_close(program.module()(x), net(x))
    assert '"tau": 1.333' in str(program.graph)


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointing(reentrant):
    net, x = Net("plif"), torch.randn(4, 2, 3, 8, 8, requires_grad=True)
    plain = gradients(net, x, net)
    saved = gradients(net, x, lambda x: checkpoint(net, x, use_reentrant=reentrant))
    assert all(torch.equal(a, b) for a, b in zip(plain, saved, strict=True))


@pytest.mark.parametrize(
    "d",
    [
        Dynamics("binary", tau=2.0, surrogate="atan", alpha=2.0),
        Dynamics("ternary", tau=2.0, v_reset=0.0, surrogate="sigmoid", alpha=4.0),
        Dynamics("binary", tau=4 / 3, v_reset=0.0, surrogate="rectangle", detach_reset=True),
        Dynamics("binary", tau=2.0, surrogate="triangle", outside=0.15),
        Dynamics("integer", tau=4 / 3, levels=4),
        Dynamics("integer", tau=4 / 3, levels=2, margin=0.7, outside=0.15),
        Dynamics("silu", tau=4 / 3),
    ],
    ids=Dynamics.describe,
)
@pytest.mark.parametrize("streams", [False, True])
def test_double_backward_is_that_of_plain_autograd(d, streams):
    torch.manual_seed(0)
    x, w = torch.randn(4, 20, dtype=torch.float64), torch.randn(4, 20, dtype=torch.float64)
    v = torch.randn(20, dtype=torch.float64) if streams else None

    def twice(run):
        x_, w_ = x.clone().requires_grad_(), w.clone().requires_grad_()
        v_ = v.clone().requires_grad_() if streams else None
        y, v_last = run(x_, v_)
        loss = (y * w_).sum() + (v_last.square().sum() if streams else 0)
        (grad,) = torch.autograd.grad(loss, x_, create_graph=True)
        second = torch.autograd.grad(grad.square().sum(), [x_, w_], allow_unused=True)
        return [grad.detach(), *(torch.zeros_like(x) if g is None else g for g in second)]

    def operator(x, v):
        y, _, v_last = steps(x, v, None, None, d.to_json(), True, streams, "auto")
        return y, v_last

    for a, b in zip(twice(operator), twice(lambda x, v: reference(d, x, v)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_graded_neuron_passes_gradcheck_where_nothing_is_detached():
    d = Dynamics("silu", tau=4 / 3)
    x = torch.randn(1, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: steps(x, None, None, None, d.to_json(), True, False, "torch")[0], x)


def saved_bytes(module, x):
    kept = {}

    def pack(t):
        kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        module(x)
    kept.pop(x.untyped_storage().data_ptr(), None)
    return sum(kept.values())


@pytest.mark.parametrize(
    "name, arguments, bits",
    [
        ("lif", {}, 2), ("lif", {"v_reset": None}, 1), ("lif", {"v_reset": None, "detach_reset": False}, 1),
        ("lif", {"v_reset": None, "learn_threshold": True}, 2), ("if", {"surrogate": "rectangle"}, 1), ("ilif", {}, 1),
        ("lif", {"surrogate": {"name": "rectangle", "outside": 0.1}}, 2), ("ilif", {"outside": 0.1, "margin": 0.5}, 1),
        ("ilif", {"outside": 0.1, "detach_reset": False}, 1),
        ("ternary_lif", {"surrogate": "rectangle", "detach_reset": True}, 4),
        ("ternary_if", {"surrogate": "rectangle", "v_reset": None}, 2), ("sth", {}, 2),
        ("qcfs", {"learn_threshold": False}, 1),
        # These work everything out again from the input.
        ("plif", {}, 0), ("ternary_lif", {}, 0), ("lif", {"detach_reset": False}, 0), ("graded_silu", {}, 0),
        ("qcfs", {}, 0), ("lif", {"learn_tau": True}, 0), ("ilif", {"learn_tau": True, "outside": 0.1}, 0),
        ("ilif", {"learn_threshold": True}, 0),
    ],
)  # fmt: skip
def test_backward_keeps_bits_besides_the_input(name, arguments, bits):
    for T in (4, 5):
        x = torch.randn(T, 1000, requires_grad=True)
        expected = math.ceil(T / (8 // bits)) * 1000 if bits else 0
        assert expected <= saved_bytes(build_neuron(name, **arguments), x) <= expected + 64  # 0-d parameters


def test_no_bits_are_packed_without_a_backward():
    d = build_neuron("lif").dynamics
    assert steps(torch.randn(4, 10), None, None, None, d.to_json(), False, False, "torch")[1].shape == (0, 10)


def test_parameters_follow_the_type_of_the_module_and_must_be_on_the_device_of_the_input():
    module, x = build_neuron("plif").half(), torch.randn(4, 100).half()
    module(x).sum().backward()
    assert module.w.grad.dtype == torch.half and module.w.grad != 0
    with pytest.raises(RuntimeError, match="parameters are on cpu, its input is on meta"):
        run_steps(x.to("meta"), None, torch.tensor(0.5), None, module._json, False, False, "torch")
