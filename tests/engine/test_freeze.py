"""train.freeze: what is frozen keeps every bit, the rest trains, on one process and on two."""

import copy
import re

import pytest
import torch
from ranks import on_two_ranks
from test_wrap import toy
from torch import nn

import train
from engine.ema import build_ema
from engine.freeze import freeze
from engine.optim import build_optimizer
from engine.runs.checkpoint import load_checkpoint
from engine.wrap import wrap
from models.layers.running_statistics import frozen_norms
from registry import UserError

FROZEN = ["train.freeze=[backbone]", "train.epochs=1", "train.keep_every=1", "optim.weight_decay=0.1"]


def changed(folder, part="model"):
    """Names of tensors of the network that the training changed, in its backbone and elsewhere."""
    before, after = (load_checkpoint(folder / f"checkpoint_{n}.pt")[part] for n in ("epoch0", "last"))
    names = [name for name in before if not torch.equal(before[name], after[name])]
    frozen = ("network.stem", "network.stages")
    return [n for n in names if n.startswith(frozen)], [n for n in names if not n.startswith(frozen)]


def test_a_frozen_backbone_keeps_weights_and_statistics(tiny, run, capsys):
    """Also where neurons are fitted first, blocks are recomputed, and the weights are averaged."""
    options = ["train.fit_neurons=1", "train.checkpoint=true", f"train.init_from={run}", "name=frozen"]
    folder = train.main([tiny, *FROZEN, *options])
    said = capsys.readouterr().out
    assert re.search(r"train.freeze: [\d,]+ of 99,850 parameters, statistics of 13 BatchNorms", said)
    assert "are random" not in said
    for part in ("model", "ema"):
        inside, outside = changed(folder, part)
        assert inside == [] and any("running_mean" in n for n in outside) and "head.predict.0.weight" in outside
    start, trained = (load_checkpoint(p)["ema"] for p in (folder / "checkpoint_epoch0.pt", run / "checkpoint_best.pt"))
    assert all(torch.equal(v, trained[n]) for n, v in start.items() if n.startswith(("network.stem", "network.stages")))
    assert any(not torch.equal(v, trained[n]) for n, v in start.items() if "bn.weight" in n)  # fitted


def trained_on_a_rank(config):
    return changed(train.main([config, *FROZEN]))


def test_two_processes_with_a_frozen_backbone(tiny, tmp_path):
    (first, said), (second, _) = on_two_ranks(tmp_path, trained_on_a_rank, tiny)
    assert first == second and first[0] == [] and len(first[1]) > 20
    assert "warning: train.init_from is not set, so the frozen weights are random ones" in said


@pytest.mark.parametrize("compile", [False, True])
def test_frozen_blocks_with_compilation_and_without(compile, monkeypatch):
    real = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda self, **options: real(self, backend="aot_eager", **options))
    model = toy().train()
    freeze(model, ["0"])
    start = copy.deepcopy(model.state_dict())
    optimizer = build_optimizer(model, "sgd", 0.1, 0.9, 0.1)
    ema = build_ema(model, 0.9, 1.0)
    wrap(model, True, compile, torch.device("cpu"))
    for norm in frozen_norms(model):
        norm.eval()
    model(torch.rand(2, 2, 3, 8, 8)).square().sum().backward()
    optimizer.step()
    ema.update_parameters(model)
    after = model.state_dict()
    assert all(torch.equal(v, after[n]) for n, v in start.items() if n.startswith("0."))
    assert not torch.equal(start["1.0.conv.weight"], after["1.0.conv.weight"])
    assert all(p.grad is None for p in model[0].parameters())
    assert all(torch.equal(v, start[n]) for n, v in ema.module.state_dict().items() if n.startswith("0."))


def test_a_norm_with_one_trained_parameter_follows_its_statistics():
    model = toy()
    freeze(model, ["*.norm.weight"])
    assert frozen_norms(model) == []
    freeze(model, ["0.norm"])
    assert frozen_norms(model) == [model[0].norm]


def test_nothing_left_to_train_is_an_error():
    with pytest.raises(UserError, match=r"train.freeze = \['\*'\]: every parameter is frozen"):
        freeze(toy(), ["*"])
