"""SpikeYOLO against the published code: blocks, parameter counts, names; its forms for inference."""

import json

import pytest
import torch

from models import create_model, load_published_weights, to_published_state_dict
from models.deploy.binary import BinarySpikeConv, binary_check, largest_difference, to_binary
from models.deploy.fuse import fuse
from models.families.spikeyolo import (
    ROWS,
    BNAndPad,
    Downsampling,
    RepConv,
    SepConv,
    SepRepConv,
    SNNBlock1,
    SNNBlock2,
    SpikeSPPF,
)
from models.layers.spike_conv import SpikeConv, standard
from models.published import published_names
from models.transfer import fitting_weights
from neurons import DynamicNeuron, build_neuron


def ilif():
    return build_neuron("ilif")


BLOCKS = {
    "spikeyolo_bnandpad": lambda: BNAndPad(8),
    "spikeyolo_repconv": lambda: RepConv(8, 12),
    "spikeyolo_seprepconv": lambda: SepRepConv(8, 12),
    "spikeyolo_meta_sepconv": lambda: SepConv(8, ilif),
    "spikeyolo_meta_block1_allconv": lambda: SNNBlock1(8, 4, ilif),
    "spikeyolo_meta_block2_repconv_r1": lambda: SNNBlock2(8, 1, ilif),
    "spikeyolo_meta_block2_repconv_r3": lambda: SNNBlock2(8, 3, ilif),
    "spikeyolo_meta_downsampling_first": lambda: Downsampling(3, 16, None, 7, 4, 2),
    "spikeyolo_meta_downsampling": lambda: Downsampling(8, 16, ilif()),
    "spikeyolo_meta_standardconv_k1": lambda: standard(16, 8, ilif()),
    "spikeyolo_meta_standardconv_k3s2": lambda: standard(8, 16, ilif(), 3, 2),
    "spikeyolo_meta_spikeconv": lambda: standard(8, 16, ilif(), 3),
    "spikeyolo_meta_spikeconv_nobn": lambda: standard(8, 16, ilif(), bn=False),
    "spikeyolo_meta_spikesppf": lambda: SpikeSPPF(16, 16, ilif),
}


def named(block):
    """{our parameter: published parameter} of a block."""
    published = getattr(block, "published", {"bn": "bn"})
    return {
        f"{layer}.{leaf}": f"{theirs}.{leaf}"
        for layer, theirs in published.items()
        for leaf in block.get_submodule(layer).state_dict()
    }


def loaded(golden, file):
    g, block = golden(file), BLOCKS[file]()
    names = named(block)
    assert set(names) == set(block.state_dict())
    assert {f"w.{theirs}" for theirs in names.values()} == {key for key in g if key.startswith("w.")}
    block.load_state_dict({ours: g[f"w.{theirs}"] for ours, theirs in names.items()})
    return g, block, names


def agree(ours, published):
    """Within 1e-4, and 1e-5 of the largest: weight gradients of up to 200 were themselves summed in float32."""
    largest = float(published.abs().max()) if published.numel() else 0.0
    torch.testing.assert_close(ours, published, rtol=1e-4, atol=1e-4 + 1e-5 * largest)


@pytest.mark.parametrize("file", BLOCKS)
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_block_equals_the_published_code(golden, file, mode):
    g, block, names = loaded(golden, file)
    block.train(mode == "train")
    x = g["input"].requires_grad_()
    y = block(x)
    y.backward(golden.grad_output(y))
    agree(golden.stored(y), g[f"{mode}.output"])
    agree(golden.stored(x.grad), g[f"{mode}.grad_input"])
    for ours, p in block.named_parameters():
        agree(golden.stored(p.grad), g[f"{mode}.grad.{names[ours]}"])
    if mode == "train":
        for ours, buffer in block.named_buffers():
            agree(buffer, g[f"train.buf_after.{names[ours]}"])


@pytest.mark.parametrize("file", ["spikeyolo_repconv", "spikeyolo_seprepconv"])
@pytest.mark.parametrize("form", ["dense", "separable"])
def test_merged_convolutions_equal_the_published_output(golden, file, form):
    g, block, _ = loaded(golden, file)
    with torch.no_grad():
        y = getattr(block, form)()(g["input"])
    torch.testing.assert_close(golden.stored(y), g["eval.output"], rtol=1e-5, atol=1e-4)


# The last: the file of the published names and shapes, where there is one.
@pytest.mark.parametrize(
    "name, arguments, count, published",
    [
        ("spikeyolo_n", {}, 13_271_632, "n_13M"),
        ("spikeyolo_s", {}, 23_153_024, "s_23M"),
        ("spikeyolo_m", {}, 47_841_856, None),
        ("spikeyolo_m", {"last_ratio": 1}, 45_784_256, None),
        ("spikeyolo_l", {}, 68_478_400, None),
        ("spikeyolo_l", {"last_ratio": 1}, 65_517_760, None),
        ("spikeyolo_gen1_n", {}, 6_124_470, None),
        ("spikeyolo_gen1_s", {}, 23_122_838, "gen1_s_23M"),
    ],
)
def test_parameters_have_the_published_number_names_and_shapes(name, arguments, count, published, golden):
    with torch.device("meta"):
        model = create_model(name, **arguments)
    assert sum(p.numel() for p in model.parameters()) == count
    names, own = published_names(model), model.state_dict()
    assert set(names) == set(own) and len(set(names.values())) == len(names)
    if published:
        shapes = json.loads((golden.folder / "state_dicts" / f"spikeyolo_{published}.json").read_text())
        assert {theirs: list(own[ours].shape) for ours, theirs in names.items()} == shapes


def test_published_weights_go_in_and_out():
    torch.manual_seed(0)
    source, target = create_model("spikeyolo_n", width=0.125), create_model("spikeyolo_n", width=0.125)
    report = load_published_weights(target, to_published_state_dict(source))
    assert not report.missing and not report.unexpected and not report.shape_differs
    assert all(
        torch.equal(a, b) for a, b in zip(source.state_dict().values(), target.state_dict().values(), strict=True)
    )


def of_version_2(model):
    """The state dict as it was when the network's layers were called by their rows in the published yaml."""
    state = model.state_dict()
    for name, row in ROWS.items():
        for key in [key for key in state if key.startswith(f"network.{name}.")]:
            state[key.replace(name, f"rows.{row}", 1)] = state.pop(key)
    state._metadata["network"]["version"] = 2
    return state


def test_weights_under_the_names_of_an_earlier_version_load():
    torch.manual_seed(0)
    source, target, third = (create_model("spikeyolo_m", num_classes=2, width=0.125) for _ in range(3))
    old = of_version_2(source)
    assert "network.rows.25.conv2.bn.weight" in old and not any("stage" in key for key in old)
    keys = list(old)
    target.load_state_dict(old)
    assert list(old) == keys  # what was given is not changed
    transfer = fitting_weights(third, old, ["a", "b"], ["a", "b"])
    assert not (transfer.absent or transfer.shape_differs)
    third.load_state_dict(transfer.weights)
    for key, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[key], value) and torch.equal(third.state_dict()[key], value), key


def test_weights_of_the_wiring_before_the_upsampling_are_refused():
    source, target = (create_model("spikeyolo_n", num_classes=2, width=0.125) for _ in range(2))
    old = of_version_2(source)
    old._metadata["network"]["version"] = 1
    with pytest.raises(RuntimeError, match="trained with blocks 12 and 16 before the upsampling"):
        target.load_state_dict(old)


def test_a_key_of_no_row_is_named():
    model = create_model("spikeyolo_n", num_classes=2, width=0.125)
    with pytest.raises(RuntimeError, match="network.rows.11.weight"):
        model.load_state_dict(of_version_2(model) | {"network.rows.11.weight": torch.zeros(1)})


def lively(name="spikeyolo_n", **arguments):
    """A small network with statistics and weights under which spikes reach the head."""
    torch.manual_seed(0)
    model = create_model(name, num_classes=3, width=0.25, **arguments).train()
    with torch.no_grad():
        for _ in range(3):
            model.raw(torch.rand(2, 3, 96, 64))
        for m in model.modules():
            if isinstance(m, torch.nn.BatchNorm2d):
                m.weight.uniform_(0.8, 1.6)
                m.bias.uniform_(-0.2, 0.5)
                m.running_mean.add_(0.1 * torch.randn_like(m.running_mean))
    return model.eval()


@pytest.mark.parametrize("T", [1, 2])
@pytest.mark.parametrize("form", ["dense", "separable", "fastest"])
def test_fused_network_gives_the_logits_of_the_network(form, T):
    model, x = lively(T=T), torch.rand(2, 3, 96, 64)
    fused = fuse(model, form, x if form == "fastest" else None)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in fused.modules())
    assert any(isinstance(m, torch.nn.BatchNorm2d) for m in model.modules())  # a copy
    with torch.no_grad():
        for a, b in zip(model.raw(x), fused.raw(x), strict=True):
            flips = ((a - b).abs() > 1e-3 + 1e-3 * a.abs()).float().mean()
            assert flips < 0.02, flips  # a potential within 1e-6 of a step may round to the other integer


@pytest.mark.parametrize("T, D", [(1, 1), (1, 4), (3, 2), (2, 4)])
def test_binary_network_equals_the_integer_network(T, D):
    model, x = lively(T=T, neuron={"name": "ilif", "D": D}), torch.rand(2, 3, 96, 64)
    binary = to_binary(model)
    seen = []
    for m in binary.modules():
        assert not isinstance(m, SpikeConv) or isinstance(m.neuron, torch.nn.Identity)
        if isinstance(m, BinarySpikeConv):
            m.conv.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    fused = fuse(model)
    assert largest_difference(fused, binary, x) <= 1e-3
    assert len(seen) == sum(isinstance(m, DynamicNeuron) for m in model.modules())
    assert all(set(s.unique().tolist()) <= {0.0, 1.0} and s.shape[0] == T * D * 2 for s in seen)
    assert sum(bool(s.any()) for s in seen) > 0.8 * len(seen)
    found = binary_check(model, x)
    assert found["largest logit difference"] <= 1e-3 and found["largest logit difference in float64"] <= 1e-9
    assert 0 < found["share of ones"] < 0.9
    ours, theirs = fused(x), binary(x)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a["boxes"], b["boxes"], rtol=1e-3, atol=1e-2)
        assert torch.equal(a["labels"], b["labels"])


def test_binary_networks_need_integers():
    with pytest.raises(ValueError, match="SiLU does not emit integers"):
        to_binary(create_model("spikeyolo_n", width=0.125, neuron="silu"))
    with pytest.raises(ValueError, match="no SpikeConv layers"):
        to_binary(create_model("ems_resnet10_ee", width=0.125))


def test_fuse_says_what_it_needs():
    model = create_model("spikeyolo_n", width=0.125)
    with pytest.raises(ValueError, match="unknown form 'quick'"):
        fuse(model, "quick")
    with pytest.raises(ValueError, match="needs an example"):
        fuse(model, "fastest")


def test_binary_network_exports():
    model = create_model("spikeyolo_n", num_classes=3, width=0.125, T=2).eval()
    binary, x = to_binary(model), torch.rand(2, 1, 3, 64, 64)
    with torch.no_grad():
        program = torch.export.export(binary.network, (x,))
        for a, b in zip(program.module()(x), binary.network(x), strict=True):
            torch.testing.assert_close(a, b)
