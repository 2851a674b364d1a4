"""A step that is not finite: all ranks stop, and a message and a file say on which rank, images and layer it began."""

import re

import pytest
import torch
from ranks import on_two_ranks
from tiny_trainer import Net
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import train
from data.sample import Batch, Placement
from engine import distributed
from engine.ema import build_ema
from engine.loop import Update, train_epoch
from engine.nonfinite import Keeper
from engine.optim import Schedule, build_optimizer
from engine.runs.files import remove_written
from engine.sync_batchnorm import sync_batchnorm
from tools import replay

CPU = torch.device("cpu")


def batch(ids, value=None):
    x = torch.rand(len(ids), 3, 8, 8)
    if value is not None:
        x[-1, 0, 1, 1] = value
    n = len(ids)
    return Batch(x, [{}] * n, ids, [(8, 8)] * n, [Placement()] * n, 1.0, torch.ones(n, dtype=torch.bool))


def one_step(model, group, keep=None):
    """The message about the fourth step of a training, whose batches are `group`."""
    ema = build_ema(getattr(model, "module", model), 0.9, 1.0)
    optimizer, schedule = build_optimizer(model, "sgd", 0.1, 0.9, 0.0), Schedule(0.1, 1.0, 0.9, 10, 0, 0, 0)
    with pytest.raises(FloatingPointError) as error:
        train_epoch(model, group, Update(optimizer, schedule, ema, len(group)), CPU, first_step=3, keep=keep)
    return str(error.value)


class Overflows(Net):
    """The gradient of the output of `norm` is infinite, while outputs and losses are finite."""

    def forward(self, x, targets=None):
        return {"fit": self.norm(self.conv(x)).sum() + (self.norm.weight * 0).abs().sqrt().sum()}


class Root(Net):
    def forward(self, x, targets=None):
        y = self.norm(self.conv(x))
        return {"fit": ((y - y.detach()).square() + 0.0).sqrt().sum()}


class Steep(Net):
    """Gradients are finite, the squares of some are not."""

    def forward(self, x, targets=None):
        return {"fit": 1e25 * self.norm(self.conv(x)).sum()}


@pytest.mark.parametrize(
    "model, value, where",
    [
        (Net, float("inf"), "images 4, 5: its input is not finite"),
        (Net, 1e20, "images 2, 3, 4, 5: norm.running_var is not finite"),
        (Root, None, r"the gradient at the output of norm \(BatchNorm2d\) is not finite"),
        (Overflows, None, "the gradient of norm.weight is not finite"),
        (Steep, None, r"the gradient of norm.bias reaches [\d.]+e\+2\d, too much for a norm in float32"),
    ],
)
def test_the_first_place_is_named(model, value, where):
    said = one_step(model(), [batch([2, 3]), batch([4, 5], value)])
    assert re.search(where, said), said
    assert said.startswith("step 3: losses ") and "weights and BatchNorm statistics were not changed" in said


class Layers(nn.Module):
    """A layer of whose input on a rank the output is not finite; BatchNorm over ranks carries that to the others."""

    def __init__(self):
        super().__init__()
        self.first, self.large, self.norm = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        nn.init.constant_(self.large.weight, 1e30)

    def forward(self, x, targets):
        return {"fit": self.norm(self.large(self.first(x))).mean((1, 2, 3)).sum()}


def on_each(folder):
    distributed.start("cpu")
    torch.manual_seed(0)
    model = Layers()
    sync_batchnorm(model)
    rank = distributed.rank()
    x = batch([10 * rank + 1, 10 * rank + 2], 1e25 if rank else None)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    said = one_step(DistributedDataParallel(model), [x], Keeper(folder, {"precision": "fp32"}))
    distributed.stop()
    same = all(torch.equal(value, before[key]) for key, value in model.state_dict().items() if "num_" not in key)
    return said, same


def test_all_ranks_stop_and_name_the_one_where_it_began(tmp_path):
    ((first, same), _), ((second, unchanged), _) = on_two_ranks(tmp_path, on_each, tmp_path)
    assert first == second and same and unchanged
    assert "rank 1 of 2, images 11, 12: the output of large (Conv2d) is not finite" in first
    assert "largest input: 1e+25 in image 12" in first and "rank 0" not in first
    assert f"python -m tools.replay {tmp_path / 'nonfinite_rank1.pt'}" in first
    assert not (tmp_path / "nonfinite_rank0.pt").exists()
    content = torch.load(tmp_path / "nonfinite_rank1.pt", weights_only=True)
    assert content["batches"][0]["image_ids"] == [11, 12] and content["batches"][0]["x"].amax() == 1e25


@pytest.mark.parametrize("options", [[], ["data.args.sampling=sequential", "data.args.window_ms=100"]])
def test_a_step_is_run_again_from_its_file(tiny, tmp_path, capsys, options):
    with pytest.raises(FloatingPointError, match="tools.replay") as error:
        train.main([tiny, "optim.lr=1e30", "optim.warmup_epochs=0", "train.clip_norm=null", *options])
    folder = tmp_path / "runs" / "tiny"
    capsys.readouterr()
    where = replay.main([str(folder / "nonfinite_rank0.pt")])
    said = capsys.readouterr().out
    assert where and f"in the training: {where}\n" in said and f"now (fp32, cpu): {where}\n" in said
    assert where in str(error.value) and "batch 1: images [" in said and "losses: box " in said
    remove_written(folder)
    assert not (folder / "nonfinite_rank0.pt").exists()
