"""The DFL head against the published head, and its loss against the same rules as loops over points and boxes."""

import math
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn
from torchvision.ops import box_iou

from models import create_model, list_models
from models.heads import build_head, list_heads
from models.heads.dfl import BINS
from models.registry import model_defaults
from neurons import build_neuron, neuron_factory

STRIDES, SIZE = (8, 16), (64, 64)


def head(num_classes=3, channels=(8, 16), strides=STRIDES, **kwargs):
    return build_head({"name": "dfl", **kwargs}, channels, strides, num_classes, neuron_factory("ilif"))


def target(boxes=(), labels=()):
    return {
        "boxes": torch.as_tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.as_tensor(labels, dtype=torch.int64).reshape(-1),
    }


def random_raw(seed, B=2, K=3, size=64, spread=3.0):
    g = torch.Generator().manual_seed(seed)
    shapes = [(B, 4 * BINS + K, size // s, size // s) for s in STRIDES]
    return [(torch.randn(shape, generator=g) * spread).requires_grad_() for shape in shapes]


def random_target(seed, n, K=3, low=4.0, high=60.0, within=64.0):
    g = torch.Generator().manual_seed(seed)
    corner = torch.rand(n, 2, generator=g) * within * 0.7
    size = low + torch.rand(n, 2, generator=g) * (high - low)
    return target(torch.cat([corner, corner + size], 1), torch.randint(K, (n,), generator=g))


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


def test_biases_expect_five_objects_in_a_picture():
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
    model = create_model(name, num_classes=3, T=2, neuron="relu", head=kind, **small).train()
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
    "one picture empty": [target(), random_target(3, 3)],
    "all pictures empty": [target(), target()],
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


class Processes:
    """Threads in the place of processes: `all_reduce` sums over them."""

    def __init__(self, count):
        self.count, self.barrier, self.given = count, threading.Barrier(count, timeout=60), {}

    def all_reduce(self, tensor):
        self.given[threading.get_ident()] = tensor.clone()
        self.barrier.wait()
        total = sum(self.given.values())
        self.barrier.wait()
        tensor.copy_(total)

    def run(self, function):
        with ThreadPoolExecutor(self.count) as pool:
            return list(pool.map(function, range(self.count)))


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


# There and back


def perfect(boxes, labels, K=3, size=64):
    """Logits that say the one box of each picture at every point inside it that reaches its sides."""
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
