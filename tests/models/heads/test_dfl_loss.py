"""The loss of the DFL head against the same rules as loops over points and boxes, and what training needs of it."""

import math

import pytest
import torch
from dfl_samples import SIZE, STRIDES, head, random_raw, random_target, target
from processes import Processes

from models import create_model
from models.heads.dfl import BINS

# The loss, as loops


def slow_ciou(a, b):
    eps = 1e-7
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    common = max(w, 0) * max(h, 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common
    iou = common / (union + eps)
    diagonal = (max(a[2], b[2]) - min(a[0], b[0])) ** 2 + (max(a[3], b[3]) - min(a[1], b[1])) ** 2
    centres = ((a[0] + a[2] - b[0] - b[2]) / 2) ** 2 + ((a[1] + a[3] - b[1] - b[3]) / 2) ** 2
    angle = math.atan((a[2] - a[0]) / (a[3] - a[1] + eps)) - math.atan((b[2] - b[0]) / (b[3] - b[1] + eps))
    v = 4 / math.pi**2 * angle**2
    return iou - centres / (diagonal + eps) - v * v / (v - iou + 1 + eps)


def slow_predictions(raw, b, K):
    """Per point: x, y, stride, bin probabilities [4][16], class probabilities [K], box."""
    found = []
    for logits, stride in zip(raw, STRIDES, strict=True):
        for row in range(logits.shape[2]):
            for column in range(logits.shape[3]):
                values = logits[b, :, row, column].detach().double()
                bins = values[: 4 * BINS].view(4, BINS).softmax(1).tolist()
                d = [stride * sum(i * p for i, p in enumerate(side)) for side in bins]
                x, y = (column + 0.5) * stride, (row + 0.5) * stride
                box = (x - d[0], y - d[1], x + d[2], y + d[3])
                found.append((x, y, stride, bins, values[4 * BINS :].sigmoid().tolist(), box))
    assert all(len(p[4]) == K for p in found)
    return found


def slow_loss(raw, targets, K):
    total = {"box": 0.0, "class": 0.0, "dfl": 0.0}
    scores_sum, conflicts = 0.0, 0
    for b, t in enumerate(targets):
        points = slow_predictions(raw, b, K)
        boxes, labels = t["boxes"].double().tolist(), t["labels"].tolist()
        overlap, metric, claims = {}, {}, {m: [] for m in range(len(points))}
        for n, (box, label) in enumerate(zip(boxes, labels, strict=True)):
            for m, (x, y, _, _, probability, predicted) in enumerate(points):
                if min(x - box[0], y - box[1], box[2] - x, box[3] - y) > 1e-9:
                    overlap[n, m] = max(slow_ciou(predicted, box), 0.0)
                    metric[n, m] = probability[label] ** 0.5 * overlap[n, m] ** 6
            inside = sorted((m for k, m in metric if k == n), key=lambda m: -metric[n, m])
            for m in inside[:10]:
                if metric[n, m] > 0:
                    claims[m].append(n)
        owner = {}
        for m, boxes_here in claims.items():
            if len(boxes_here) > 1:
                conflicts += 1
                owner[m] = max((n for n in range(len(boxes)) if (n, m) in overlap), key=lambda n: overlap[n, m])
            elif boxes_here:
                owner[m] = boxes_here[0]
        for m, (x, y, stride, bins, probability, predicted) in enumerate(points):
            wanted = [0.0] * K
            if m in owner:
                n = owner[m]
                mine = [k for k, o in owner.items() if o == n]
                best_overlap, best_metric = max(overlap[n, k] for k in mine), max(metric[n, k] for k in mine)
                score = metric[n, m] * best_overlap / (best_metric + 1e-9)
                wanted[labels[n]] = score
                scores_sum += score
                box = boxes[n]
                total["box"] += (1 - slow_ciou(predicted, box)) * score
                for side, distance in enumerate((x - box[0], y - box[1], box[2] - x, box[3] - y)):
                    distance = min(max(distance / stride, 0), 14.99)
                    low = int(distance)
                    p, q = bins[side][low], bins[side][low + 1]
                    entropy = -(low + 1 - distance) * math.log(p) - (distance - low) * math.log(q)
                    total["dfl"] += entropy / 4 * score
            for p, w in zip(probability, wanted, strict=True):
                total["class"] -= w * math.log(p) + (1 - w) * math.log1p(-p)
    gains = {"box": 7.5, "class": 0.5, "dfl": 1.5}
    return {k: v * gains[k] * len(targets) / max(scores_sum, 1) for k, v in total.items()}, conflicts


CASES = {
    "random": [random_target(1, 4), random_target(2, 2)],
    "one image empty": [target(), random_target(3, 3)],
    "all images empty": [target(), target()],
    "overlapping": [random_target(4, 8, low=30), random_target(5, 1, low=40)],
    "at and beyond the border": [
        target([[0, 0, 64, 64], [40, 40, 90, 80], [-20, -10, 12, 12]], [0, 1, 2]),
        target([[60, 60, 64, 64], [-50, -50, -10, -10]], [0, 1]),
    ],
    "tiny": [
        random_target(6, 3, low=0.5, high=3.0),
        target([[4, 4, 4, 4], [3.9, 3.9, 4.1, 4.1], [9, 9, 30, 9]], [0, 1, 2]),
    ],
    "wider than the bins reach": [target([[-100, -100, 160, 170]], [1]), random_target(7, 2)],
    "more than the points": [random_target(8, 30), target()],
}  # fmt: skip


@pytest.mark.parametrize("spread", [0.5, 4.0])
@pytest.mark.parametrize("case", CASES)
def test_loss_equals_the_loops(case, spread):
    raw = random_raw(0, spread=spread)
    losses = head().loss(raw, CASES[case], SIZE)
    slow, conflicts = slow_loss(raw, CASES[case], K=3)
    assert conflicts > 0 or case not in ("overlapping", "more than the points")
    for key, value in slow.items():
        assert losses[key].item() == pytest.approx(value, rel=2e-4, abs=1e-5), key
    sum(losses.values()).backward()
    assert all(r.grad.isfinite().all() for r in raw)
    assert (slow["box"] > 0) == any(r.grad[:, : 4 * BINS].any() for r in raw)


@pytest.mark.parametrize("size", [16, 64])
def test_loss_equals_the_loops_with_one_class_and_with_fewer_points_than_claims(size):
    raw = random_raw(1, K=1, size=size)
    targets = [random_target(9, 3, K=1), target([1, 1, 15, 14], [0])]
    losses = head(1).loss(raw, targets, (size, size))
    for key, value in slow_loss(raw, targets, K=1)[0].items():
        assert losses[key].item() == pytest.approx(value, rel=2e-4, abs=1e-5), key


@pytest.mark.parametrize("spread, below_one", [(0.05, True), (4.0, False)])
def test_gradients_of_two_processes_add_up_to_those_of_one(spread, below_one, monkeypatch):
    """Also where the sum of scores is below 1, and where one process has more to find than the other."""
    h = head()
    targets = [
        random_target(i, 1 if below_one else n, high=12.0 if below_one else 60.0) for i, n in enumerate((1, 2, 8, 0))
    ]
    whole = random_raw(0, B=4, spread=spread)
    expected = h.loss(whole, targets, SIZE)
    sum(expected.values()).backward()

    processes = Processes(2)
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.all_reduce", processes.all_reduce)

    def one(rank):
        part = slice(2 * rank, 2 * rank + 2)
        raw = [r.detach()[part].clone().requires_grad_() for r in whole]
        losses = h.loss(raw, targets[part], SIZE)
        sum(losses.values()).backward()
        return losses, raw

    (a, raw_a), (b, raw_b) = processes.run(one)
    for key, value in expected.items():
        assert (a[key] + b[key]).item() == pytest.approx(value.item(), rel=1e-5), key
    for level, x, y in zip(whole, raw_a, raw_b, strict=True):
        torch.testing.assert_close(torch.cat([x.grad, y.grad]), level.grad, rtol=1e-5, atol=1e-8)
    with torch.no_grad():  # a loss that nothing learns from waits for nobody
        h.loss(whole, targets, SIZE)


def test_a_process_without_labels_takes_no_part_in_the_number_of_images(monkeypatch):
    model = create_model("ems_resnet10_ee", num_classes=3, T=1, width=0.125, head="dfl")
    x, box = torch.rand(1, 1, 3, 64, 64), random_target(3, 2)
    model.raw = lambda x: [r.clone() for r in random_raw(0, B=1)]
    monkeypatch.setattr(model.head, "strides", STRIDES)
    alone = model(x, [box])
    processes = Processes(2)
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.all_reduce", processes.all_reduce)
    labelled, unlabelled = processes.run(lambda rank: model(x, [None if rank else box]))
    assert all(labelled[key].item() == pytest.approx(alone[key].item(), rel=1e-6) for key in alone)
    assert all(value == 0 for value in unlabelled.values())


def test_the_assignment_is_held_while_the_losses_are_differentiated():
    raw = random_raw(2)
    losses = head().loss(raw, CASES["random"], SIZE)
    for key, reached in {"box": (True, False), "class": (False, True), "dfl": (True, False)}.items():
        (grad,) = torch.autograd.grad(losses[key], raw[:1], retain_graph=True)
        assert (bool(grad[:, : 4 * BINS].any()), bool(grad[:, 4 * BINS :].any())) == reached


def test_the_loss_never_waits_for_the_values_of_tensors():
    # Tensors without values: what would make the host wait for a GPU fails on them.
    targets = [{k: v.to("meta") for k, v in t.items()} for t in CASES["random"]]
    losses = head().to("meta").loss([r.to("meta") for r in random_raw(0)], targets, SIZE)
    assert set(losses) == {"box", "class", "dfl"} and all(v.shape == () for v in losses.values())


def test_gradients_are_finite_at_extreme_logits():
    raw = [r.detach() * 0 + s for r, s in zip(random_raw(0), (80.0, -80.0), strict=True)]
    raw[1][:, : 4 * BINS : BINS] = 200.0  # all weight on distance 0: boxes of no size
    raw = [r.requires_grad_() for r in raw]
    losses = head().loss(raw, CASES["tiny"], SIZE)
    sum(losses.values()).backward()
    assert all(v.isfinite() for v in losses.values()) and all(r.grad.isfinite().all() for r in raw)
