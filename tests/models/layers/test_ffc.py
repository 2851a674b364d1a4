"""Fast Fourier convolution against the published code, and on the sizes that it does not take."""

import pytest
import torch
from torch import nn

from models.layers.ffc import FFCResnetBlock, FourierUnit, ReflectPad, Signal, SpectralTransform, Spectrum
from neurons import build_neuron

BLOCKS = {
    "fourier_unit_c6": lambda: FourierUnit(6, nn.ReLU()),
    "spectral_c12_nolfu": lambda: SpectralTransform(12, 12),
    "spectral_c16_lfu_square": lambda: SpectralTransform(16, 16, local=True),
    "ffc_resblock_c16": lambda: FFCResnetBlock(16),
}


def published(block):
    """{our key: published key} of a block's state dict."""
    return {
        f"{ours}.{leaf}": f"{theirs}.{leaf}"
        for ours, theirs in block.published.items()
        if not ours.startswith("lfu") or block.lfu is not None
        for leaf in block.get_submodule(ours).state_dict()
    }


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("file", BLOCKS)
def test_block_equals_the_published_code(golden, file, mode):
    g, block = golden(f"syx_{file}_{mode}"), BLOCKS[file]()
    names = published(block)
    assert set(names) == set(block.state_dict()) and {f"p.{n}" for n in names.values()} == {k for k in g if "p." in k}
    block.load_state_dict({ours: g[f"p.{theirs}"] for ours, theirs in names.items()})
    block.train(mode == "train")
    x = g["x"][None].requires_grad_()  # T = 1
    y = block(x)
    y.backward(g["grad_out"][None])
    torch.testing.assert_close(y[0], g["y"], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(x.grad[0], g["grad_x"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("steps", [1, 3])
def test_statistics_and_outputs_are_those_of_all_steps_in_one_batch(steps):
    """[T, B] is one batch of T * B maps: the same as T = 1 with that batch."""
    torch.manual_seed(0)
    block, x = FFCResnetBlock(8).double(), torch.randn(steps, 4, 8, 5, 6, dtype=torch.float64)
    other = FFCResnetBlock(8).double()
    other.load_state_dict(block.state_dict())
    torch.testing.assert_close(block(x).flatten(0, 1), other(x.flatten(0, 1)[None])[0])
    for (key, a), b in zip(block.named_buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(a, b, msg=key)


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (4, 1), (2, 2), (7, 6)])
def test_maps_of_any_size_pass_and_are_mirrored_at_the_border(size):
    block, x = FFCResnetBlock(8).eval(), torch.randn(2, 1, 8, *size)
    assert block(x).shape == x.shape and block(x).isfinite().all()
    padded = ReflectPad()(x[0])
    rows, columns = ([0, *range(n), n - 1] if n == 1 else [1, *range(n), n - 2] for n in size)
    assert torch.equal(padded, x[0][..., rows, :][..., columns])


def test_spectrum_is_orthonormal_and_interleaves_real_and_imaginary_parts():
    x = torch.randn(2, 3, 5, 6, dtype=torch.float64)
    spectrum = Spectrum()(x)
    assert spectrum.shape == (2, 6, 5, 4)
    rows, columns = (torch.arange(n, dtype=torch.float64) for n in (5, 6))
    wave = torch.exp(-2j * torch.pi * (2 * rows[:, None] / 5 + 3 * columns / 6))
    coefficient = (x[1, 2] * wave).sum() / 30**0.5  # of the frequency 2 along H and 3 along W
    assert spectrum[1, 4, 2, 3].item() == pytest.approx(coefficient.real.item())
    assert spectrum[1, 5, 2, 3].item() == pytest.approx(coefficient.imag.item())
    torch.testing.assert_close(Signal()(spectrum, 6), x)
    odd = x[..., :5]
    torch.testing.assert_close(Signal()(Spectrum()(odd), 5), odd)


@pytest.mark.parametrize("size", [(8, 6), (5, 7), (2, 2), (1, 3)])
def test_local_unit_sees_each_quarter_and_writes_to_all(size):
    torch.manual_seed(0)
    block, x = SpectralTransform(16, 16, local=True).double().eval(), torch.randn(2, 1, 8, *size).double()
    quarters = block._quarters(x)
    height, width = (-(-n // 2) for n in size)
    assert quarters.shape == (2, 1, 8, height, width)
    assert torch.equal(quarters[:, :, :2], x[:, :, :2, :height, :width])  # upper left
    lower = x[:, :, :2, height:, :width]
    assert torch.equal(quarters[:, :, 2:4, : lower.shape[3]], lower)
    tiled = block._tiled(quarters, x)
    assert tiled.shape == x.shape
    assert torch.equal(tiled[..., :height, :width], quarters)
    assert torch.equal(tiled[..., height:, width:], quarters[..., : size[0] - height, : size[1] - width])
    with pytest.raises(ValueError, match="local = True: needs a number of channels divisible by 8, got 12"):
        SpectralTransform(16, 12, local=True)


def test_bfloat16_autocast_leaves_the_fourier_unit_in_float32():
    torch.manual_seed(0)
    unit, x = FourierUnit(4, nn.ReLU()), torch.randn(2, 2, 4, 6, 6)
    expected = unit(x)
    seen = []
    unit.conv.register_forward_hook(lambda m, args, y: seen.append(y.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(unit(x), expected)
        y = FFCResnetBlock(8)(torch.randn(2, 2, 8, 6, 6).bfloat16().requires_grad_())
        y.float().sum().backward()
    assert seen == [torch.float32]
    assert unit.double()(x.double()).dtype == torch.float64


def test_neurons_spike_within_the_spectrum():
    torch.manual_seed(0)
    block = FFCResnetBlock(8, *[lambda: build_neuron("ternary_if")] * 2)
    seen = []
    for unit in (block.ffc1.ffc.convg2g.fu, block.ffc2.ffc.convg2g.fu):
        unit.neuron.register_forward_hook(lambda m, args, y: seen.append(y))
    x = torch.randn(3, 2, 8, 6, 5, requires_grad=True)
    block(x).sum().backward()
    assert [tuple(y.shape) for y in seen] == [(3, 2, 6, 6, 3)] * 2
    assert all(set(y.unique().tolist()) == {-1.0, 0.0, 1.0} for y in seen)
    assert all(p.grad is not None for p in block.parameters()) and x.grad.isfinite().all()


@pytest.mark.parametrize("block", [lambda: FourierUnit(8, nn.ReLU()), lambda: FFCResnetBlock(8)])
def test_exports(block):
    module, x = block().eval(), torch.randn(2, 1, 8, 5, 6)
    with torch.no_grad():
        program = torch.export.export(module, (x,))
        torch.testing.assert_close(program.module()(x), module(x))
