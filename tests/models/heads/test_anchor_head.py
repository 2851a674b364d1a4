"""The rules of the anchor head, each against cases computed by hand."""

import numpy as np
import pytest
import torch
from torchvision.ops import complete_box_iou_loss

from models.heads import build_head
from models.heads.anchor_fit import best_possible_recall, kmeans_anchors
from models.heads.boxes import complete_iou_loss, select_detections

SIZE = (128, 128)


def head(num_classes=2, **kwargs):
    return build_head({"name": "anchor", **kwargs}, [8, 8], [16, 32], num_classes)


def raw(h, b=1, size=128):
    torch.manual_seed(0)
    shape = (b, 3, size // 16, size // 16, 5 + h.num_classes), (b, 3, size // 32, size // 32, 5 + h.num_classes)
    return [torch.randn(s, requires_grad=True) for s in shape]


def target(boxes, labels):
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).view(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
    }


def cells_of(h, level, box):
    t = target([box], [0])
    x0, y0, x1, y1 = box
    cxcywh = torch.tensor([[(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0]], dtype=torch.float32)
    matched, _, _, anchor, column, row, _ = h._match(
        level, raw(h)[level], torch.zeros(1, dtype=int), t["labels"], cxcywh
    )
    assert matched.all()
    return {(a, c, r) for a, c, r in zip(anchor.tolist(), column.tolist(), row.tolist(), strict=True)}


def test_matches_by_side_ratio_and_gives_neighbour_cells():
    # Centre (36, 44) = cell (2.25, 2.75) at stride 16: left and lower halves, so cells (2,2), (1,2) and (2,3).
    # Size 24 x 24 is within a factor of 4 of anchors 10x14, 23x27 and 37x58.
    assert cells_of(head(), 0, (24, 32, 48, 56)) == {(a, c, r) for a in range(3) for c, r in [(2, 2), (1, 2), (2, 3)]}


def test_a_neighbour_beyond_the_map_is_left_out():
    # Centre (4, 4) = cell (0.25, 0.25): no cell to the left or above.
    assert {(c, r) for _, c, r in cells_of(head(), 0, (0, 0, 8, 8))} == {(0, 0)}


def test_a_box_beyond_every_anchor_matches_nothing():
    assert cells_of(head(), 0, (0, 0, 2, 100)) == set()


@pytest.mark.parametrize("boxes", [[], [[10, 12, 30, 40], [0, 0, 60, 64], [5, 5, 5.5, 60], [20, 20, 20, 20]]])
def test_the_form_for_gpus_which_waits_for_no_number_of_matches_is_the_same_loss(boxes, monkeypatch):
    results = []
    for of_gpu in (False, True):
        h = head()
        torch.manual_seed(0)
        logits = raw(h)
        with monkeypatch.context() as patched:
            if of_gpu:
                patched.setattr(torch.Tensor, "is_cpu", False)
                patched.setattr(torch.Tensor, "nonzero", None)
                patched.setattr(torch.Tensor, "item", None)
            losses = h.loss(logits, [target(boxes, [0] * len(boxes))], (64, 64))
            sum(losses.values()).backward()
        results.append((losses, [level.grad for level in logits]))
    torch.testing.assert_close(*results)


def test_the_box_loss_is_torchvisions_bit_by_bit():
    corners = torch.rand(2, 500, 2) * 8
    boxes = torch.cat([corners, corners + torch.rand(2, 500, 2) * 8 + 0.01], -1)
    results = []
    for function in (complete_iou_loss, complete_box_iou_loss):
        a = boxes[0].clone().requires_grad_()
        loss = function(a, boxes[1])
        loss.sum().backward()
        results.append((loss, a.grad))
    assert all(map(torch.equal, *results)) and (results[0][0] < 0.8).any()


def test_decoding_a_perfect_prediction_gives_the_box_back_with_no_box_loss():
    h = head()
    box = torch.tensor([24.0, 32.0, 50.0, 60.0])
    logits = [torch.full_like(r, -9.0) for r in raw(h)]
    centre, wh = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
    for a, c, r in cells_of(h, 0, tuple(box.tolist())):
        p_xy = (centre / 16 - torch.tensor([c, r]) + 0.5) / 2
        p_wh = (wh / h.anchors[0, a]).sqrt() / 2
        logits[0][0, a, r, c] = torch.cat([torch.logit(torch.cat([p_xy, p_wh])), torch.tensor([9.0, 9.0, -9.0])])
    # Level 1's anchors match the 26 x 28 box too (81 / 26 < 4): train that level alone out of the sum.
    h.anchors[1] *= 10
    losses = h.loss(logits, [target(box.tolist(), [0])], SIZE)
    assert losses["box"] < 1e-5 and losses["class"] < 1e-4 and losses["objectness"] < 1e-2
    detection = h.decode(logits, SIZE)[0]
    torch.testing.assert_close(detection["boxes"][0], box, rtol=1e-4, atol=1e-3)
    assert detection["labels"][0] == 0 and detection["scores"][0] > 0.99
    assert (detection["scores"] > 0.3).sum() == 1  # nine equal predictions, one box


def test_the_coding_of_yolov3_matches_the_own_cell_and_decodes_a_perfect_prediction():
    h = head(coding="yolov3")
    box = torch.tensor([24.0, 32.0, 50.0, 60.0])  # 26 x 28 at (37, 46), stride 16
    centre, wh = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
    assert cells_of(h, 0, tuple(box.tolist())) == {(a, 2, 2) for a in range(3)}
    logits = [torch.full_like(r, -9.0) for r in raw(h)]
    for a in range(3):
        xywh = torch.cat([torch.logit(centre / 16 - 2), (wh / h.anchors[0, a]).log()])
        logits[0][0, a, 2, 2] = torch.cat([xywh, torch.tensor([9.0, 9.0, -9.0])])
    h.anchors[1] *= 10  # which match no box: train level 0 alone
    losses = h.loss(logits, [target(box.tolist(), [0])], SIZE)
    assert losses["box"] < 1e-5 and losses["objectness"] < 1e-2 and losses["class"] < 1e-3
    torch.testing.assert_close(h.decode(logits, SIZE)[0]["boxes"][0], box, rtol=1e-4, atol=1e-3)
    assert head().decode(logits, SIZE)[0]["boxes"][0].sub(box).abs().max() > 1  # another coding, another box


def test_a_size_that_overflows_keeps_the_loss_finite():
    h = head(coding="yolov3")
    logits = [r.detach().mul(0).add(200).requires_grad_() for r in raw(h)]
    losses = h.loss(logits, [target([24, 32, 48, 56], [1])], SIZE)
    sum(losses.values()).backward()
    assert all(r.grad.isfinite().all() for r in logits)


def test_unknown_coding_is_named():
    with pytest.raises(ValueError, match="coding = 'yolov4': choose one of yolov5, yolov3"):
        head(coding="yolov4")


def test_loss_gains_are_rescaled_as_published():
    h = head(num_classes=2)
    logits = [torch.zeros_like(r) for r in raw(h, b=2)]
    targets = [target([24, 32, 48, 56], [1]), target([], [])]
    losses = h.loss(logits, targets, SIZE)
    # Every logit 0: class BCE is ln 2 on each level, so 0.5 * 2/80 * 3/2 * (2 levels) * (batch 2) * ln 2.
    assert losses["class"].item() == pytest.approx(0.5 * 2 / 80 * 1.5 * 2 * 2 * np.log(2), rel=1e-5)
    # Objectness BCE at logit 0 is ln 2 for any target; balance 4 + 1; 128 x 128 pixels.
    objectness = 1.5 * (128 / 640) ** 2 * 5 * 2 * np.log(2)
    assert losses["objectness"].item() == pytest.approx(objectness, rel=1e-5)
    # An input that is no multiple of the stride counts as its map does: filled up to whole cells of 16 pixels.
    assert h.loss(logits, targets, (120, 113))["objectness"].item() == pytest.approx(objectness, rel=1e-5)
    assert h.loss(logits, targets, (64, 120))["objectness"].item() == pytest.approx(objectness / 2, rel=1e-5)


def test_objectness_learns_the_best_of_two_boxes_in_one_cell_in_any_order():
    h = head()
    logits = raw(h)
    boxes = [[24.0, 32.0, 48.0, 56.0], [26.0, 33.0, 47.0, 58.0]]
    one = h.loss(logits, [target(boxes, [0, 0])], SIZE)
    other = h.loss(logits, [target(boxes[::-1], [0, 0])], SIZE)
    assert one["objectness"].item() == other["objectness"].item()


def test_a_single_class_needs_no_class_loss_and_scores_by_objectness():
    h = head(num_classes=1)
    logits = raw(h)
    losses = h.loss(logits, [target([24, 32, 48, 56], [0])], SIZE)
    assert losses["class"] == 0
    scores = h.decode([r.detach() for r in logits], SIZE)[0]["scores"]
    assert scores[0] == torch.cat([r[..., 4].flatten() for r in logits]).sigmoid().max()


def test_boxes_at_the_border_stay_on_the_map():
    h = head()
    losses = h.loss(raw(h), [target([[110, 110, 128, 128], [0, 0, 128, 128], [127, 127, 128, 128]], [0, 1, 0])], SIZE)
    assert all(v.isfinite() for v in losses.values())


def test_class_aware_suppression_keeps_the_other_class():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10.5], [40, 40, 50, 50]])
    scores = torch.tensor([[0.9, 0.0], [0.8, 0.7], [0.0, 0.3]])
    kept = select_detections(boxes, scores, 0.1, 0.6, 100, 100)
    assert [(round(s, 1), c) for s, c in zip(kept["scores"].tolist(), kept["labels"].tolist(), strict=True)] == [
        (0.9, 0), (0.7, 1), (0.3, 1),
    ]  # fmt: skip
    assert len(select_detections(boxes, scores, 0.1, 0.6, 100, 2)["scores"]) == 2
    assert select_detections(boxes, scores * 0, 0.1, 0.6, 100, 100)["boxes"].shape == (0, 4)


def test_kmeans_finds_three_clusters_of_sizes():
    rng = np.random.default_rng(0)
    centres = np.array([[12, 20], [60, 30], [150, 200]], dtype=np.float32)
    sizes = (centres[rng.integers(3, size=600)] * rng.uniform(0.9, 1.1, (600, 2))).astype(np.float32)
    anchors = kmeans_anchors(sizes, 3)
    np.testing.assert_allclose(anchors, centres, rtol=0.05)
    assert best_possible_recall(sizes, anchors, 4.0) == 1.0
    assert best_possible_recall(sizes, centres[:1] / 10, 4.0) == 0.0


def test_anchors_are_fitted_only_where_they_do_not_reach():
    h = head()
    before = h.anchors.clone()
    assert "kept" in h.fit_anchors(np.full((100, 2), 25.0, dtype=np.float32))
    assert torch.equal(h.anchors, before)
    sizes = np.tile(np.array([[300, 4], [4, 300], [30, 30]], dtype=np.float32), (50, 1))
    assert "fitted" in h.fit_anchors(sizes)
    assert best_possible_recall(sizes, h.anchors.flatten(0, 1).numpy(), 4.0) == 1.0
    none = "anchors kept: none of {} training boxes is larger than 2 pixels"
    assert h.fit_anchors(np.zeros((0, 2), dtype=np.float32)).startswith(none.format(0))
    assert h.fit_anchors(np.full((9, 2), 1.5, dtype=np.float32)).startswith(none.format(9))
    few = "anchors kept: they reach 0.0% of 3 training boxes, too few to fit 6 anchors"
    assert h.fit_anchors(np.full((3, 2), 9999.0, dtype=np.float32)) == few
