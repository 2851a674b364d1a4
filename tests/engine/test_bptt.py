"""Truncated BPTT over several windows in sequence: gradients through the carried states, one step per group."""

import json

import pytest
import torch
from ranks import interrupted, on_two_ranks
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import train
from data import create_dataset, train_loader
from engine import distributed
from engine.ema import build_ema
from engine.loop import Update, stream_of, train_epoch
from engine.optim import Schedule, build_optimizer
from engine.runs.checkpoint import load_checkpoint
from engine.runs.open import open_run
from engine.wrap import wrap
from models import create_model
from neurons import Stream

CPU = torch.device("cpu")
SEQUENTIAL = ["data.args.sampling=sequential", "data.args.window_ms=50", "model.T=1", "train.epochs=2"]


class Frozen(nn.Module):
    """A detector in float64, so that no potential is within rounding of a threshold, its BatchNorms in evaluation."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.detector = create_model("ems_resnet10_ee", num_classes=2, T=1, in_channels=2, width=0.125, neuron="plif")
        self.double()
        for norm in self.norms():
            nn.init.uniform_(norm.weight, 0.6, 1.6)
            nn.init.uniform_(norm.bias, -0.2, 0.5)

    def norms(self):
        return [m for m in self.modules() if isinstance(m, nn.BatchNorm2d)]

    def forward(self, x, targets):
        for norm in self.norms():
            norm.eval()
        return self.detector(x.double(), targets)


@pytest.fixture(scope="module")
def dataset(scenes):
    return create_dataset("gen1", "train", root=scenes, num_steps=1, sampling="sequential", window_ms=25)


def update_of(model, **options):
    optimizer = build_optimizer(model, "sgd", 0.0, 0.0, 0.0)
    return Update(optimizer, Schedule(0.0, 1.0, 0.0, 100, 0, 0.0, 0.0), build_ema(model, 0.9, 1.0), **options)


def trained(model, loader, batches, **options):
    """Gradients of the last step of the optimizer, whose rate is 0, on these batches."""
    update = update_of(getattr(model, "module", model), **options)
    with stream_of(model, loader, update.bptt) as stream:
        train_epoch(model, batches, update, CPU, stream=stream)
    return {name.removeprefix("module."): p.grad.clone() for name, p in model.named_parameters()}


def unrolled(model, batches, cut=()):
    """The same by plain autograd through all `batches`, detached before those whose numbers are in `cut`."""
    model.zero_grad()
    model.train()
    with Stream(model, detach=False) as stream:
        losses = []
        for i, batch in enumerate(batches):
            if i in cut:
                stream.detach()
            stream.reset(batch.starts)
            losses += model(*batch.to(CPU)).values()
        torch.stack(losses).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


def assert_equal(gradients, expected, rtol=1e-9):
    scale = max(float(g.abs().max()) for g in expected.values())
    for name, gradient in expected.items():
        torch.testing.assert_close(gradients[name], gradient, rtol=rtol, atol=1e-12 * scale, msg=name)


def some_batches(dataset, count=4):
    """Batches of two rows, some of which start a recording after the first batch."""
    batches = list(train_loader(dataset, 2, seed=0))
    first = next(i for i, batch in enumerate(batches) if i > 1 and batch.starts.any())
    return batches[first - 2 : first - 2 + count]


def test_gradients_are_those_of_autograd_through_all_windows_of_a_group(dataset):
    loader, batches, model = train_loader(dataset, 2, seed=0), some_batches(dataset), Frozen()
    assert sum(t is not None for b in batches for t in b.targets) > 1
    whole = unrolled(model, batches)
    assert_equal(trained(model, loader, batches, bptt=4), whole)
    halves = unrolled(model, batches, cut=[2])
    assert_equal(trained(model, loader, batches, bptt=2, accumulate=2), halves)
    assert_equal(trained(model, loader, batches, bptt=1, accumulate=4), unrolled(model, batches, cut=range(4)))
    stem = next(iter(whole))
    assert not torch.allclose(whole[stem], halves[stem], rtol=1e-3)


def test_a_shorter_last_group_and_one_step_per_group(dataset):
    loader, batches, model = train_loader(dataset, 2, seed=0), some_batches(dataset, 5), Frozen()
    steps = []
    update = update_of(model, bptt=3)
    with stream_of(model, loader, 3) as stream:
        train_epoch(model, batches, update, CPU, stream=stream, on_step=steps.append)
    assert [s.step for s in steps] == [0, 1] and update.batches == 3
    last = {name: p.grad.clone() for name, p in model.named_parameters()}
    with Stream(model, detach=False) as stream, torch.no_grad():
        for batch in batches[:3]:
            stream.reset(batch.starts)
            model(*batch.to(CPU))
        with torch.enable_grad():
            model.zero_grad()
            losses = []
            for batch in batches[3:]:
                stream.reset(batch.starts)
                losses += model(*batch.to(CPU)).values()
            torch.stack(losses).sum().backward()
    assert_equal(last, {name: p.grad for name, p in model.named_parameters()})


def test_windows_of_one_step_have_the_gradient_of_one_call_with_their_steps():
    """Where the loss is that of the last step."""
    detector = Frozen().detector.eval()
    x = torch.rand(4, 2, 2, 64, 96, dtype=torch.float64) * 3
    sum((level**2).sum() for level in detector.head([m[-1:] for m in detector.network(x)])).backward()
    expected = {name: p.grad.clone() for name, p in detector.named_parameters()}
    detector.zero_grad()
    with Stream(detector, detach=False):
        for step in x:
            logits = detector.raw(step[None])
        sum((level**2).sum() for level in logits).backward()
    assert_equal({name: p.grad for name, p in detector.named_parameters()}, expected)


def test_with_activation_checkpointing(dataset):
    loader, batches, model = train_loader(dataset, 2, seed=0), some_batches(dataset), Frozen()
    expected = unrolled(model, batches)
    assert_equal(trained(wrap(model.detector, True, False, CPU) and model, loader, batches, bptt=4), expected)


def _on_this_rank(scenes, bptt):
    distributed.start("cpu")
    dataset = create_dataset("gen1", "train", root=scenes, num_steps=1, sampling="sequential", window_ms=25)
    rank = distributed.rank()
    batches = list(train_loader(dataset, 1, seed=0, rank=rank, world_size=2))[:4]
    # Its BatchNorms train, and DDP exchanges their statistics between steps.
    model = create_model("ems_resnet10_ee", num_classes=2, T=1, in_channels=2, width=0.125)
    ddp = DistributedDataParallel(model)
    trained(ddp, train_loader(dataset, 1, seed=0), batches, bptt=bptt)
    frozen = Frozen()
    found = trained(DistributedDataParallel(frozen), train_loader(dataset, 1, seed=0), batches, bptt=bptt)
    distributed.stop()
    alone = [unrolled(frozen, list(train_loader(dataset, 1, seed=0, rank=r, world_size=2))[:4]) for r in (0, 1)]
    return found, {name: alone[0][name] + alone[1][name] for name in found}


def test_two_processes_add_their_gradients(scenes, tmp_path):
    (found, expected), _ = on_two_ranks(tmp_path, _on_this_rank, scenes, 4)[0]
    assert_equal(found, expected)


def test_a_run_is_resumed_bit_for_bit_and_random_sampling_is_refused(tiny):
    options = [*SEQUENTIAL, "train.bptt=3", "train.accumulate=2", "model.args.memory=gated"]
    run = train.main([tiny, *options])
    content = load_checkpoint(run / "checkpoint_last.pt")
    batches = -(-len(create_dataset_of(content)) // 4)
    assert content["steps_per_epoch"] == -(-batches // 6) and content["samples_per_step"] == 24
    with interrupted(content["steps_per_epoch"] + 1):
        train.main([tiny, *options, "name=parts"])
    resumed = load_checkpoint(train.main([tiny, *options, "name=parts", "--resume"]) / "checkpoint_last.pt")
    for part in ("model", "ema"):
        assert all(torch.equal(content[part][key], resumed[part][key]) for key in content[part])
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 2 * content["steps_per_epoch"] - 1
    assert open_run(run).model.memory is not None
    with pytest.raises(ValueError, match="cannot resume: train.bptt changed from 3 to 2"):
        train.main([tiny, "train.bptt=2", "name=parts", "train.epochs=3", "--resume"])
    with pytest.raises(ValueError, match=r"^train.bptt = 2: gradients flow .* Set data.args.sampling=sequential, or"):
        train.main([tiny, "train.bptt=2"])


def create_dataset_of(content):
    args = content["config"]["data"]["args"]
    return create_dataset("gen1", "train", root=content["config"]["data"]["root"], num_steps=1, **args)


def test_messages_name_the_keys_of_a_memory(tiny):
    with pytest.raises(ValueError, match=r"^model.args.memory.tau = 1: give a number of steps above 2"):
        train.main([tiny, "model.args.memory={name: gated, tau: 1}"])
    with pytest.raises(ValueError, match=r"^model.args.memory: unknown memory 'lif'"):
        train.main([tiny, "model.args.memory=lif"])
