"""Spiking YOLOv3 against the published code: names, shapes, parameter counts, and a whole network."""

import json

import numpy as np
import pytest
import torch

from models import create_model, load_published_weights, to_published_state_dict
from models.deploy import calibrate
from models.published import published_names

NAMES = ["spiking_yolov3", "spiking_yolov3_fc"]


@pytest.mark.parametrize("classes, count", [(20, 9_648_134), (80, 9_786_734)])
def test_parameters_have_the_published_number_names_and_shapes(classes, count, golden):
    with torch.device("meta"):
        model = create_model("spiking_yolov3", num_classes=classes)
        fc = create_model("spiking_yolov3_fc", num_classes=classes)
    assert sum(p.numel() for p in model.parameters()) == count
    assert sum(p.numel() for p in fc.parameters()) == count + 17
    own, names = model.state_dict(), published_names(model)
    assert set(own) - set(names) == {"head.anchors"}  # of the published code's config, not of its weights
    shapes = {theirs: list(own[ours].shape) for ours, theirs in names.items()}
    assert shapes == json.loads((golden.folder / "state_dicts" / f"cwq_yolov3tiny_ours_nc{classes}.json").read_text())


@pytest.mark.parametrize("name", NAMES)
def test_published_weights_round_trip(name):
    torch.manual_seed(0)
    a, b = (create_model(name, num_classes=3, width=0.125).eval() for _ in range(2))
    report = load_published_weights(b, to_published_state_dict(a))
    assert not (report.missing or report.unexpected or report.shape_differs)
    x = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        assert all(torch.equal(p, q) for p, q in zip(a.raw(x), b.raw(x), strict=True))


def test_a_head_that_was_not_published_has_no_published_names():
    with pytest.raises(ValueError, match="DFLHead, the head of this model, has no `published_names`"):
        published_names(create_model("spiking_yolov3", width=0.125, head="dfl"))


def whole_network(shared):
    """The published network of 4 classes with random weights, its inputs and its outputs."""
    with np.load(shared("golden/conv_model_spiking_yolov3_nc4.npz"), allow_pickle=False) as file:
        g = {key: torch.from_numpy(file[key]) for key in file.files if key != "layer_names"}
    weights = {k[2:]: v.float() for k, v in g.items() if k.startswith("w.")}
    weights |= {k[3:]: v.float() * g[f"scale.{k[3:]}"] for k, v in g.items() if k.startswith("q8.")}
    coco = [(10, 14), (23, 27), (37, 58), (81, 82), (135, 169), (344, 319)]
    head = {"name": "anchor", "coding": "yolov3", "anchors": [coco[1:4], coco[3:]]}
    model = create_model("spiking_yolov3", num_classes=4, head=head).eval()
    report = load_published_weights(model, weights)
    assert len(report.matched) == 106 and not (report.missing or report.unexpected or report.shape_differs)
    return model, g


def test_whole_network_equals_the_published_code(shared):
    model, g = whole_network(shared)
    with torch.no_grad():
        raw = model.raw(g["input"].float())
        p4, p5 = torch.cat(model.head.decode_dense(raw), -1).split([144, 36], 1)
        exact = model.double().raw(g["input"].double())
    torch.testing.assert_close(torch.cat([p5, p4], 1), g["decoded"], rtol=1e-4, atol=1e-3)
    for ours, in_float64, level in zip(raw, exact, ("p4", "p5"), strict=True):
        torch.testing.assert_close(ours, g[f"raw_{level}"], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(in_float64, g[f"ann64_{level}"], rtol=1e-9, atol=1e-9)


def test_activations_run_in_the_published_order(shared):
    """Calibration gives, layer by layer, the stored 99.9 % quantiles, to the width of a bin of its histogram."""
    model, g = whole_network(shared)
    calib = g["calib"].double()
    found = calibrate(model.double(), calib.split(3))
    scales = [g[key] for key in sorted((k for k in g if k.startswith("lam.")), key=lambda k: int(k[4:]))]
    assert len(found) == len(scales) == 17
    for own, lam in zip(found.values(), scales, strict=True):
        excess = own / lam - 1
        assert excess.min() > -1e-6 and excess.max() < 1 / 128
