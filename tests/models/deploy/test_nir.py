"""NIR graphs: replayed spike by spike by an interpreter of their own, read back from file, and what NIR cannot hold."""

import numpy as np
import pytest
import torch
from family_members import MEMBERS, member
from torch import nn

from models import create_model
from models.layers.watch import watch
from neurons import build_neuron
from registry import UserError

nir = pytest.importorskip("nir", reason="needs the extra export: nir")

from models.deploy.nir_graph import to_nir  # noqa: E402
from models.deploy.nir_replay import compare_spikes, replay  # noqa: E402

HARD = {"name": "lif", "v_threshold": 0.3}
SHAPE = (3, 32, 32)


def detector(name: str, **kwargs):
    """In float64, with statistics of BatchNorm that are not 0 and 1."""
    model = member(name, **kwargs).eval().double()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias, 0, 0.3)
    return model


def steps(T: int = 3) -> torch.Tensor:
    return torch.rand(T, 1, *SHAPE, dtype=torch.float64)


def exact(model, upto: str | None = None):
    return to_nir(model, SHAPE, upto, dtype=np.float64)


WHOLE = [
    ("spiking_yolo", HARD, {}),
    ("spiking_yolo", HARD, {"pool": "average"}),
    ("spiking_yolo", {"name": "lif", "tau": 2.0, "decay_input": True, "v_threshold": 0.2}, {}),
    ("spiking_yolo", {"name": "lif", "v_threshold": 0.3, "learn_threshold": True}, {}),
    ("spiking_yolo", {"name": "plif", "v_threshold": 0.4, "v_reset": 0.0}, {}),
    ("spiking_yolo", {"name": "if", "v_threshold": 0.5, "v_reset": 0.0}, {}),
    ("double_threshold_tiny", HARD, {}),
    ("spiking_yolo", {"name": "if", "v_threshold": 0.5, "v_reset": -0.2, "v_init": 0.0}, {}),
]


@pytest.mark.parametrize("name, neuron, kwargs", WHOLE)
def test_a_whole_detector_is_replayed_spike_by_spike(name, neuron, kwargs):
    """Its logits are the mean over the steps of the outputs."""
    model, x = detector(name, neuron=neuron, **kwargs), steps()
    graph = exact(model)
    agreement = compare_spikes(model, graph, x)
    assert agreement.layers == len(model.spiking_layers()) and agreement.spikes > 50
    assert agreement.different == 0, agreement
    logits = []
    convs = {conv: None for conv in model.head.predict}
    with watch(convs, lambda layer, inputs, y: logits.append(y)):
        model.logits(x)
    outputs = [value for key, value in replay(graph, x).items() if key.startswith("output")]
    for ours, wanted in zip(outputs, logits, strict=True):
        assert torch.allclose(ours.mean(0), wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("neuron", [WHOLE[1][1], WHOLE[2][1], WHOLE[5][1]], ids=["lif", "damped", "if"])
def test_another_simulator_gives_the_same(neuron):
    """SpikingJelly's reader of NIR, whose neurons step by their own code; one step after the other."""
    pytest.importorskip("nirtorch", reason="needs the package nirtorch")
    from spikingjelly.activation_based.nir_exchange import import_from_nir

    graph, x = to_nir(detector("spiking_yolo", neuron=neuron, pool="average").float(), SHAPE), steps().float()
    network, state, outputs = import_from_nir(graph, dt=1e-4), None, []
    with torch.no_grad():
        for step in x:
            output, state = network(step, state)
            outputs.append(output)
    replayed = replay(graph, x)
    assert torch.equal(torch.stack(outputs), replayed["output"])
    assert sum(float(value.sum()) for name, value in replayed.items() if name != "output") > 50


CUTS = [
    ("spikeyolo_n", {"neuron": HARD}, "network.sppf.cv1", 39),  # sums, re-parameterised and depthwise convolutions
    ("eas_snn_s", {"neuron": HARD, "stem": "spiking"}, "network.neck_lateral5", 36),  # concatenations, max pools
    ("spiking_yolov3", {"neuron": HARD}, "network.conv16", 14),
    ("ems_resnet10_ee", {"neuron": HARD}, "network.stages.0.shortcut", 1),
]


@pytest.mark.parametrize("name, kwargs, upto, layers", CUTS)
def test_what_the_message_names_goes(name, kwargs, upto, layers):
    model = detector(name, **kwargs)
    with pytest.raises(UserError) as error:
        exact(model)
    assert str(error.value).endswith(f"--upto {upto}")
    agreement = compare_spikes(model, exact(model, upto), steps())
    assert agreement.layers == layers and agreement.spikes > 0 and agreement.different == 0


# What stops each family as published: the first layer, and why.
REASONS = {
    "double_threshold": ("network.conv1.neuron", "real output of STH"),
    "eas_snn": ("network.dark2.0.neuron", "soft reset"),
    "ems_yolo": ("network.stages.0 (max_pool2d", "max pooling of real values"),
    "spikeyolo": ("network.stage1.sep.wide.neuron", "integer spikes"),
    "spiking_yolo": ("network.conv1.neuron", "LeakyReLU"),
    "spiking_yolov3": ("network.up.conv", "transposed convolutions"),
    "spiking_yolox": ("network.dark5.2.m.0.ffc1.ffc.convg2g.fu.spectrum", "Fourier transforms"),
}


@pytest.mark.parametrize("family", MEMBERS)
def test_every_family_goes_or_says_what_stops_it(family):
    layer, reason = REASONS[family]
    with pytest.raises(UserError) as error:
        exact(detector(MEMBERS[family]))
    assert any(line.startswith(f"  {layer}") and reason in line for line in str(error.value).splitlines()), error.value


@pytest.mark.parametrize(
    "neuron, reason",
    [
        ({"name": "lif", "v_reset": None}, "soft reset"),
        ({"name": "if", "v_reset": 0.0, "v_init": 0.5}, "0.5 before the first step"),
        ("ternary_lif", "ternary spikes"),
        ("ilif", "integer spikes"),
        ("graded_silu", "real output of GradedSiLU"),
        ("relu", "ReLU, which is no LIF"),
    ],
)
def test_a_neuron_that_is_not_nirs_is_named(neuron, reason):
    with pytest.raises(UserError, match=r"network.conv1.neuron and 7 more: .*") as error:
        exact(detector("spiking_yolo", neuron=neuron))
    assert reason in str(error.value)


def test_sizes_that_a_window_does_not_divide_are_refused():
    model = detector("spiking_yolo", neuron=HARD)
    with pytest.raises(UserError, match="windows cut by the border, of a map of 25 x 16"):
        to_nir(model, (3, 50, 32))


def test_read_outs_that_differ_from_step_to_step_are_refused():
    with pytest.raises(UserError, match="readout = 'learned'"):
        exact(create_model("spiking_yolo", num_classes=2, T=2, width=0.0625, neuron=HARD, readout="learned").eval())


def test_an_unknown_layer_is_an_error_with_the_nearest():
    with pytest.raises(UserError, match="upto = 'network.convv'.*did you mean 'network.conv"):
        exact(detector("spiking_yolo", neuron=HARD), "network.convv")


def test_the_constants_of_ems_yolo():
    """u <- u (1 - 1/tau) + x, tau = 4/3 steps, is Euler's method with dt of NIR's equation for these."""
    model = detector("ems_resnet10_ee", neuron={"name": "lif"})
    graph = to_nir(model, SHAPE, "network.stages.0.shortcut", dt=1e-3)
    (neuron,) = (node for node in graph.nodes.values() if isinstance(node, nir.LIF))
    constants = {"tau": 4 / 3 * 1e-3, "r": 4 / 3, "v_leak": 0, "v_reset": 0, "v_threshold": 0.5}
    for key, value in constants.items():
        array = getattr(neuron, key)
        assert array.dtype == np.float32 and array.shape == (4, 16, 16)
        assert np.allclose(array, value, rtol=1e-6)


def graph_of(node) -> "nir.NIRGraph":
    one = {"input": np.array([1, 1, 1])}
    nodes = {"in": nir.Input(one), "n": node, "out": nir.Output({"output": np.array([1, 1, 1])})}
    return nir.NIRGraph(nodes, [("in", "n"), ("n", "out")], metadata={"dt": 0.5})


def test_the_interpreter_by_hand():
    full = {key: np.full((1, 1, 1), value) for key, value in {"tau": 1.0, "r": 2.0, "v_leak": 0.25}.items()}
    full |= {"v_threshold": np.ones((1, 1, 1)), "v_reset": np.full((1, 1, 1), -0.5)}
    # v <- .5 v + .125 + .7:  .825;  1.2375 fires, -.5;  .575;  1.1125 fires
    x = torch.full((4, 1, 1, 1, 1), 0.7, dtype=torch.float64)
    assert replay(graph_of(nir.LIF(**full)), x)["n"].flatten().tolist() == [0, 1, 0, 1]
    threshold = {"v_threshold": np.full((1, 1, 1), 1.0), "v_reset": np.zeros((1, 1, 1))}
    # v: .5, 1 (not above 1), 1.5 fires, .5
    half = torch.full((4, 1, 1, 1, 1), 0.5, dtype=torch.float64)
    assert replay(graph_of(nir.IF(r=np.full((1, 1, 1), 2.0), **threshold)), half)["n"].flatten().tolist() == [
        0,
        0,
        1,
        0,
    ]


@pytest.mark.parametrize("at_threshold", [False, True])
def test_a_potential_at_the_threshold(at_threshold):
    """NIR fires above it: one that fires at it gets the next smaller float32."""
    from models.deploy.nir_layers import neuron

    layer = build_neuron("if", v_threshold=1.0, v_reset=0.0, fires_at_threshold=at_threshold)
    x = torch.full((4, 1, 1, 1, 1), 0.5)
    graph = graph_of(neuron(layer, (1, 1, 1), 0.5, np.float32))
    assert layer(x).flatten().tolist() == ([0, 1, 0, 1] if at_threshold else [0, 0, 1, 0])
    assert torch.equal(replay(graph, x)["n"], layer(x))


def test_what_is_read_back_from_the_file_is_what_was_written(tmp_path):
    model = detector("spiking_yolo", neuron=HARD).float()
    graph = to_nir(model, SHAPE)
    nir.write(tmp_path / "net.nir", graph)
    read = nir.read(tmp_path / "net.nir")
    assert sorted(read.edges) == sorted(graph.edges) and float(read.metadata["dt"]) == 1e-4
    x = steps().float()
    written, again = replay(graph, x), replay(read, x)
    assert written.keys() == again.keys() and all(torch.equal(written[key], again[key]) for key in written)
    assert read.nodes["output"].metadata == {"layer": "head.predict.0"}
    agreement = compare_spikes(model, read, x)  # in float32 a potential within rounding of a threshold may differ
    assert agreement.spikes > 50 and agreement.different <= agreement.spikes / 100
