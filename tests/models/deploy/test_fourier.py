"""Fourier units as matrices: the same function, exported without FFTs; networks with FFTs in layer graphs."""

import pytest
import torch
from conversion_nets import twin
from torch import nn

from models import create_model
from models.deploy import fold_bn
from models.deploy.fourier import MatrixSignal, MatrixSpectrum, without_fft
from models.deploy.graph import activations, channels, nodes_of, trace
from models.layers.ffc import FFCResnetBlock, FourierUnit, Signal, Spectrum

SIZES = [(1, 1), (1, 2), (2, 1), (2, 2), (3, 5), (5, 4), (4, 6), (7, 7), (20, 20), (45, 80)]


@pytest.mark.parametrize("size", SIZES)
def test_matrices_are_the_transforms(size):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 4, *size)
    spectrum = Spectrum()(x)
    torch.testing.assert_close(MatrixSpectrum()(x), spectrum, rtol=0, atol=1e-5)
    torch.testing.assert_close(MatrixSignal()(spectrum, size[1]), x, rtol=0, atol=1e-5)
    # Of any coefficients, also those that no real map has.
    other = torch.randn_like(spectrum, dtype=torch.float64)
    torch.testing.assert_close(MatrixSignal()(other, size[1]), Signal()(other, size[1]), rtol=0, atol=1e-12)


def test_gradients_are_those_of_the_transforms():
    unit, x = FourierUnit(3, nn.ReLU()).double(), torch.randn(2, 1, 3, 5, 6, dtype=torch.float64)
    grads = []
    for form in (unit, without_fft(unit)):
        leaf = x.clone().requires_grad_()
        form(leaf).square().sum().backward()
        grads += [leaf.grad, form.conv.weight.grad]
    torch.testing.assert_close(grads[:2], grads[2:])


def operators(program):
    found = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    values = [node.meta["val"] for node in program.graph.nodes if isinstance(node.meta.get("val"), torch.Tensor)]
    return found, any(value.is_complex() for value in values)


@pytest.mark.parametrize("size", [(6, 8), (5, 7)])
def test_exported_without_fft_operators_or_complex_numbers(size):
    torch.manual_seed(0)
    block, x = FFCResnetBlock(8).eval(), torch.randn(2, 1, 8, *size)
    with torch.no_grad():
        found, has_complex = operators(torch.export.export(block, (x,)))
        assert has_complex and any("fft" in name for name in found)
        program = torch.export.export(without_fft(block), (x,))
        found, has_complex = operators(program)
        assert not has_complex and not any("fft" in name for name in found)
        torch.testing.assert_close(program.module()(x), block(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("stages", ["released", "full"])
def test_whole_network_exports_in_both_forms(stages):
    torch.manual_seed(0)
    model = create_model("spiking_yolox_s", num_classes=3, T=2, width=0.125, spike_stages=stages).eval().double()
    x = torch.rand(2, 1, 3, 96, 64, dtype=torch.float64)
    matrices = without_fft(model)
    assert sum(isinstance(m, MatrixSpectrum) for m in matrices.modules()) == 2
    assert not any(isinstance(m, MatrixSpectrum) for m in model.modules())  # a copy
    with torch.no_grad():
        expected = model.network(x)
        for form in (model, matrices):
            program = torch.export.export(form.network, (x,))
            for a, b in zip(program.module()(x), expected, strict=True):
                torch.testing.assert_close(a, b, rtol=0, atol=1e-9)


def test_layer_graphs_have_the_transforms_as_nodes_and_take_matrices():
    model = twin("spiking_yolox_s")
    graph, x = trace(model), torch.rand(2, 1, 3, 64, 96, dtype=torch.float64)
    fourier = [str(node.target) for node in nodes_of(graph, "fourier")]
    units = [f"network.dark5.2.m.0.ffc{i}.ffc.convg2g.fu" for i in (1, 2)]
    assert fourier == [f"{unit}.{part}" for unit in units for part in ("spectrum", "signal")]
    assert set(units) == {name.removesuffix(".neuron") for name in activations(graph) if ".fu." in name}
    width = {str(node.target): n for node, n in channels(graph).items()}
    assert [width[name] for name in fourier] == [24, 12] * 2  # of 32 hidden channels 24 are global
    with torch.no_grad():
        for form in (without_fft(graph), without_fft(fold_bn(model))):
            assert not any(type(m) in (Spectrum, Signal) for m in form.modules())
            for a, b in zip(form(x), model.logits(x), strict=True):
                torch.testing.assert_close(a, b, rtol=0, atol=1e-9)
