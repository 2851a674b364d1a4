"""Distillation around a model that is checkpointed, compiled, in bf16, streamed, or one of two processes."""

import copy

import pytest
import torch
from ranks import on_two_ranks
from test_distill import LOADER, batch, detector
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from data import create_dataset, train_loader
from data.sample import Batch
from engine import distributed
from engine.distill import Distillation
from engine.ema import build_ema
from engine.loop import Update, stream_of, train_epoch
from engine.optim import Schedule, build_optimizer
from engine.wrap import wrap
from models import Detector
from models.encoders import DirectEncoder
from models.heads import build_head
from models.layers.time import over_time
from neurons import Stream, build_neuron


class Small(nn.Module):
    """Two blocks of a convolution and a neuron: maps at stride 8."""

    channels, strides = (8,), (8,)

    def __init__(self, neuron: str):
        super().__init__()
        self.first, self.second = (SpikeConv(c1, 8, build_neuron(neuron), stride) for c1, stride in ((3, 4), (8, 2)))

    def forward(self, x):
        return [self.second(self.first(x))]


class SpikeConv(nn.Module):
    def __init__(self, c1, c2, neuron, stride):
        super().__init__()
        self.conv, self.neuron = nn.Conv2d(c1, c2, 3, stride, 1), neuron

    def forward(self, x):
        return self.neuron(over_time(self.conv, x))


def small(neuron: str, seed: int = 0) -> Detector:
    torch.manual_seed(seed)
    return Detector(Small(neuron), build_head("yolox", (8,), (8,), 3, neuron="relu"), DirectEncoder(2))


CPU = torch.device("cpu")
KEYS = ("distill_features", "distill_logits")


def one_epoch(student, teacher, batches, lr=0.01, precision="fp32", trained=None, loader=LOADER):
    """(mean losses, gradients of the last step, losses of each step)."""
    optimizer = build_optimizer(student, "sgd", lr, 0.0, 0.0)
    update, steps = Update(optimizer, Schedule(lr, 1.0, 0.0, 10, 0, 0.0, 0.0), build_ema(student, 0.9, 1.0)), []
    trained = student if trained is None else trained
    with Distillation(teacher, student).epoch(loader) as more, stream_of(trained, loader) as stream:
        mean = train_epoch(
            trained, batches, update, CPU, precision=precision, on_step=steps.append, stream=stream, more_losses=more
        )
    return mean, {k: p.grad for k, p in student.named_parameters() if p.grad is not None}, [s.losses for s in steps]


@pytest.mark.parametrize("compile", [False, True])
def test_a_checkpointed_student_is_trained_the_same(compile, monkeypatch):
    real = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda self, **kwargs: real(self, backend="aot_eager", **kwargs))
    plain, teacher = small("lif"), small("relu", seed=1)
    model = copy.deepcopy(plain)
    wrap(model, True, compile, CPU)
    expected, gradients, _ = one_epoch(plain, teacher, [batch()])
    found, others, _ = one_epoch(model, teacher, [batch()])
    assert found.keys() == expected.keys() >= set(KEYS)
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, rel=1e-4)
    for key, gradient in gradients.items():
        torch.testing.assert_close(others[key], gradient, atol=1e-4, rtol=1e-3)


def test_bf16_computes_the_losses_in_float32():
    student, teacher = detector("spikeyolo_n", "dfl"), detector("spikeyolo_n", "dfl", 1, neuron="relu")
    expected, _, _ = one_epoch(copy.deepcopy(student), teacher, [batch()], lr=0.0)
    with Distillation(teacher, student).epoch(LOADER) as more, torch.autocast("cpu", torch.bfloat16):
        student.train()(*batch().to("cpu"))
        found = more(batch().x, batch())
    for key in KEYS:
        assert found[key].dtype == torch.float32
        assert float(found[key].detach()) / 2 == pytest.approx(expected[key], rel=0.2)


def test_a_teacher_of_repeated_images_without_state_runs_one_step():
    student, teacher = detector("spikeyolo_n", "dfl"), detector("spikeyolo_n", "dfl", 1, neuron="relu", T=3)
    steps = []
    teacher.network.register_forward_pre_hook(lambda _, inputs: steps.append(len(inputs[0])))
    fast = Distillation(teacher, student.eval())
    slow = Distillation(teacher, student)
    slow.memoryless = False
    losses = []
    for distillation in (fast, slow):
        with distillation.epoch(LOADER) as more:
            student(*batch().to("cpu"))
            losses.append(more(batch().x, batch()))
    assert steps == [1, 3]
    for key, value in losses[0].items():
        torch.testing.assert_close(value, losses[1][key], atol=1e-4, rtol=1e-4)


def test_a_spiking_teacher_is_streamed_as_its_student(scenes):
    dataset = create_dataset("gen1", "train", root=scenes, num_steps=2, sampling="sequential", window_ms=100)
    loader = train_loader(dataset, 2, seed=0)
    batches = list(loader)[:6]
    student, teacher = (detector("ems_resnet10_ee", "anchor", seed, num_classes=2, in_channels=2) for seed in (0, 1))
    *_, steps = one_epoch(student, teacher, batches, lr=0.0, loader=loader)
    expected, fresh = [], []
    with torch.no_grad(), Stream(student) as ours, Stream(teacher) as theirs:
        for of in batches:
            for stream in (ours, theirs):
                stream.reset(of.starts)
            x, _ = of.to("cpu")
            expected.append(by_hand(student, teacher, x, of))
    with torch.no_grad(), Stream(student) as ours:
        for of in batches:
            ours.reset(of.starts)
            x, _ = of.to("cpu")
            fresh.append(by_hand(student, teacher, x, of))
    counts = [max(1, sum(target is not None for target in of.targets)) for of in batches]
    found = [step["distill_logits"] * n for step, n in zip(steps, counts, strict=True)]
    assert found == pytest.approx(expected, rel=1e-4) and found != pytest.approx(fresh, rel=1e-3)
    assert all(neuron.stream is None for neuron in teacher.spiking_layers().values())


def by_hand(student, teacher, x, of: Batch) -> float:
    known = [i for i, target in enumerate(of.targets) if target is not None]
    logits = student.train().raw(x), teacher.eval().raw(x)
    return float(student.head.distill(*([level[known] for level in levels] for levels in logits)))


def on_ranks() -> tuple[dict, dict]:
    """(losses, weights) after a step on this process's share of four images; no neuron is within rounding of a jump."""
    distributed.start("cpu")
    student, teacher = (detector("spikeyolo_n", "dfl", seed, neuron="relu", T=1) for seed in (0, 1))
    for module in student.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train = lambda mode=True: None  # else its statistics are those of the share
            module.training = False
    ranks, whole = distributed.world_size(), batch(n=4)
    share = slice(distributed.rank(), None, ranks)
    mine = Batch(
        **{key: value[share] if isinstance(value, list | torch.Tensor) else value for key, value in vars(whole).items()}
    )
    trained = DistributedDataParallel(student) if ranks > 1 else student
    losses, *_ = one_epoch(student, teacher, [mine], trained=trained)
    distributed.stop()
    return losses, student.state_dict()


def test_two_ranks_learn_from_one_teacher(tmp_path):
    losses, _ = on_ranks()
    (first, _), (second, _) = on_two_ranks(tmp_path, on_ranks)
    for key, value in first[1].items():
        assert torch.equal(value, second[1][key]), key
    logits = [found[0]["distill_logits"] for found in (first, second)]
    assert sum(logits) / 2 == pytest.approx(losses["distill_logits"], rel=1e-4)
    assert all(found[0]["distill_features"] > 0 for found in (first, second))
