"""Options: arguments of `create_model` beside those of a model's function."""

import pytest
import torch
from test_detectors import build, targets

from models import create_model, has_sampler, list_models, model_defaults
from models.options.registry import OPTIONS, register_option

# Of models whose encoder makes the steps itself, not the encoder.
VALUES = {"encoder": "temporal", "memory": "leaky", "readout": "learned"}


@pytest.fixture
def bias(monkeypatch):
    """An option that adds `bias` to the logits' mean: here, to a number on the head."""
    monkeypatch.setattr("models.options.registry.OPTIONS", OPTIONS.copy())

    @register_option(None)
    def bias(model, value: float | None, arguments):
        model.head.extra = (value, arguments["num_classes"], arguments["T"])


def test_an_option_changes_a_model_built_by_its_family(bias):
    built = []
    for options in ({}, {"bias": None}, {"bias": 0.5}):
        torch.manual_seed(0)
        built.append(create_model("ems_resnet10_ee", num_classes=2, width=0.125, **options))
    assert not hasattr(built[0].head, "extra") and not hasattr(built[1].head, "extra")
    assert built[2].head.extra == (0.5, 2, model_defaults("ems_resnet10_ee")["T"])
    for key, value in built[0].state_dict().items():
        assert all(torch.equal(value, other.state_dict()[key]) for other in built[1:])


def test_options_are_arguments_of_every_model_but_not_of_its_function(bias):
    for name in list_models():
        assert "bias" not in model_defaults(name)
        with pytest.raises(
            ValueError, match=r"no argument 'biass', did you mean 'bias'\? It takes num_classes, .*bias"
        ):
            create_model(name, biass=1.0)
    with pytest.raises(ValueError, match="model 'ems_resnet10_ee': bias = 'much': give a number or null"):
        create_model("ems_resnet10_ee", num_classes=2, width=0.125, bias="much")


def test_a_name_is_registered_once(bias):
    def bias(model, value, arguments):
        pass

    with pytest.raises(AssertionError, match="an option 'bias' is registered already"):
        register_option(None)(bias)


@pytest.mark.parametrize("name", list_models())
def test_every_model_trains_every_parameter_with_all_options(name):
    values = {key: value for key, value in VALUES.items() if key != "encoder" or not has_sampler(name)}
    model = build(name, **values).train()
    losses = model(torch.rand(2, 3, 64, 64) * 4, targets())
    sum(losses.values()).backward()
    for key, p in model.named_parameters():
        assert not p.requires_grad or (p.grad is not None and p.grad.isfinite().all()), key
    of_options = [p for key, p in model.named_parameters() if "step_weights" in key or key.startswith("encoder.")]
    assert any(p.grad.any() for p in of_options)


def test_every_option_has_a_value_here():
    assert set(VALUES) == set(OPTIONS)
