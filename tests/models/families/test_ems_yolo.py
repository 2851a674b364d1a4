"""EMS-YOLO against the published code: blocks, head, whole network, parameter counts, names."""

import json

import pytest
import torch

from analysis.firing_rate import FiringRates
from models import create_model, list_models, load_published_weights, to_published_state_dict
from models.families.ems_yolo import (
    ConvBN,
    GradedConv,
    SEWBlock,
    basic_block_1,
    basic_block_2,
    basic_block_ms,
    concat_block_ms,
    concat_res2,
)
from models.heads import build_head
from models.layers.resample import max_pool, upsample
from models.published import published_names
from neurons import build_neuron


def lif():
    return build_neuron("lif")


def silu():
    return build_neuron("graded_silu", inplace=False)


def silu_inplace():
    return build_neuron("graded_silu")


BLOCKS = {
    "ems_basicblock2_s2": lambda: basic_block_2(16, 32, lif, 3, 2),
    "ems_basicblock2_id": lambda: basic_block_2(16, 16, lif),
    "ems_basicblock2_k1_reduce": lambda: basic_block_2(32, 16, lif, 1, 1),
    "ems_basicblock1": lambda: basic_block_1(16, 32, lif),
    "ems_concatres2_s2": lambda: concat_res2(16, 32, lif, 3, 2),
    "ems_basicblockms_s2": lambda: basic_block_ms(16, 32, lif, 3, 2),
    "ems_basicblockms_id": lambda: basic_block_ms(16, 16, lif),
    "ems_basicblockms_reduce": lambda: basic_block_ms(32, 16, lif),
    "ems_basicblockms_k1": lambda: basic_block_ms(32, 16, lif, 1),
    "ems_concatblockms_s2": lambda: concat_block_ms(16, 32, lif, 3, 2),
    "ems_concatblockms_s1": lambda: concat_block_ms(16, 32, lif, 3, 1),
    "ems_sewblock_s2": lambda: SEWBlock(16, 32, silu, 3, 2),
    "ems_conv_silu": lambda: GradedConv(16, 24, silu),
    "ems_conv_silu_inplace": lambda: GradedConv(16, 24, silu_inplace),
    "ems_conv1_stem": lambda: ConvBN(3, 16, 7, 2),
    "ems_conv2_stem": lambda: ConvBN(3, 16, 3, 2),
}


@pytest.mark.parametrize("file", BLOCKS)
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_block_equals_the_published_code(golden, file, mode):
    g = golden(file)
    block = BLOCKS[file]()
    names = {
        f"{layer}.{leaf}": f"{theirs}.{leaf}"
        for layer, theirs in block.published.items()
        for leaf in block.get_submodule(layer).state_dict()
    }
    assert set(names) == set(block.state_dict())
    assert {f"w.{theirs}" for theirs in names.values()} == {key for key in g if key.startswith("w.")}
    block.load_state_dict({ours: g[f"w.{theirs}"] for ours, theirs in names.items()})
    block.train(mode == "train")

    x = g["input"].requires_grad_()
    y = block(x)
    y.backward(golden.grad_output(y))

    def agree(ours, key):
        torch.testing.assert_close(golden.stored(ours), g[f"{mode}.{key}"], rtol=1e-4, atol=1e-4)

    agree(y, "output")
    agree(x.grad, "grad_input")
    for ours, p in block.named_parameters():
        agree(p.grad, f"grad.{names[ours]}")
    if mode == "train":
        for ours, buffer in block.named_buffers():
            agree(buffer, f"buf_after.{names[ours]}")


def test_head_equals_the_published_code(golden):
    g = golden("ems_detect_head")
    head = build_head("anchor", [16, 24], [16, 32], num_classes=3)
    stride = g["stride"].view(-1, 1, 1)
    weights = {ours: g[f"w.{theirs}"] for ours, theirs in head.published_names().items()}
    weights["anchors"] = weights["anchors"] * stride
    head.load_state_dict(weights)
    raw = head([g["in_p4"], g["in_p5"]])
    torch.testing.assert_close(raw[0], g["raw_p4"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(raw[1], g["raw_p5"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.cat(head.decode_dense(raw), -1), g["decoded"], rtol=1e-4, atol=1e-4)


def test_whole_network_equals_the_published_code(golden):
    """Logits, boxes and the rate of every neuron."""
    g = golden("ems_model_res10-ee_nc4")
    model = create_model("ems_resnet10_ee", num_classes=4, T=4).eval()
    report = load_published_weights(model, {k[2:]: v.float() for k, v in g.items() if k.startswith("w.")})
    assert len(report.matched) == 155 and not (report.missing or report.unexpected or report.shape_differs)
    with FiringRates(model) as firing, torch.no_grad():
        raw = model.raw(g["input"].float())
        decoded = torch.cat(model.head.decode_dense(raw), -1)
    torch.testing.assert_close(raw[0], g["raw_p4"], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(raw[1], g["raw_p5"], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(decoded, g["decoded"], rtol=1e-4, atol=1e-3)

    rates = firing.rates()
    rows = {"bridge": 5, "p5": 6, "lateral": 7, "p4": 10} | {f"stages.{i}": i + 1 for i in range(4)}
    published = json.loads((golden.folder / "ems_model_res10-ee_nc4_firing.json").read_text())
    for ours, row in rows.items():
        for neuron, theirs in (("neuron1", "0"), ("neuron2", "3")):
            rate = rates[f"network.{ours}.residual.{neuron}"]
            assert rate == pytest.approx(published[f"model.{row}.residual_function.{theirs}"], abs=1e-6)


def test_upsampling_equals_the_published_code(golden):
    g = golden("ems_sample_up")
    x = g["input"].requires_grad_()
    y = upsample(x)
    y.backward(golden.grad_output(y))
    assert torch.equal(golden.stored(y), g["eval.output"])
    torch.testing.assert_close(golden.stored(x.grad), g["eval.grad_input"])


# name: parameters at 80 and at 2 classes, and in the files of published names and shapes (of the authors' code)
SIZES = {
    "ems_resnet10": (17_561_662, 17_381_482, "resnet10"),
    "ems_resnet18": (15_427_774, 15_247_594, "resnet18"),
    "ems_resnet34": (34_027_454, 33_847_274, "resnet34"),
    "ems_resnet34_cat": (25_449_022, 25_268_842, "resnet34-cat"),
    "ems_resnet10_ee": (6_387_230, 6_207_050, "res10-ee"),
    "ems_resnet18_ee": (9_523_550, 9_343_370, "res18-ee"),
    "sew_resnet18": (9_743_134, 9_562_954, "res18-sew"),
}


@pytest.mark.parametrize("name", SIZES)
def test_parameter_counts_to_the_last_digit(name):
    coco, gen1, _ = SIZES[name]
    for classes, expected in ((80, coco), (2, gen1)):
        model = create_model(name, num_classes=classes)
        assert sum(p.numel() for p in model.parameters()) == expected


def test_published_names_and_shapes(golden):
    compared = set()
    for name, (_, _, published) in SIZES.items():
        for data, classes in (("coco", 80), ("gen1", 2)):
            path = golden.folder / "state_dicts" / f"ems_{published}_{data}.json"
            if not path.exists():
                continue
            with torch.device("meta"):
                model = create_model(name, num_classes=classes)
            own, names = model.state_dict(), published_names(model)
            assert set(names) == set(own), name
            shapes = {theirs: list(own[ours].shape) for ours, theirs in names.items()}
            assert shapes == json.loads(path.read_text()), path.name
            compared.add(path)
    assert compared == set((golden.folder / "state_dicts").glob("ems_*.json")) and len(compared) == 10


@pytest.mark.parametrize("name", SIZES)
def test_published_weights_round_trip(name):
    torch.manual_seed(0)
    a, b = (create_model(name, num_classes=3, width=0.125) for _ in range(2))
    report = load_published_weights(b, to_published_state_dict(a))
    assert not (report.missing or report.unexpected or report.shape_differs)
    for (key, x), y in zip(a.state_dict().items(), b.state_dict().values(), strict=True):
        assert torch.equal(x, y), key


def test_load_reports_what_did_not_fit():
    model = create_model("ems_resnet10_ee", num_classes=3, width=0.125)
    weights = to_published_state_dict(model)
    weights["stray"] = torch.zeros(1)
    del weights["model.0.conv.weight"]
    weights["model.11.m.0.bias"] = torch.zeros(7)
    report = load_published_weights(model, weights)
    assert report.unexpected == ["stray"] and report.missing == ["model.0.conv.weight"]
    assert report.shape_differs == [("model.11.m.0.bias", (7,), (24,))]


def test_every_size_of_the_paper_is_registered():
    assert set(SIZES) <= set(list_models())


def test_pooling_rounds_up_as_a_strided_convolution_does():
    assert max_pool(torch.zeros(1, 1, 1, 15, 19), 2).shape[-2:] == (8, 10)
