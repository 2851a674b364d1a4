"""The slow reference of the YOLOX networks agrees with the numbers of the published code."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from published_sampler import arsnn, rsnn, snn
from published_yolox import EASSNN, SpikingYOLOX
from torch import Tensor


def stored(path):
    with np.load(path, allow_pickle=False) as file:
        g = {key: torch.from_numpy(np.asarray(file[key])) for key in file.files}
    state = {k[2:]: v.float() if v.is_floating_point() else v for k, v in g.items() if k.startswith("w.")}
    state |= {k[3:]: v.float() * g[f"scale.{k[3:]}"] for k, v in g.items() if k.startswith("q8.")}
    for key, value in state.items():
        value.requires_grad_(key.endswith((".weight", ".bias", ".w")))
    return g, state


def corners(cxcywh: Tensor) -> tuple[Tensor, Tensor]:
    return cxcywh[..., :2] - cxcywh[..., 2:] / 2, cxcywh[..., :2] + cxcywh[..., 2:] / 2


def loss(logits: list[Tensor], assigned: Tensor, boxes: list[Tensor], classes: list[Tensor], l1: bool) -> Tensor:
    """YOLOX's, of cells that belong to the given objects: boxes [N, 4] cxcywh of each image."""
    cells = torch.cat([y.flatten(2).mT for y in logits], 1)
    grid, stride = [], []
    for level, y in enumerate(logits):
        rows, columns = torch.meshgrid(*(torch.arange(n) for n in y.shape[-2:]), indexing="ij")
        grid.append(torch.stack([columns, rows], -1).flatten(0, 1))
        stride.append(torch.full((len(grid[-1]), 1), 8 << level))
    grid, stride = torch.cat(grid).to(cells), torch.cat(stride).to(cells)
    total = cells.new_zeros(())
    count = int((assigned >= 0).sum())
    for image, owner in enumerate(assigned.long()):
        mine = owner >= 0
        owner, y = owner[mine], cells[image, mine]
        truth = boxes[image][owner]
        predicted = torch.cat([(y[:, :2] + grid[mine]) * stride[mine], y[:, 2:4].exp() * stride[mine]], 1)
        (a, b), (c, d) = corners(predicted), corners(truth)
        overlap = (torch.minimum(b, d) - torch.maximum(a, c)).clamp(min=0).prod(1)
        iou = overlap / (predicted[:, 2:].prod(1) + truth[:, 2:].prod(1) - overlap + 1e-16)
        one_hot = F.one_hot(classes[image][owner].long(), cells.shape[-1] - 5) * iou.detach()[:, None]
        total = total + 5 * (1 - iou**2).sum()
        total = total + F.binary_cross_entropy_with_logits(cells[image, :, 4], mine.to(cells), reduction="sum")
        total = total + F.binary_cross_entropy_with_logits(y[:, 5:], one_hot, reduction="sum")
        if l1:
            target = torch.cat(
                [truth[:, :2] / stride[mine] - grid[mine], (truth[:, 2:] / stride[mine] + 1e-8).log()], 1
            )
            total = total + (y[:, :4] - target).abs().sum()
    return total / count


def near(ours: Tensor, theirs: Tensor, of_largest: float, what: str = "") -> None:
    largest = float(theirs.float().abs().max())
    difference = float((ours.detach().float() - theirs.float()).abs().max())
    assert ours.shape == theirs.shape and difference <= of_largest * max(largest, 1e-3), f"{what}: {difference}"


@pytest.mark.parametrize(
    ("slots", "rpd", "sat"), [(1, 0, 0), (1, 0, 1), (1, 1, 0), (1, 1, 1), (3, 0, 0), (3, 0, 1), (3, 1, 0)]
)
def test_adaptive_sampler(slots, rpd, sat, shared):
    g, _ = stored(shared(f"golden/eas_arsnn_Ts{slots}_rpd{rpd}_sat{sat}.npz"))
    state = {k[2:]: v.requires_grad_() for k, v in g.items() if k.startswith("p.")}
    x = g["x"].requires_grad_()
    y = arsnn(state, x[:, 0], slots, bool(rpd), bool(sat))
    (y * g["grad_out"]).sum().backward()
    near(y, g["y"], 0, "y")
    near(x.grad, g["grad_x"], 1e-6, "x")
    for name, p in state.items():
        near(p.grad, g[f"pg.{name}"], 1e-6, name)


@pytest.mark.parametrize("name", ["rsnn", "snn"])
def test_its_relatives(name, shared):
    g, _ = stored(shared(f"golden/eas_{name}_embedding.npz"))
    state = {k[2:]: v for k, v in g.items() if k.startswith("p.")}
    x = g["x"].requires_grad_()
    y = {"rsnn": rsnn, "snn": snn}[name](state, x)[0]
    (y * g["grad_out"]).sum().backward()
    near(y, g["y"], 1e-6)
    near(x.grad, g["grad_x"], 1e-6)


def test_eas_snn_fully_spiking(shared):
    g, state = stored(shared("golden/eas_model_fullspike_v2_d33w25_nc2_T3.npz"))
    x = g["input"].float()
    with torch.no_grad():
        network = EASSNN(state, training=False)
        logits = network.raw(network.sample(x, T=3))
    near(network.seen["embedding"], g["sampler"], 1e-5, "sampler")
    near(network.stages[0][0], g["feat.stem"], 1e-5, "stem")
    for name, y in zip(("dark2", "dark3", "dark4", "dark5"), network.stages[1:], strict=True):
        near(y, g[f"feat.{name}"], 0, name)
    for level, (y, fused) in enumerate(zip(logits, network.fused, strict=True), 3):
        near(fused, g[f"feat.fpn{level}"], 0, f"fpn{level}")
        near(y, g[f"raw_p{level}"], 1e-5, f"p{level}")

    network = EASSNN(state, training=True)
    logits = network.raw(network.sample(x, T=3))
    labels = g["train.labels"]
    objects = [rows[rows.sum(1) > 0] for rows in labels]
    total = loss(logits, g["train.assigned_gt"], [o[:, 1:] for o in objects], [o[:, 0] for o in objects], l1=True)
    total.backward()
    assert total.item() == pytest.approx(g["train.total_loss"].item(), rel=1e-5)
    compare_training(g, state, logits, of_largest=2e-5)


def test_spiking_yolox_as_released(shared):
    g, state = stored(shared("golden/syx_model_nano_nc4.npz"))
    x = g["input"].float()[None]
    with torch.no_grad():
        network = SpikingYOLOX(state, training=False)
        logits = network.raw(x)
    for name, y in zip(("dark2", "dark3", "dark4", "dark5"), network.stages[1:], strict=True):
        near(y[0], g[f"feat.{name}"], 1e-5, name)
    for ours, theirs in (("dark5.1", "dark5.0"), ("dark5.2", "dark5.1"), ("dark5.2.m", "dark5.2.m")):
        near(network.seen[f"backbone.backbone.{ours}"][0], g[f"feat.{theirs}"], 1e-5, theirs)
    for level, y in enumerate(logits, 3):
        near(y, g[f"raw_p{level}"], 1e-5, f"p{level}")

    network = SpikingYOLOX(state, training=True)
    logits = network.raw(x)
    objects = [g["loss.labels0"], g["loss.labels1"]]
    total = loss(logits, g["train.assigned_gt"], [o[:, :4] for o in objects], [o[:, 4] for o in objects], l1=False)
    total.backward()
    assert total.item() == pytest.approx(g["train.total_loss"].item(), rel=1e-5)
    compare_training(g, state, logits, of_largest=2e-4)


def compare_training(g, state, logits, of_largest):
    for level, y in enumerate(logits, 3):
        near(y, g[f"train.logits_p{level}"], of_largest, f"p{level} in training")
    for key, value in g.items():
        if key.startswith("train.grad."):
            name = key.removeprefix("train.grad.")
            # Of one number, the error is that of the sums it is the difference of.
            limit = 1e-6 if value.ndim == 0 else of_largest * float(value.abs().max())
            assert float((state[name].grad - value).abs().max()) <= limit, name
        if key.startswith("train.buf_after."):
            near(state[key.removeprefix("train.buf_after.")], value, 1e-5, key)
