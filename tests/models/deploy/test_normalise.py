"""Normalised networks: activations divided by lam, and the same logits."""

import pytest
import torch
from conversion_nets import LAYERS, TWINS, golden_detector, golden_scales, largest_activations, twin

from models.deploy import fold_bn, normalise
from models.deploy.graph import activations, layer_of, nodes_of
from models.layers.watch import watch


def test_weights_of_the_golden_network(golden):
    z = golden("conv_chnorm_net")
    graph = normalise(golden_detector(z), golden_scales(z))
    found = {str(node.target).split(".")[-1]: layer_of(graph, node) for node in nodes_of(graph, "convolution")}
    found |= {"h2": found.pop("0"), "h1": found.pop("1")}
    for name in (*LAYERS, "h1", "h2"):
        torch.testing.assert_close(found[name].weight.data, z[f"{name}_wnorm"], rtol=1e-12, atol=1e-15)
        torch.testing.assert_close(found[name].bias.data, z[f"{name}_bnorm"], rtol=1e-12, atol=1e-15)
    for y, expected in zip(graph(z["x"][None]), (z["y2"], z["y1"]), strict=True):
        torch.testing.assert_close(y, expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("granularity", ["channel", "layer"])
@pytest.mark.parametrize("name", TWINS)
def test_every_twin_keeps_its_logits_and_divides_its_activations(name, granularity):
    model = twin(name)
    x = torch.rand(1, 2, 3, 32, 48, dtype=torch.float64)
    source = fold_bn(model)
    scales = largest_activations(source, x)
    if granularity == "layer":
        scales = {layer: lam.amax(0, keepdim=True) for layer, lam in scales.items()}
    graph = normalise(model, scales)
    values = [{}, {}]
    for found, network in zip(values, (source, graph), strict=True):
        names = {layer: name for name, layer in activations(network).items()}
        with torch.no_grad(), watch(names, lambda m, i, y, found=found, names=names: found.update({names[m]: y})):
            found["logits"] = network(x)
    for a, b in zip(values[0].pop("logits"), values[1].pop("logits"), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-9)
    assert list(values[0]) == list(values[1]) == list(scales)
    for layer, lam in scales.items():
        torch.testing.assert_close(values[1][layer] * lam.view(-1, 1, 1), values[0][layer], rtol=0, atol=1e-9)
        assert values[1][layer].max() <= 1 + 1e-9


def test_thresholds_become_1():
    for neuron in ({"name": "qcfs", "L": 8, "v_threshold": 2.0}, {"name": "sth", "v_threshold": 1.5}):
        model = twin("spiking_yolov3", neuron)
        x = torch.rand(1, 1, 3, 32, 48, dtype=torch.float64)
        lam = {name: layer.threshold.detach().view(1) for name, layer in activations(fold_bn(model)).items()}
        graph = normalise(model, lam)
        with torch.no_grad():
            for a, b in zip(graph(x), model.logits(x), strict=True):
                torch.testing.assert_close(a, b, rtol=0, atol=1e-9)
        assert all(layer.dynamics.v_threshold == 1 for layer in activations(graph).values())


def test_wrong_scales_name_the_layer(golden):
    z = golden("conv_chnorm_net")
    model, scales = golden_detector(z), golden_scales(z)
    for wrong, message in (
        ({k: v for k, v in scales.items() if "c3" not in k}, "network.neurons.c3"),
        (scales | {"network.neurons.c9": torch.ones(3)}, "network.neurons.c9"),
        (scales | {"network.neurons.c2": torch.ones(3)}, "network.neurons.c2.*12"),
        (scales | {"network.neurons.c2": torch.zeros(12)}, "network.neurons.c2"),
        (scales | {"network.neurons.c2": torch.full((12,), float("nan"))}, "network.neurons.c2"),
    ):
        with pytest.raises(ValueError, match=message):
            normalise(model, wrong)
