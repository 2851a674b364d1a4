"""SpikingYOLOX against the published code: as a whole, blocks, parameter counts, names; its stages."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from models import create_model, load_published_weights, model_defaults, to_published_state_dict
from models.families.spiking_yolox import SEWBottleneck, published_spectral
from models.layers.csp import SPP, CSPLayer
from models.layers.ffc import FFCResnetBlock
from models.published import published_names
from neurons import MultiStepNeuron, build_neuron
from neurons.ternary import TernaryIF

# Name, arguments, parameters, and the file of the published names and shapes, where there is one.
SIZES = [
    ("spiking_yolox_nano", {}, 1_044_447, "spikingyolox_miao_nano_nc80"),
    ("spiking_yolox_tiny", {}, 5_061_327, None),
    ("spiking_yolox_s", {}, 8_977_599, "spikingyolox_miao_s_nc80"),
    ("spiking_yolox_m", {}, 25_366_815, None),
    ("spiking_yolox_l", {}, 54_314_111, None),
    ("spiking_yolox_x", {}, 99_287_775, None),
    ("spiking_yolox_nano", {"num_classes": 20}, 1_032_747, None),
    ("spiking_yolox_tiny", {"num_classes": 20}, 5_043_867, None),
    ("spiking_yolox_s", {"num_classes": 20}, 8_954_379, None),
    ("spiking_yolox_m", {"num_classes": 20}, 25_332_075, None),
    ("spiking_yolox_l", {"num_classes": 20}, 54_267_851, None),
    ("spiking_yolox_x", {"num_classes": 20}, 99_229_995, None),
    ("spiking_yolox_plif_s", {}, 8_945_109, "windere_static_spikingyolox_s_nc20"),
    ("spiking_yolox_plif_m", {}, 25_291_853, None),
    ("spiking_yolox_plif_l", {}, 54_162_757, None),
]


@pytest.mark.parametrize("name, arguments, count, published", SIZES)
def test_parameters_have_the_published_number_names_and_shapes(name, arguments, count, published, golden):
    with torch.device("meta"):
        model = create_model(name, **arguments)
    assert sum(p.numel() for p in model.parameters()) == count
    names, own = published_names(model), model.state_dict()
    assert set(names) == set(own) and len(set(names.values())) == len(names)
    if published:
        shapes = json.loads((golden.folder / "state_dicts" / f"{published}.json").read_text())
        assert {theirs: list(own[ours].shape) for ours, theirs in names.items()} == shapes


@pytest.mark.parametrize("size, count, lif, blocks", [("s", 4_232_352, 23, 7), ("m", 12_435_840, 27, 14)])
def test_backup_backbone(size, count, lif, blocks, golden):
    with torch.device("meta"):
        model = create_model(f"spiking_yolox_{size}", spike_stages="backup")
    own, prefix = model.state_dict(), "backbone.backbone."
    backbone = {key: p for key, p in model.network.named_parameters() if not key.startswith("neck_")}
    assert sum(p.numel() for p in backbone.values()) == count
    kinds = [type(m).__name__ for m in model.network.modules()]
    assert [kinds.count(kind) for kind in ("LIF", "FFCResnetBlock", "ELU", "ReLU")] == [lif, blocks, *[4 * blocks] * 2]
    assert all(key.startswith("network.dark") or "stem" in key for key in model.spiking_layers())
    if size == "s":
        shapes = json.loads((golden.folder / "state_dicts/spikingyolox_miao_backupbackbone_s.json").read_text())
        names = {theirs: ours for ours, theirs in published_names(model).items() if theirs.startswith(prefix)}
        assert {key.removeprefix(prefix): list(own[ours].shape) for key, ours in names.items()} == shapes


BLOCKS = {
    "cspffc_16to32_n1": lambda make: CSPLayer(16, 32, make, [FFCResnetBlock(16)]),
    "spp_snn_16to16_spiking": lambda make: SPP(16, 16, make),
    "spp_snn_16to16_silu": lambda make: SPP(16, 16, nn.SiLU),
}
SPP_FILES = ["spp_snn_16to16_spiking", "spp_snn_16to16_silu"]


@pytest.mark.parametrize(
    "file, mode", [("cspffc_16to32_n1", "eval")] + [(f, m) for f in SPP_FILES for m in ("eval", "train")]
)
def test_block_equals_the_published_code(golden, file, mode):
    g = golden(f"syx_{file}_{mode}")
    signed_if = model_defaults("spiking_yolox_s")["neuron"]
    block = BLOCKS[file](lambda: build_neuron(**signed_if)).train(mode == "train")
    ours = {key: g[f"p.{published_spectral(key)}"] for key in block.state_dict()}
    block.load_state_dict(ours)
    assert len(ours) == sum(key.startswith("p.") for key in g)
    x = g["x"][None].requires_grad_()
    y = block(x)
    y.backward(g["grad_out"][None])
    torch.testing.assert_close(y[0], g["y"], rtol=1e-5, atol=1e-5)
    if "grad_x" in g:
        torch.testing.assert_close(x.grad[0], g["grad_x"], rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def whole(shared):
    """The published network as a whole, its numbers, and the detector with its weights."""
    with np.load(shared("golden/syx_model_nano_nc4.npz"), allow_pickle=False) as file:
        g = {key: torch.from_numpy(np.asarray(file[key])) for key in file.files}
    weights = {key[2:]: v.float() if v.is_floating_point() else v for key, v in g.items() if key.startswith("w.")}
    weights |= {key[3:]: v.float() * g[f"scale.{key[3:]}"] for key, v in g.items() if key.startswith("q8.")}
    firing = json.loads(shared("golden/syx_model_nano_nc4_firing.json").read_text())

    def build(dtype=torch.float32, **arguments):
        model = create_model("spiking_yolox_nano", num_classes=4, **arguments)
        report = load_published_weights(model, weights)
        assert not (report.missing or report.unexpected or report.shape_differs)
        back = to_published_state_dict(model)
        assert back.keys() == weights.keys() and all(torch.equal(back[key], weights[key]) for key in back)
        return model.to(dtype)

    targets = [
        {"boxes": corners(rows[:, :4]), "labels": rows[:, 4].long()} for rows in (g["loss.labels0"], g["loss.labels1"])
    ]
    return g, firing, build, targets


def corners(boxes):
    return torch.cat([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], 1).float()


def near(ours, theirs, tolerance, what=""):
    """Within `tolerance` of the largest value."""
    largest = max(float(theirs.float().abs().max()), 1e-6)
    difference = float((ours.detach().float() - theirs.float()).abs().max())
    assert ours.shape == theirs.shape and difference <= tolerance * largest, f"{what}: {difference} of {largest}"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_whole_network_layer_by_layer(whole, dtype):
    g, firing, build, targets = whole
    model = build(dtype).eval()
    layers = {f"dark{i}": getattr(model.network, f"dark{i}") for i in (2, 3, 4, 5)}
    first, spp, csp = model.network.dark5
    layers |= {"dark5.0": first, "dark5.1": spp, "dark5.2.m": csp.m}
    seen, rates, names = {}, {}, {layer: name for name, layer in layers.items()}
    for layer in layers.values():
        layer.register_forward_hook(lambda layer, args, y: seen.update({names[layer]: y[0]}))
    for name, layer in model.spiking_layers().items():
        published = f"backbone.backbone.{name.removeprefix('network.').replace('neuron', 'act')}"
        layer.register_forward_hook(lambda layer, args, y, key=published: rates.update({key: y.double().mean().item()}))
    x = g["input"].to(dtype)
    with torch.no_grad():
        logits = model.raw(x)
        for name, y in seen.items():
            near(y, g[f"feat.{name}"], 0 if name == "dark5" else 1e-5, name)
        assert set(seen) == {key.removeprefix("feat.") for key in g if key.startswith("feat.")}
        assert rates == pytest.approx(firing, abs=1e-9)
        for level, y in enumerate(logits, 3):
            torch.testing.assert_close(y.float(), g[f"raw_p{level}"], rtol=0, atol=2e-5)
        boxes, scores = model.head.decode_dense(logits)
        decoded = torch.cat([boxes / torch.tensor([128, 96, 128, 96]), scores], -1)
        torch.testing.assert_close(decoded.float(), g["decoded"], rtol=1e-5, atol=1e-5)
        losses = model.head.loss(logits, targets, (96, 128))
    parts = {"box": "iou_x5", "objectness": "obj", "class": "cls"}
    assert set(losses) == set(parts)
    for ours, theirs in parts.items():  # ours times the number of images
        assert losses[ours].item() / 2 == pytest.approx(g[f"loss.{theirs}"].item(), rel=1e-5), ours
    assert sum(losses.values()).item() / 2 == pytest.approx(g["loss.total"].item(), rel=1e-5)


def test_whole_network_in_training(whole):
    g, _, build, targets = whole
    model = build().train()
    logits = model.raw(g["input"].float())
    for level, y in enumerate(logits, 3):
        torch.testing.assert_close(y, g[f"train.logits_p{level}"], rtol=0, atol=2e-4)
    total = sum(model.head.loss(logits, targets, (96, 128)).values()) / 2
    assert total.item() == pytest.approx(g["train.total_loss"].item(), rel=1e-5)
    total.backward()
    own, grads = dict(model.named_buffers()), dict(model.named_parameters())
    ours = {theirs: key for key, theirs in published_names(model).items()}
    compared = 0
    for key, value in g.items():
        name = key.removeprefix("train.grad.").removeprefix("train.buf_after.")
        if key.startswith("train.grad."):
            near(grads[ours[name]].grad, value, 3e-4, name)
        elif key.startswith("train.buf_after."):
            near(own[ours[name]], value, 1e-5, name)
        compared += name != key
    assert compared > 10


@pytest.mark.parametrize(
    "change", [{"neuron": "silu"}, {"neuron": "ternary_if"}, {"spike_stages": "deep"}, {"spike_stages": "full"}]
)
def test_another_neuron_or_stage_set_gives_other_logits(whole, change):
    """So that the comparison above depends on each."""
    g, _, build, _ = whole
    with torch.no_grad():
        logits = build(**change).eval().raw(g["input"].float())
    for level, y in enumerate(logits, 3):
        assert ((y - g[f"raw_p{level}"]).abs() > 1e-3).double().mean() > 0.9


def spiking(model):
    return {key.removeprefix("network.").removesuffix(".neuron") for key in model.spiking_layers()}


def test_stages_say_where_the_network_spikes():
    build = lambda stages, **more: create_model("spiking_yolox_s", width=0.125, spike_stages=stages, **more)  # noqa: E731
    released, deep, full = build("released"), build("deep"), build("full")
    assert spiking(released) == {"dark5.2.conv1", "dark5.2.conv2", "dark5.2.conv3"}
    assert all(key.startswith("dark5") for key in spiking(deep)) and len(spiking(deep)) == 1 + 2 + 3 + 8
    activations = [m for m in full.modules() if isinstance(m, (MultiStepNeuron, nn.SiLU, nn.ELU, nn.ReLU))]
    assert activations == list(full.spiking_layers().values()) and len(activations) == 69 + 3 + 8
    assert all(isinstance(m, TernaryIF) for m in [*deep.spiking_layers().values(), *activations])
    assert not build("full", neuron="relu").spiking_layers()
    plain = build("deep", block="conv")
    assert not any(isinstance(m, FFCResnetBlock) for m in plain.modules())
    assert len(spiking(plain)) == 1 + 2 + 3 + 2
    backup = build("backup")
    assert {type(m) for m in backup.network.dark2[1].m} == {SEWBottleneck}


def test_wrong_stages_and_blocks_are_named():
    with pytest.raises(ValueError, match="spike_stages = 'fully'.*'full'"):
        create_model("spiking_yolox_s", spike_stages="fully")
    with pytest.raises(ValueError, match="block = 'fft'.*'ffc'"):
        create_model("spiking_yolox_s", block="fft")


@pytest.mark.parametrize("stages", ["released", "deep", "full", "backup"])
@pytest.mark.parametrize("block", ["ffc", "conv"])
def test_every_stage_set_trains_and_detects_on_the_smallest_images(stages, block):
    torch.manual_seed(0)
    model = create_model("spiking_yolox_s", num_classes=2, T=2, width=0.125, spike_stages=stages, block=block).train()
    target = {"boxes": torch.tensor([[4.0, 6.0, 20.0, 30.0]]), "labels": torch.tensor([1])}
    losses = model(torch.rand(2, 3, 32, 32) * 4, [target] * 2)
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    with torch.no_grad():
        assert [len(level.shape) for level in model.eval().raw(torch.rand(1, 3, 33, 47))] == [4, 4, 4]
