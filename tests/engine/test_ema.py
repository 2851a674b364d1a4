"""Averages of the weights, and training without one."""

import math

import torch
from test_optim import net
from tiny_trainer import tiny_trainer

from engine.ema import build_ema
from engine.runs.checkpoint import load_checkpoint


def test_average_follows_its_formula_and_copies_counters():
    model = net()
    ema = build_ema(model, decay=0.9, ramp=2.0)
    expected = next(model.parameters()).detach().clone()
    for n in range(1, 5):
        with torch.no_grad():
            for p in model.parameters():
                p.fill_(float(n))
        model(torch.randn(2, 1, 5, 5))
        ema.update_parameters(model)
        d = 0.9 * (1 - math.exp(-n / 2.0))
        expected = d * expected + (1 - d) * n
        torch.testing.assert_close(next(ema.module.parameters()), expected)
    assert ema.module[1].num_batches_tracked == 4
    assert not torch.equal(ema.module[1].running_mean, model[1].running_mean)


def test_without_an_average_the_weights_themselves_are_evaluated():
    """They are the same tensors; mode and other attributes are apart, as are those of an average."""
    model = net()
    ema = build_ema(model, decay=0.0, ramp=2.0)
    assert ema.module is not model and ema.module.eval() is ema.module and model.training
    tensors = model.state_dict(keep_vars=True)
    assert tensors and all(v is tensors[name] for name, v in ema.module.state_dict(keep_vars=True).items())
    assert all(p.requires_grad for p in model.parameters())
    model(torch.randn(2, 1, 5, 5)).sum().backward()
    torch.optim.SGD(model.parameters(), 0.1).step()
    ema.update_parameters(model)
    assert int(ema.n_averaged) == 2 and torch.equal(ema.module[0].weight, model[0].weight)
    assert ema.module[1].num_batches_tracked == 1


def test_without_an_average_a_checkpoint_holds_the_weights_once(tmp_path):
    """And a resume continues bit for bit."""

    def trainer(folder, epochs):
        made = tiny_trainer(tmp_path / folder, epochs)
        made.update.ema = build_ema(made.model, 0.0, 2.0)
        return made

    whole = trainer("whole", 4)
    whole.fit()
    trainer("parts", 2).fit()
    parts = trainer("parts", 4)
    parts.resume(tmp_path / "parts" / "checkpoint_last.pt")
    parts.fit()
    one, other = (load_checkpoint(tmp_path / name / "checkpoint_last.pt") for name in ("whole", "parts"))
    assert all(torch.equal(value, other["model"][name]) for name, value in one["model"].items())
    assert one["ema"]["conv.weight"].data_ptr() == one["model"]["conv.weight"].data_ptr()
    assert one["best"] == other["best"] > 0
