"""The training loop: accumulation, and the stop before a bad step."""

import pytest
import torch
from ranks import on_two_ranks
from tiny_trainer import Net
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from data.sample import Batch, Placement
from engine import distributed
from engine.ema import build_ema
from engine.evaluation import evaluate
from engine.loop import Update, train_epoch
from engine.optim import Schedule, build_optimizer
from models.detector import NonFiniteLogitsError


class Toy(nn.Module):
    """Loss = sum over images of (w x - 1)^2."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.tensor([[0.5]]))

    def forward(self, x, targets):
        return {"fit": ((x.flatten(1).mean(1) * self.w[0, 0] - 1) ** 2).sum(), "zero": self.w.sum() * 0}


def batches(values, size):
    for i in range(0, len(values), size):
        part = values[i : i + size]
        x = torch.tensor(part).view(-1, 1, 1, 1)
        n = len(part)
        yield Batch(x, [{}] * n, list(range(n)), [(1, 1)] * n, [Placement()] * n, 1.0, torch.ones(n, dtype=torch.bool))


def run(values, size, accumulate, **kwargs):
    model = Toy()
    schedule = Schedule(0.1, 1.0, 0.0, 10, 0, 0.0, 0.0)
    steps = []
    optimizer = torch.optim.SGD([{"params": model.parameters(), "role": "weight"}], lr=0.1)
    losses = train_epoch(
        model, batches(values, size), Update(optimizer, schedule, build_ema(model, 0.9, 1.0), accumulate, **kwargs),
        torch.device("cpu"), on_step=steps.append,
    )  # fmt: skip
    return model.w.item(), losses, steps


def test_accumulated_batches_equal_one_large_batch():
    values = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    assert run(values, 1, 6)[0] == pytest.approx(run(values, 6, 1)[0])
    assert run(values, 2, 3)[1]["fit"] == pytest.approx(run(values, 6, 1)[1]["fit"])
    assert [s.step for s in run(values, 1, 4)[2]] == [0, 1]  # the rest makes a smaller last step


def _on_this_rank(values):
    device = distributed.start("cpu")
    model = DistributedDataParallel(Toy())
    optimizer = torch.optim.SGD([{"params": model.parameters(), "role": "weight"}], lr=0.1)
    train_epoch(
        model, batches(values[distributed.rank() :: 2], 1),
        Update(optimizer, Schedule(0.1, 1.0, 0.0, 10, 0, 0.0, 0.0), build_ema(model.module, 0.9, 1.0), accumulate=2),
        device,
    )  # fmt: skip
    distributed.stop()
    return model.module.w.item()


def test_two_processes_take_the_step_of_one(tmp_path):
    values = [0.1, 0.2, 0.3, 0.4]
    expected = run(values, 4, 1)[0]
    assert [w for w, _ in on_two_ranks(tmp_path, _on_this_rank, values)] == [pytest.approx(expected)] * 2


def test_the_first_bad_gradient_is_named():
    class TwoPart(Toy):
        def __init__(self):
            super().__init__()
            self.good = nn.Parameter(torch.ones(1))

        def forward(self, x, targets):
            return {"good": self.good.sum(), "bad": (self.w * float("nan")).sum()}

    model = TwoPart()
    with pytest.raises(FloatingPointError, match=r"First non-finite gradients: \['w'\], buffers: none"):
        train_epoch(
            model, batches([1.0], 1),
            Update(
                build_optimizer(model, "sgd", 0.1, 0.9, 0.0), Schedule(0.1, 1.0, 0.9, 10, 0, 0, 0),
                build_ema(model, 0.9, 1.0), clip_norm=1.0,
            ),
            torch.device("cpu"),
        )  # fmt: skip


def test_gradients_are_clipped_and_reported_unclipped():
    w, _, steps = run([1.0], 1, 1, clip_norm=0.5)
    assert steps[0].grad_norm == pytest.approx(1.0) and w == pytest.approx(0.5 + 0.1 * 0.5)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_bad_step_stops_before_the_weights_change(value):
    model = Toy()
    optimizer = build_optimizer(model, "sgd", 0.1, 0.9, 0.0)
    with pytest.raises(FloatingPointError, match="step 7: .*First non-finite gradients.*'w'.*data.check"):
        train_epoch(
            model, batches([value], 1),
            Update(optimizer, Schedule(0.1, 1.0, 0.9, 10, 0, 0, 0), build_ema(model, 0.9, 1.0)),
            torch.device("cpu"), first_step=7,
        )  # fmt: skip
    assert model.w.item() == 0.5


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("value, what", [(float("nan"), "input of image 2 not finite"), (1e20, r"1e\+20 in image 2")])
def test_a_step_on_a_bad_input_leaves_the_statistics_of_the_step_before(value, what, accumulate):
    """The variance of 1e20 is infinite, while the loss is finite: every neuron of that channel would fall silent."""
    model = Net()
    x = torch.rand(4, 3, 8, 8)
    x[2, 0, 1, 1] = value
    ema = build_ema(model, 0.9, 1.0)
    before = [{k: v.clone() for k, v in m.state_dict().items()} for m in (model, ema)]
    parts = [
        Batch(x[i : i + 2], [{}] * 2, [i, i + 1], [(8, 8)] * 2, [Placement()] * 2, 1.0, torch.ones(2, dtype=torch.bool))
        for i in (0, 2)
    ][-accumulate:]
    with pytest.raises(FloatingPointError, match=rf"step 3: .*buffers: \['norm\.running_.*{what}"):
        train_epoch(
            model, parts,
            Update(
                build_optimizer(model, "sgd", 0.1, 0.9, 0.0), Schedule(0.1, 1.0, 0.9, 10, 0, 0, 0), ema, accumulate
            ),
            torch.device("cpu"), first_step=3,
        )  # fmt: skip
    for m, state in zip((model, ema), before, strict=True):
        assert all(torch.equal(v, state[k]) for k, v in m.state_dict().items() if "num_batches" not in k)


def test_logits_that_are_not_finite_name_the_image():
    """NaN would pass the threshold of NMS as an image without objects."""

    def diverged(x, batch):
        raise NonFiniteLogitsError([1], len(x))

    numbered = list(batches([0.1, 0.2], 2))
    numbered[0].image_ids = [2, 3]
    with pytest.raises(ValueError, match=r"image 3: logits are not finite \(1 of 2 images of the batch\)"):
        evaluate(diverged, numbered, [None], torch.device("cpu"))
