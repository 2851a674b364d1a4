"""train.fit_neurons: before the first step alone, the same on all processes, no effect on what follows."""

import pytest
import torch
from ranks import interrupted, on_two_ranks

import train
from engine.runs.checkpoint import load_checkpoint
from engine.training import network
from registry import UserError

FIT = ["train.epochs=2", "train.eval_every=2", "train.fit_neurons=1", "train.fit_target=[0.3, 0.2]"]


def weights(folder):
    return load_checkpoint(folder / "checkpoint_last.pt")["model"]


def test_a_resume_does_not_fit_again(tiny, capsys):
    whole = train.main([tiny, *FIT, "name=whole"])
    assert "inputs of 15 of 16 neurons fitted" in capsys.readouterr().out
    steps = load_checkpoint(whole / "checkpoint_last.pt")["steps_per_epoch"]
    with interrupted(steps + 1):
        train.main([tiny, *FIT, "name=parts"])
    capsys.readouterr()
    parts = train.main([tiny, *FIT, "name=parts", "--resume", "auto"])
    assert "fitted" not in capsys.readouterr().out
    assert all(torch.equal(weights(whole)[key], weights(parts)[key]) for key in weights(whole))


def parameters(config: str) -> dict[str, torch.Tensor]:
    """The parameters of this process before the first step."""
    kept = {}

    def keep(cfg, model, *rest):
        lines = fit(cfg, model, *rest)
        kept.update({key: p.detach().clone() for key, p in model.named_parameters()})
        return lines

    fit, network.fit_to_first_batches = network.fit_to_first_batches, keep
    with interrupted(1):
        train.main([config, *FIT])
    return kept


def test_all_processes_start_from_the_same_weights(tiny, tmp_path):
    (first, said), (second, nothing) = on_two_ranks(tmp_path, parameters, tiny)
    assert all(torch.equal(first[key], second[key]) for key in first) and len(first) > 50
    assert "neurons fitted" in said and "fitted" not in nothing


def test_an_unknown_target_names_its_key(tiny):
    with pytest.raises(UserError, match=r"^train.fit_target = 'tdbm': give"):
        train.main([tiny, "train.fit_target=tdbm"])
