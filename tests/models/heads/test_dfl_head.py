"""The DFL head against the published head; its decoding, the neuron it takes, and every network with every head."""

import math

import pytest
import torch
from dfl_samples import SIZE, STRIDES, head, random_raw, random_target, target
from torch import nn
from torchvision.ops import box_iou

from models import create_model, list_models
from models.heads import build_head, list_heads
from models.heads.dfl import BINS
from models.registry import model_defaults
from neurons import build_neuron, neuron_factory

# The published head


def test_head_equals_the_published_code(golden):
    g = golden("spikeyolo_detect_head")
    levels = ["p3", "p4", "p5"]
    h = head(3, [g[f"in_{p}"].shape[2] for p in levels], (8, 16, 32)).eval()
    names = h.published_names()
    assert set(names) == set(h.state_dict())
    assert {f"w.{theirs}" for theirs in names.values()} == {key for key in g if key.startswith("w.")}
    h.load_state_dict({ours: g[f"w.{theirs}"] for ours, theirs in names.items()})
    assert torch.equal(h.dfl.flatten(), torch.arange(16.0)) and not h.dfl.requires_grad

    with torch.no_grad():
        raw = h([g[f"in_{p}"] for p in levels])
    for p, logits in zip(levels, raw, strict=True):
        torch.testing.assert_close(logits, g[f"raw_{p}"], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(torch.cat(h.decode_dense(raw), 2).mT, g["decoded"], rtol=1e-4, atol=1e-4)


def test_parameters_are_as_many_as_published():
    h = head(80, (128, 256, 512), (8, 16, 32))  # of the 23M network, by its published state dict
    assert sum(p.numel() for p in h.parameters()) == 2_147_008
    h = head(2, (64, 128), neuron={"name": "plif"})
    assert not any("neuron" in name for name in h.published_names())


def test_biases_expect_five_objects_in_an_image():
    raw = head(80).eval()([torch.zeros(1, 1, 8, 2, 2), torch.zeros(1, 1, 16, 1, 1)])
    for logits, expected in zip(raw, (-11.54, -10.15), strict=True):
        # Nothing fires, so the bias is all there is.
        assert logits[:, : 4 * BINS].eq(1).all()
        assert logits[0, -1, 0, 0].item() == pytest.approx(expected, abs=0.01)


def test_detections_are_selected_as_in_the_published_evaluation():
    published = {"score_threshold": 0.001, "iou_threshold": 0.7, "max_candidates": 30_000, "max_detections": 300}
    assert head().selection == published


# The neuron of a head


def test_a_head_gets_the_networks_neuron_unless_it_names_its_own():
    model = create_model("ems_resnet10_ee", neuron="plif", head="dfl", width=0.125)
    assert type(model.head.box[0][0].neuron) is type(build_neuron("plif"))
    own = create_model("ems_resnet10_ee", neuron="plif", head={"name": "dfl", "neuron": "relu"}, width=0.125)
    assert type(own.head.classes[0][2].neuron) is type(build_neuron("relu"))
    with pytest.raises(ValueError, match="did you mean 'neuron'"):
        head(neurom="relu")


def test_a_factory_is_called_with_levels_and_classes_only():
    seen = []
    build_head(lambda *args: seen.append(args) or nn.Identity(), [8], [16], 3, neuron_factory("lif"))
    assert seen == [([8], [16], 3)]


@pytest.mark.parametrize("name", list_models())
@pytest.mark.parametrize("kind", list_heads())
def test_every_network_trains_and_detects_with_every_head(name, kind):
    torch.manual_seed(0)
    small = {"width": 0.125} if "width" in model_defaults(name) else {}
    model = create_model(name, num_classes=3, T=2, in_channels=3, neuron="relu", head=kind, **small).train()
    losses = model(torch.rand(2, 3, 64, 64), [random_target(0, 2), target()])
    sum(losses.values()).backward()
    assert all(v.isfinite() for v in losses.values())
    for key, p in model.named_parameters():
        assert not p.requires_grad or p.grad.isfinite().all(), key
    model.eval()
    with torch.no_grad():
        detections = model(torch.rand(2, 3, 64, 96))
    assert [set(d) for d in detections] == [{"boxes", "scores", "labels"}] * 2


def test_logits_are_float32_under_autocast():
    h, x = head(), [torch.rand(3, 1, 8, 4, 4), torch.rand(3, 1, 16, 2, 2)]
    with torch.autocast("cpu", torch.bfloat16):
        raw = h(x)
        losses = h.loss(raw, [target([2, 2, 20, 30], [1])], (32, 32))
    plain = h.loss(raw, [target([2, 2, 20, 30], [1])], (32, 32))
    assert all(r.dtype == torch.float32 for r in raw)
    assert all(torch.equal(losses[k], plain[k]) for k in plain)


# There and back


def perfect(boxes, labels, K=3, size=64):
    """Logits that say the one box of each image at every point inside it that reaches its sides."""
    raw = [torch.full((len(boxes), 4 * BINS + K, size // s, size // s), -20.0) for s in STRIDES]
    for b, (box, label) in enumerate(zip(boxes, labels, strict=True)):
        for logits, stride in zip(raw, STRIDES, strict=True):
            for row in range(size // stride):
                for column in range(size // stride):
                    x, y = (column + 0.5) * stride, (row + 0.5) * stride
                    sides = [d / stride for d in (x - box[0], y - box[1], box[2] - x, box[3] - y)]
                    if min(sides) <= 0 or max(sides) >= 15:
                        continue
                    for side, d in enumerate(sides):
                        low = side * BINS + int(d)
                        logits[b, low, row, column] = math.log(int(d) + 1 - d)
                        logits[b, low + 1, row, column] = math.log(max(d - int(d), 1e-9))
                    logits[b, 4 * BINS + label, row, column] = 8.0
    return raw


def test_decoding_a_perfect_prediction_gives_the_boxes_back_with_no_box_loss():
    boxes, labels = [[6.0, 9.0, 41.5, 30.0], [20.0, 3.0, 63.0, 60.0]], [2, 0]
    raw, h = perfect(boxes, labels), head(topk=100)  # so that all points inside are claimed
    losses = h.loss(raw, [target(box, label) for box, label in zip(boxes, labels, strict=True)], SIZE)
    assert losses["box"] < 1e-4 and losses["class"] < 0.05
    for detection, box, label in zip(h.decode(raw, SIZE), boxes, labels, strict=True):
        assert (detection["scores"] > 0.5).sum() == 1  # many equal predictions, one box
        assert detection["labels"][0] == label
        torch.testing.assert_close(detection["boxes"][0], torch.tensor(box), rtol=1e-4, atol=1e-2)


def test_decode_agrees_with_decode_dense_and_keeps_several_classes_of_a_box():
    raw = [r.detach() for r in random_raw(3)]
    h = head(score_threshold=0.3, nms_iou=1.0, max_detections=10_000)
    boxes, scores = h.decode_dense(raw)
    for b, detection in enumerate(h.decode(raw, SIZE)):
        index, labels = (scores[b] > 0.3).nonzero(as_tuple=True)
        order = scores[b, index, labels].argsort(descending=True, stable=True)
        torch.testing.assert_close(detection["scores"], scores[b, index, labels][order])
        centres = (detection["boxes"][:, :2] + detection["boxes"][:, 2:]) / 2
        torch.testing.assert_close(centres, boxes[b, index, :2][order])


def test_logits_learn_a_handful_of_boxes():
    targets = [
        target([[4, 6, 40, 50], [30, 10, 60, 30], [2, 44, 22, 62]], [0, 2, 1]),
        target([12, 20, 50, 58], [1]),
        target(),
    ]
    h = head()
    raw = [r.detach().mul(0.1).requires_grad_() for r in random_raw(5, B=3)]
    optimizer = torch.optim.Adam(raw, lr=0.2)
    for _ in range(150):
        optimizer.zero_grad()
        sum(h.loss(raw, targets, SIZE).values()).backward()
        optimizer.step()
    for detection, t in zip(h.decode([r.detach() for r in raw], SIZE), targets, strict=True):
        sure = detection["scores"] > 0.5
        assert sure.sum() == len(t["labels"])
        if len(t["labels"]):
            iou, found = box_iou(t["boxes"], detection["boxes"][sure]).max(1)
            assert (iou > 0.9).all() and torch.equal(detection["labels"][sure][found], t["labels"])


# The anchor head on three levels


def test_the_anchor_head_has_anchors_for_two_and_three_levels():
    three = build_head("anchor", (8, 8, 8), (8, 16, 32), 2)
    assert three.anchors.shape == (3, 3, 2) and three.balance == (4.0, 1.0, 0.4)
    assert build_head("anchor", (8, 8), (16, 32), 2).balance == (4.0, 1.0)
    with pytest.raises(ValueError, match="not for 4: give `anchors`"):
        build_head("anchor", (8,) * 4, (4, 8, 16, 32), 2)
