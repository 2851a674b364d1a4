"""Distillation: zero towards itself, gradients in the student alone, whole runs, refusals."""

import copy
import json

import pytest
import torch
from torch import nn

import train
from data.sample import Batch, Placement
from engine.distill import Distillation, uncorrelated
from engine.runs.checkpoint import load_checkpoint
from models import create_model

KWARGS = {"num_classes": 3, "T": 2, "width": 0.125}
HEADS = [("spikeyolo_n", "dfl"), ("spikeyolo_n", "yolox"), ("ems_resnet10_ee", "anchor")]
IMAGES = type("Images", (), {"sequences": None})()  # in the place of a loader's dataset
LOADER = type("Loader", (), {"dataset": IMAGES})()


def detector(name: str, head: str, seed: int = 0, **kwargs):
    torch.manual_seed(seed)
    model = create_model(name, head=head, **KWARGS | kwargs)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.6, 1.6)
            nn.init.uniform_(module.bias, -0.2, 0.5)
    return model


def batch(targets=None, n=2, seed=0):
    x = torch.rand(n, 3, 64, 64, generator=torch.Generator().manual_seed(seed))
    target = {"boxes": torch.tensor([[4.0, 6.0, 40.0, 50.0]]), "labels": torch.tensor([1])}
    targets = [target] * n if targets is None else [target if known else None for known in targets]
    return Batch(x, targets, list(range(n)), [(64, 64)] * n, [Placement()] * n, 1.0, torch.ones(n) > 0)


def losses(student, teacher, of: Batch, weight=1.0):
    with Distillation(teacher, student, weight).epoch(LOADER) as more:
        student(*of.to("cpu"))
        return more(of.x, of)


@pytest.mark.parametrize(("name", "head"), HEADS)
def test_a_student_that_equals_its_teacher_has_no_distance(name, head):
    teacher = detector(name, head).eval()
    found = losses(copy.deepcopy(teacher), teacher, batch())
    assert set(found) == {"distill_features", "distill_logits"}
    assert all(abs(float(value.detach())) < 1e-5 for value in found.values())


@pytest.mark.parametrize(("name", "head"), HEADS)
def test_gradients_reach_the_student_and_not_the_teacher(name, head):
    student, teacher = detector(name, head).train(), detector(name, head, seed=1, neuron="relu")
    statistics = [b.clone() for b in teacher.buffers()]
    found = losses(student, teacher, batch())
    for key, part in (("distill_features", student.network), ("distill_logits", student.head)):
        assert float(found[key].detach()) > 0.01
        gradients = torch.autograd.grad(
            found[key], [p for p in part.parameters() if p.requires_grad], retain_graph=True, allow_unused=True
        )
        assert all(bool(g.isfinite().all()) for g in gradients if g is not None)
        assert sum(bool(g.any()) for g in gradients if g is not None) > len(gradients) / 2
    assert not any(p.requires_grad for p in teacher.parameters()) and not teacher.training
    assert all(torch.equal(a, b) for a, b in zip(statistics, teacher.buffers(), strict=True))
    doubled = losses(student.eval(), teacher, batch(), weight=2.0)
    for key, value in losses(student, teacher, batch()).items():
        torch.testing.assert_close(doubled[key], 2 * value)


@pytest.mark.parametrize(("name", "head"), HEADS)
def test_unlabelled_images_take_no_part(name, head):
    student, teacher = detector(name, head).eval(), detector(name, head, seed=1, neuron="relu")
    whole = batch([True, False, True], n=3)
    known = batch(n=3)
    known = Batch(**{**vars(known), "x": known.x[[0, 2]], "targets": known.targets[:2]})
    some, expected = losses(student, teacher, whole), losses(student, teacher, known)
    for key, value in expected.items():
        torch.testing.assert_close(some[key], value)
    none = losses(student.train(), teacher, batch([False, False]))
    assert all(float(value.detach()) == 0 for value in none.values())
    sum(none.values()).backward()
    assert all(p.grad is None or not p.grad.any() for p in student.parameters())


def test_the_distance_of_maps_is_that_of_correlation():
    x, y = torch.randn(2, 4, 3, 5, 6, generator=torch.Generator().manual_seed(0)).unbind()
    pairs = [torch.stack([a.flatten(), b.flatten()]) for a, b in zip(x.unbind(1), y.unbind(1), strict=True)]
    r = torch.stack([torch.corrcoef(pair)[0, 1] for pair in pairs])
    torch.testing.assert_close(uncorrelated(x, y), (1 - r).mean(), atol=1e-5, rtol=1e-5)
    scale, offset = torch.tensor([0.1, 2.0, 30.0]).view(1, 3, 1, 1), torch.tensor([5.0, -1.0, 0.0]).view(1, 3, 1, 1)
    torch.testing.assert_close(uncorrelated(x * scale + offset, y / scale), uncorrelated(x, y), atol=1e-3, rtol=1e-3)
    dead = torch.zeros_like(x, requires_grad=True)
    uncorrelated(dead, y).backward()
    assert dead.grad is not None and dead.grad.isfinite().all()


def test_nothing_is_kept_or_watched_after_an_epoch():
    student, teacher = detector(*HEADS[0]), detector(*HEADS[0])
    before = copy.deepcopy(student).state_dict()
    losses(student.eval(), teacher, batch())
    assert not student.network._forward_hooks and not student.head._forward_hooks
    assert all(torch.equal(before[key], value) for key, value in student.state_dict().items())


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"head": "yolox"}, "the teacher's head is YOLOXHead, here DFLHead: set model.head"),
        ({"width": 0.25}, r"the teacher's channels \[\d+, \d+, \d+\], here \[\d+, \d+, \d+\]: .*same family and width"),
        ({"name": "ems_resnet10_ee"}, r"the teacher's strides \[.*\], here \[8, 16, 32\]: .*same family"),
    ],
)
def test_what_does_not_fit_is_refused(other, message):
    kwargs = {"name": "spikeyolo_n", "head": "dfl", **other}
    with pytest.raises(ValueError, match=rf"train.distill: {message}"):
        Distillation(detector(**kwargs), detector(*HEADS[0]))


def test_a_whole_run_towards_another(trained, tiny):
    """Twin to student: both losses fall into the records, the teacher is named, not saved, and compared on a resume."""
    teacher = str(trained)
    options = [f"train.distill={teacher}", "train.epochs=1", "optim.warmup_epochs=0"]
    run = train.main([tiny, *options])
    record = json.loads((run / "metrics.jsonl").read_text())
    assert record["loss/distill_features"] > 0 and record["loss/distill_logits"] > 0
    content = load_checkpoint(run / "checkpoint_last.pt")
    assert content["teacher"].startswith("ems_resnet10_ee, lif, weights ")
    assert json.loads((run / "provenance.jsonl").read_text())["teacher"] == content["teacher"]
    assert content["model"].keys() == load_checkpoint(trained / "checkpoint_last.pt")["model"].keys()
    resumed = train.main([tiny, *options[:1], "train.epochs=2", "--resume", str(run)])
    assert len((resumed / "metrics.jsonl").read_text().splitlines()) == 2
    with pytest.raises(ValueError, match=r"cannot resume: teacher changed from None to ems_resnet10_ee"):
        train.main([tiny, *options[:1], "train.epochs=4", "--resume", str(trained)])


def test_a_teacher_of_other_data_is_refused(trained, tiny):
    with pytest.raises(
        ValueError, match=r"train.distill = .*tiny: its input representation .* here .*: take a teacher"
    ):
        train.main([tiny, f"train.distill={trained}", "data.args={representation: {name: counts, clip: 4}}"])
    with pytest.raises(ValueError, match=r"train.distill = /nowhere: .*no such checkpoint"):
        train.main([tiny, "train.distill=/nowhere"])
