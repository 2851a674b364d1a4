"""The loss of the YOLOX head: against published numbers, against loops over cells and boxes, over processes."""

import math

import numpy as np
import pytest
import torch
from dfl_samples import random_target, target
from processes import Processes
from torchvision.ops import box_convert
from yolox_samples import FORMS, SIZE, STRIDES, assigned, head, logits_near

from models import create_model

# Published numbers

LEVELS = ("p3", "p4", "p5")


def published_head(K, form):
    return head(K, (8, 8, 8), (8, 16, 32), **FORMS[form])


def published_target(rows, label_first):
    rows = rows[rows.sum(1) > 0].roll(-1 if label_first else 0, 1)  # x, y, w, h, label
    return target(box_convert(rows[:, :4], "cxcywh", "xyxy"), rows[:, 4].long())


def per_image(losses, images):
    return {key: value.item() / images for key, value in losses.items()}


@pytest.mark.parametrize("form", FORMS)
def test_losses_and_gradients_equal_the_published_code(golden, form):
    g = golden({"centre": "yolox_simota_loss_new_r1p5", "box_or_centre": "yolox_simota_loss_old_r2p5_inbox"}[form])
    rows = g["labels"] if form == "centre" else [g["labels0"], g["labels1"]]
    raw = [g[f"raw_{p}"].requires_grad_() for p in LEVELS]
    losses = published_head(2, form).loss(raw, [published_target(r, form == "centre") for r in rows], SIZE)
    ours = per_image(losses, 2)
    assert sum(ours.values()) == pytest.approx(g["total"].item(), rel=1e-6)
    if form == "centre":
        theirs = {"box": "iou_x5", "objectness": "obj", "class": "cls", "l1": "l1"}
        assert ours == {key: pytest.approx(g[name].item(), rel=1e-6) for key, name in theirs.items()}
    else:
        assert "l1" not in ours
    (sum(losses.values()) / 2).backward()
    for p, r in zip(LEVELS, raw, strict=True):
        torch.testing.assert_close(r.grad, g[f"grad_{p}"], rtol=1e-5, atol=1e-6)


NETWORKS = [
    # file, logits, labels, losses: prefixes of the names
    ("eas_model_fullspike_v2_d33w25_nc2_T3", "train.logits", "train.", "train."),
    ("syx_model_nano_nc4", "raw", "loss.", "loss."),
    ("syx_model_nano_nc4", "train.logits", "loss.", "train."),
]


@pytest.mark.parametrize("file, logits, labels, wanted", NETWORKS)
def test_losses_and_assignment_equal_those_of_published_networks(shared, file, logits, labels, wanted):
    with np.load(shared(f"golden/{file}.npz"), allow_pickle=False) as stored:
        g = {key: torch.from_numpy(stored[key]) for key in stored.files if not key.startswith(("q8.", "w.", "scale."))}
    eas = file.startswith("eas")
    rows = g["train.labels"] if eas else [g["loss.labels0"], g["loss.labels1"]]
    targets = [published_target(r, eas) for r in rows]
    raw = [g[f"{logits}_{p}"] for p in LEVELS]
    h = published_head(raw[0].shape[1] - 5, "centre" if eas else "box_or_centre")
    losses = per_image(h.loss(raw, targets, SIZE), 2)
    total = g["loss.total"] if wanted == "loss." else g["train.total_loss"]
    assert sum(losses.values()) == pytest.approx(total.item(), rel=1e-6)
    parts = {
        "train.iou_loss_x5": "box", "train.conf_loss": "objectness", "train.cls_loss": "class", "train.l1_loss": "l1",
        "loss.iou_x5": "box", "loss.obj": "objectness", "loss.cls": "class",
    }  # fmt: skip
    for name, key in parts.items():
        if name.startswith(wanted) and name in g:
            assert losses[key] == pytest.approx(g[name].item(), rel=1e-6), name
    assert torch.equal(assigned(h, raw, targets), g[f"{wanted}assigned_gt"].long())


# Loops


def slow_iou(a, b):
    """Corners; works on floats and on scalars of tensors."""
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if w <= 0 or h <= 0:
        return 0.0 * a[0]
    return w * h / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - w * h)


def slow_box(logits, column, row, stride):
    x, y = (logits[0] + column) * stride, (logits[1] + row) * stride
    w, h = (math.exp(v) if isinstance(v, float) else v.exp() for v in logits[2:4])
    w, h = w * stride, h * stride
    return [x - w / 2, y - h / 2, x + w / 2, y + h / 2]


def sigmoid(v):
    return 1 / (1 + math.exp(-v))


def slow_assignment(cells, boxes, labels, K, form):
    """({cell: box}, {cell: IoU}, counts of what happened) of one image; cells: (logits, column, row, stride)."""
    radius, penalty = (1.5, 1e6) if form == "centre" else (2.5, 1e5)
    cost, overlap, candidates = {}, {}, set()
    for m, (logits, column, row, stride) in enumerate(cells):
        x, y = (column + 0.5) * stride, (row + 0.5) * stride
        for n, (x0, y0, x1, y1) in enumerate(boxes):
            near = max(abs(x - (x0 + x1) / 2), abs(y - (y0 + y1) / 2)) < radius * stride
            inside = x0 < x < x1 and y0 < y < y1
            if near or (form == "box_or_centre" and inside):
                candidates.add(m)
            cheap = near and (form == "centre" or inside)
            overlap[n, m] = slow_iou(slow_box(logits, column, row, stride), (x0, y0, x1, y1))
            cost[n, m] = 0.0 if cheap else penalty
            for k in range(K):
                p = math.sqrt(sigmoid(logits[5 + k]) * sigmoid(logits[4]))
                cost[n, m] -= math.log(p) if k == labels[n] else math.log(1 - p)
            cost[n, m] -= 3 * math.log(overlap[n, m] + 1e-8)
    happened = {"several": 0, "conflicts": 0, "thirds": 0}
    claims = {}
    for n in range(len(boxes)):
        best = sorted((overlap[n, m] for m in candidates), reverse=True)[:10]
        k = max(int(sum(best)), 1)
        happened["several"] += k > 1
        for m in sorted(candidates, key=lambda m: cost[n, m])[:k]:
            claims.setdefault(m, []).append(n)
    owner = {}
    for m, claimants in claims.items():
        owner[m] = claimants[0]
        if len(claimants) > 1:
            owner[m] = min(range(len(boxes)), key=lambda n: cost[n, m])
            happened["conflicts"] += 1
            happened["thirds"] += owner[m] not in claimants
    return owner, {m: overlap[n, m] for m, n in owner.items()}, happened


def slow_loss(raw, targets, K, form):
    """(losses as tensors with gradients, assignment [B][M], counts of what happened)."""
    total = {"box": 0.0, "objectness": 0.0, "class": 0.0} | ({"l1": 0.0} if form == "centre" else {})
    number, assigned, happened = 0, [], {}
    for b, t in enumerate(targets):
        boxes, labels = t["boxes"].double().tolist(), t["labels"].tolist()
        places = [
            (level[b, :, row, column], column, row, stride)
            for level, stride in zip(raw, STRIDES, strict=True)
            for row in range(level.shape[2])
            for column in range(level.shape[3])
        ]
        owner, quality, seen = slow_assignment([(p.tolist(), *place) for p, *place in places], boxes, labels, K, form)
        happened = {key: happened.get(key, 0) + value for key, value in seen.items()}
        assigned.append([owner.get(m, -1) for m in range(len(places))])
        number += len(owner)
        for m, (logits, column, row, stride) in enumerate(places):
            entropy = torch.nn.functional.softplus
            total["objectness"] = total["objectness"] + entropy(-logits[4] if m in owner else logits[4])
            if m in owner:
                x0, y0, x1, y1 = box = boxes[owner[m]]
                total["box"] = total["box"] + 5 * (1 - slow_iou(slow_box(logits, column, row, stride), box) ** 2)
                for k in range(K):
                    wanted = quality[m] if k == labels[owner[m]] else 0.0
                    total["class"] = total["class"] + entropy(logits[5 + k]) - wanted * logits[5 + k]
                if "l1" in total:
                    wanted = [
                        (x0 + x1) / 2 / stride - column, (y0 + y1) / 2 / stride - row,
                        math.log((x1 - x0) / stride + 1e-8), math.log((y1 - y0) / stride + 1e-8),
                    ]  # fmt: skip
                    total["l1"] = total["l1"] + sum(abs(p - w) for p, w in zip(logits[:4], wanted, strict=True))
    return (
        {key: torch.as_tensor(value) * len(targets) / max(number, 1) for key, value in total.items()},
        assigned,
        happened,
    )


CASES = {
    "random": [random_target(1, 4), random_target(2, 2)],
    "one image empty": [target(), random_target(3, 3)],
    "all images empty": [target(), target()],
    "overlapping": [random_target(4, 8, low=30), random_target(5, 2, low=40)],
    "at the border and beyond": [
        target([[0, 0, 64, 64], [40, 40, 90, 80], [-20, -10, 12, 12]], [0, 1, 2]),
        target([[60, 60, 64, 64], [-50, -50, -20, -20]], [0, 1]),
    ],
    "beyond alone": [target([[-90, -90, -60, -60]], [1]), target()],
    "tiny": [
        random_target(6, 3, low=0.5, high=3.0),
        target([[4, 4, 4, 4], [3.9, 3.9, 4.1, 4.1], [9, 9, 30, 9]], [0, 1, 2]),
    ],
    "larger than the image": [target([[-100, -100, 160, 170]], [1]), random_target(7, 2)],
    "more boxes than cells": [random_target(8, 90, low=2, high=30), target()],
}  # fmt: skip
# In float64, as the logits: with a float32 loss the order of two almost equal costs could differ from the loops'.
CASES = {name: [{**t, "boxes": t["boxes"].double()} for t in targets] for name, targets in CASES.items()}
SEEN = {"overlapping": ("several", "conflicts"), "more boxes than cells": ("conflicts", "thirds")}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", CASES)
def test_losses_gradients_and_assignment_equal_the_loops(case, form):
    targets, h = CASES[case], head(**FORMS[form])
    raw = logits_near(targets)
    losses = h.loss(raw, targets, SIZE)
    sum(losses.values()).backward()
    ours = [r.grad.clone() for r in raw]
    for r in raw:
        r.grad = None
    slow, boxes, happened = slow_loss(raw, targets, 3, form)
    assert all(happened[what] > 0 for what in SEEN.get(case, ()))
    assert assigned(h, raw, targets).tolist() == boxes
    assert set(losses) == set(slow)
    for key, value in slow.items():
        assert losses[key].item() == pytest.approx(value.item(), rel=1e-9, abs=1e-12), key
    sum(slow.values()).backward()
    for r, grad in zip(raw, ours, strict=True):
        torch.testing.assert_close(grad, r.grad, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", [16, 32])
def test_losses_equal_the_loops_with_one_class_and_with_fewer_cells_than_ten(size, form):
    targets = [random_target(9, 3, K=1, within=size), target([[1, 1, 15, 14]], [0])]
    targets = [{**t, "boxes": t["boxes"].double()} for t in targets]
    raw = logits_near(targets, K=1, size=size)
    losses, slow = head(1, **FORMS[form]).loss(raw, targets, (size, size)), slow_loss(raw, targets, 1, form)[0]
    for key, value in slow.items():
        assert losses[key].item() == pytest.approx(value.item(), rel=1e-9), key


@pytest.mark.parametrize("form", FORMS)
def test_a_float32_loss_is_that_of_float64(form):
    targets, h = CASES["overlapping"], head(**FORMS[form])
    raw = logits_near(targets)
    exact = h.loss(raw, targets, SIZE)
    with torch.autocast("cpu", torch.bfloat16):
        losses = h.loss([r.float() for r in raw], targets, SIZE)
    assert all(value.dtype == torch.float32 for value in losses.values())
    assert {key: value.item() for key, value in losses.items()} == {
        key: pytest.approx(value.item(), rel=1e-5) for key, value in exact.items()
    }
    half = h.loss([r.bfloat16() for r in raw], targets, SIZE)
    assert all(value.dtype == torch.float32 and value.isfinite() for value in half.values())


# Processes


def test_gradients_of_two_processes_add_up_to_those_of_one(monkeypatch):
    h, targets = head(), [random_target(i, n) for i, n in enumerate((1, 2, 8, 0))]
    whole = logits_near(targets)
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
        assert (a[key] + b[key]).item() == pytest.approx(value.item(), rel=1e-9), key
    for level, x, y in zip(whole, raw_a, raw_b, strict=True):
        torch.testing.assert_close(torch.cat([x.grad, y.grad]), level.grad, rtol=1e-9, atol=1e-12)


def test_unlabelled_images_change_nothing(monkeypatch):
    model = create_model("ems_resnet10_ee", num_classes=3, T=1, width=0.125, head="yolox")
    box = random_target(3, 2)
    raw = logits_near([box, target()])
    model.raw = lambda x: [r.clone()[: len(x[0])] for r in raw]
    monkeypatch.setattr(model.head, "strides", STRIDES)
    alone, both = (model(torch.rand(1, n, 3, 64, 64), [box, None][:n]) for n in (1, 2))
    assert {k: v.item() for k, v in alone.items()} == {k: v.item() for k, v in both.items()}

    processes = Processes(2)
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.all_reduce", processes.all_reduce)
    labelled, unlabelled = processes.run(lambda rank: model(torch.rand(1, 1, 3, 64, 64), [None if rank else box]))
    assert all(labelled[key].item() == pytest.approx(alone[key].item(), rel=1e-9) for key in alone)
    assert all(value == 0 for value in unlabelled.values())


# Limits


def test_the_assignment_is_held_while_the_losses_are_differentiated():
    targets = CASES["random"]
    raw = logits_near(targets)
    losses = head().loss(raw, targets, SIZE)
    reached = {"box": (True, False, False), "objectness": (False, True, False), "class": (False, False, True)}
    for key, wanted in (reached | {"l1": (True, False, False)}).items():
        (grad,) = torch.autograd.grad(losses[key], raw[:1], retain_graph=True)
        assert (bool(grad[:, :4].any()), bool(grad[:, 4].any()), bool(grad[:, 5:].any())) == wanted


@pytest.mark.parametrize("form", FORMS)
def test_the_loss_never_waits_for_the_values_of_tensors(form):
    # Tensors without values: what would make the host wait for a GPU fails on them.
    targets = [{k: v.to("meta") for k, v in t.items()} for t in CASES["random"]]
    raw = [r.detach().to("meta").requires_grad_() for r in logits_near(CASES["random"])]
    losses = head(**FORMS[form]).to("meta").loss(raw, targets, SIZE)
    assert set(losses) >= {"box", "objectness", "class"} and all(v.shape == () for v in losses.values())
    sum(losses.values()).backward()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("value", [-1e4, -100.0, 100.0, 1e4])
def test_losses_and_gradients_are_finite_at_extreme_logits(form, value):
    raw = [(r.detach() * 0 + value).float().requires_grad_() for r in logits_near(CASES["tiny"])]
    losses = head(**FORMS[form]).loss(raw, CASES["tiny"], SIZE)
    sum(losses.values()).backward()
    assert all(v.isfinite() for v in losses.values()) and all(r.grad.isfinite().all() for r in raw)


def test_the_l1_loss_is_of_the_last_epochs():
    targets, active = CASES["random"], {}
    for l1_epochs in (None, 0, 2):
        h = head(l1_epochs=l1_epochs)
        for h.epochs_left in (None, 3, 2, 1):
            active[l1_epochs, h.epochs_left] = "l1" in h.loss(logits_near(targets), targets, SIZE)
    assert [key for key, on in active.items() if on] == [(None, None), (None, 3), (None, 2), (None, 1), (2, 2), (2, 1)]
    with pytest.raises(ValueError, match="l1_epochs = -1: give at least 0"):
        head(l1_epochs=-1)
