"""The layers of the YOLOX head, its names, its decoding; which cells SimOTA assigns, by hand."""

import math

import numpy as np
import pytest
import torch
from dfl_samples import random_target, target
from torchvision.ops import box_iou
from yolox_samples import FORMS, SIZE, assigned, head, logits_near

from models import create_model
from models.detector import Detector
from models.encoders import DirectEncoder
from models.heads import build_head
from models.published import published_names
from neurons import build_neuron


def empty_logits(h, batch=1, size=64, fill=-9.0):
    return [torch.full((batch, 5 + h.num_classes, size // s, size // s), fill) for s in h.strides]


# Layers and names


def test_parameters_are_as_many_as_published():
    def count(num_classes, channels, **kwargs):
        return sum(
            p.numel() for p in build_head({"name": "yolox", **kwargs}, channels, (8, 16, 32), num_classes).parameters()
        )

    # EAS-SNN's sizes s, m, l with 2 classes; SpikingYOLOX's nano, s with 80.
    assert [count(2, [w, 2 * w, 4 * w]) for w in (128, 192, 256)] == [1_890_709, 4_249_173, 7_549_717]
    assert count(80, (64, 128, 256), depthwise=True) == 104_767
    assert count(80, (128, 256, 512)) == 1_920_895
    assert count(2, (128, 256, 512), neuron="plif") == 1_890_709 + 15


def test_published_names_are_those_of_yolox():
    names = head(depthwise=True).published_names()
    assert set(names) == set(head(depthwise=True).state_dict())  # one learned value in each PLIF
    for name in (
        "stems.1.conv.weight", "stems.0.act.w", "cls_convs.0.1.dconv.conv.weight", "reg_convs.1.0.pconv.bn.running_var",
        "reg_convs.0.0.dconv.act.w", "cls_preds.0.weight", "reg_preds.1.bias", "obj_preds.0.bias",
    ):  # fmt: skip
        assert name in names.values()
    assert not any("neuron" in theirs or "act" in theirs for theirs in head(neuron="ilif").published_names().values())


def test_a_function_gives_the_place_of_the_head_in_a_published_network(monkeypatch):
    network = create_model("ems_resnet10_ee", width=0.125).network
    place = staticmethod(lambda name: f"head.{name.replace('_preds.0', '_preds.0.0')}")
    monkeypatch.setattr(type(network), "published_head", place)
    names = published_names(Detector(network, head(2, network.channels, network.strides), DirectEncoder(1)))
    assert names["head.cls_preds.0.weight"] == "head.cls_preds.0.0.weight"
    assert names["head.stems.1.bn.bias"] == "head.stems.1.bn.bias"


def test_probabilities_are_one_percent_at_the_start():
    raw = head(4).eval()([torch.zeros(2, 1, 8, 4, 4), torch.zeros(2, 1, 16, 2, 2)])
    for logits in raw:
        torch.testing.assert_close(logits[:, 4:].sigmoid(), torch.full_like(logits[:, 4:], 0.01))


def test_logits_are_the_mean_over_steps_of_the_predictions():
    h = head().double().eval()
    x = [torch.rand(3, 2, 8, 8, 8, dtype=torch.float64) * 4, torch.rand(3, 2, 16, 4, 4, dtype=torch.float64) * 4]
    for level, logits in enumerate(h(x)):
        y = h.stems[level](x[level])
        classes, boxes = h.cls_convs[level](y), h.reg_convs[level](y)
        steps = [
            torch.cat([h.reg_preds[level](b), h.obj_preds[level](b), h.cls_preds[level](c)], 1)
            for c, b in zip(classes, boxes, strict=True)
        ]
        torch.testing.assert_close(logits, torch.stack(steps).mean(0))
        assert logits.shape == (2, 8, *x[level].shape[-2:])


def test_the_neuron_is_the_networks_unless_the_head_names_its_own():
    model = create_model("ems_resnet10_ee", neuron="lif", head="yolox", width=0.125)
    assert type(model.head.cls_convs[0][0].neuron) is type(build_neuron("lif"))
    own = create_model(
        "ems_resnet10_ee", neuron="lif", head={"name": "yolox", "neuron": "silu", "hidden": 24}, width=0.125
    )
    assert type(own.head.stems[0].neuron) is type(build_neuron("silu"))
    assert own.head.stems[1].conv.out_channels == own.head.obj_preds[0].in_channels == 24


def test_arguments_that_cannot_be_are_named():
    with pytest.raises(ValueError, match="assignment = 'center': choose one of centre, box_or_centre"):
        head(assignment="center")
    with pytest.raises(ValueError, match="2 levels, but 3 strides"):
        head(strides=(8, 16, 32))


# Decoding


def test_decoding_gives_a_perfect_prediction_back():
    h = head()
    logits = empty_logits(h)
    # 26 x 28 at (37, 46), in the column 2 and row 2 of stride 16; the class 1 and, weaker, 2.
    logits[1][0, :, 2, 2] = torch.tensor([37 / 16 - 2, 46 / 16 - 2, math.log(26 / 16), math.log(28 / 16), 3, -9, 2, 1])
    found = h.decode(logits, SIZE)[0]
    torch.testing.assert_close(found["boxes"][:2], torch.tensor([[24.0, 32, 50, 60]] * 2), rtol=1e-5, atol=1e-4)
    assert found["labels"][:2].tolist() == [1, 2]  # of all classes of a cell
    p = torch.tensor([3.0, 2, 1]).sigmoid()
    torch.testing.assert_close(found["scores"][:2], p[0] * p[1:])
    boxes, scores = h.decode_dense(logits)
    assert boxes.shape == (1, 80, 4) and scores.shape == (1, 80, 4)
    torch.testing.assert_close(boxes[0, 64 + 2 * 4 + 2], torch.tensor([37.0, 46, 26, 28]))
    torch.testing.assert_close(scores[0, 74], torch.tensor([3.0, -9, 2, 1]).sigmoid())


def test_decoded_boxes_equal_those_of_a_published_network(shared):
    with np.load(shared("golden/eas_model_fullspike_v2_d33w25_nc2_T3.npz"), allow_pickle=False) as file:
        raw = [torch.from_numpy(file[f"raw_p{level}"]) for level in (3, 4, 5)]
        decoded = torch.from_numpy(file["decoded"])
    ours = torch.cat(head(2, (8, 8, 8), (8, 16, 32)).decode_dense(raw), 2)
    torch.testing.assert_close(ours, decoded, rtol=1e-6, atol=1e-4)


def test_a_size_that_overflows_is_cut():
    h = head()
    boxes, _ = h.decode_dense(empty_logits(h, fill=1e4))
    assert (
        boxes.isfinite().all() and boxes[0, 0, 2] == pytest.approx(80_000) and boxes[0, -1, 2] == pytest.approx(160_000)
    )


def test_detections_are_selected_as_published():
    published = {"score_threshold": 0.001, "iou_threshold": 0.65, "max_candidates": 30_000, "max_detections": 300}
    assert head().selection == published


# SimOTA


@pytest.mark.parametrize("form", FORMS)
def test_a_box_takes_as_many_cells_as_predictions_overlap_it(form):
    """n predictions overlap it by 1 and another by a half: n cells, at least one, those of the best predictions."""
    h, box = head(2, **FORMS[form]), target([[8.0, 8, 56, 56]], [1])
    cells = [(1, row, column) for row in (1, 2) for column in (1, 2)]  # the four nearest cells of stride 16,
    cells += [(0, row, column) for row in (3, 4) for column in (3, 4)]  # and of stride 8
    index = [row * 8 + column if level == 0 else 64 + row * 4 + column for level, row, column in cells]
    for n in range(len(cells)):
        logits = empty_logits(h)
        for level, row, column in cells[: n + 1]:
            s, width = h.strides[level], 48 if (level, row, column) in cells[:n] else 24
            xywh = [32 / s - column, 32 / s - row, math.log(width / s), math.log(48 / s)]
            logits[level][0, :4, row, column] = torch.tensor(xywh)
        found = assigned(h, logits, [box])[0]
        assert sorted(index[: max(n, 1)]) == (found == 0).nonzero().flatten().tolist()


def test_cells_beyond_the_radius_are_never_assigned():
    targets = [random_target(i, 6) for i in range(4)]
    h = head()
    found = assigned(h, logits_near(targets, noise=0.05), targets)
    centres = torch.cat(
        [(torch.cartesian_prod(torch.arange(64 // s), torch.arange(64 // s)).flip(1) + 0.5) * s for s in (8, 16)]
    )
    strides = torch.tensor([8.0] * 64 + [16.0] * 16)
    for t, boxes in zip(targets, found, strict=True):
        middle = (t["boxes"][:, :2] + t["boxes"][:, 2:]) / 2
        distance = (centres[:, None] - middle).abs().amax(-1) / strides[:, None]  # [M, N] in strides
        assert (distance.amin(1)[boxes >= 0] < 1.5).all() and (boxes >= 0).sum() > len(t["boxes"])
        near = distance.lt(1.5)[boxes >= 0].gather(1, boxes[boxes >= 0, None]).squeeze(1)
        assert near.float().mean() > 0.9  # most are near the very box


def test_perfect_predictions_are_assigned_to_their_boxes():
    t = random_target(3, 5, low=16, high=30)
    found = assigned(head(), raw := logits_near([t], noise=0.0), [t])[0]
    boxes, _ = head().decode_dense(raw)
    boxes = torch.cat([boxes[0, :, :2] - boxes[0, :, 2:] / 2, boxes[0, :, :2] + boxes[0, :, 2:] / 2], 1)
    overlap = box_iou(t["boxes"].double(), boxes.detach())
    for n in range(5):
        if (found == n).any():
            assert overlap[n, found == n].mean() > overlap[n, found != n].mean()
    assert found.max() >= 0


def test_an_image_of_no_boxes_has_no_foreground():
    h = head()
    assert (assigned(h, empty_logits(h, 2), [target(), target()]) == -1).all()
    losses = h.loss(empty_logits(h, 2), [target(), target()], SIZE)
    assert losses["box"] == losses["class"] == losses["l1"] == 0 and losses["objectness"] > 0
