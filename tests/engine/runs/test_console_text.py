"""Console texts of a training: model, steps, expected time."""

import pytest

from engine.runs.console_text import ExpectedTime, duration, model_text, spec_text, steps_text


def test_what_differs_from_the_model_by_itself():
    own = {"neuron": {"name": "ilif", "D": 4}, "head": "dfl", "T": 1}
    assert model_text(own, own) == "neuron ilif (D=4), head dfl, T=1"
    changed = model_text({"neuron": "relu", "head": "dfl", "T": 5}, own)
    assert changed == "neuron relu (the model's own: ilif (D=4)), head dfl, T=5 (the model's own: 1)"
    assert model_text({"T": 2}, {"T": 2}) == "neuron of the model, head of the model, T=2"


def test_neurons_and_heads_in_words():
    assert spec_text("lif") == "lif" and spec_text({"name": "lif"}) == "lif" and spec_text(None) == "of the model"
    assert spec_text({"name": "ilif", "D": 4, "backend": "torch"}) == "ilif (D=4, backend=torch)"


def test_steps_in_words():
    line = "3 steps an epoch, of 16 samples, the last batch of 8; 300 epochs, 900 steps in all"
    assert steps_text(40, 16, 1, 300) == line
    assert steps_text(32, 16, 1, 3) == "2 steps an epoch, of 16 samples; 3 epochs, 6 steps in all"
    assert steps_text(10, 16, 1, 1).startswith("1 step an epoch, of 16 samples, the last batch of 10")
    assert steps_text(64, 16, 2, 1, processes=8).startswith("2 steps an epoch, of 8 x 16 x 2 samples;")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(4.4, "4 s"), (89, "89 s"), (600, "10 min"), (12000, "3 h 20 min"), (86400 * 9 + 3600 * 4, "9 d 4 h")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_the_expected_time_is_told_once_and_without_the_first_step():
    expected = ExpectedTime(first_step=0, steps=111)
    lines = [expected.step(step, 99.0 if step == 0 else 0.5) for step in range(111)]
    assert lines[10] == "0.5 s a step: about 50 s for the 100 steps left, and validation"
    assert [line for line in lines if line] == [lines[10]]


def test_slow_steps_are_not_waited_for():
    expected = ExpectedTime(first_step=7, steps=100)
    assert not expected.step(7, 300.0)
    assert expected.step(8, 60.0) == "60 s a step: about 1 h 31 min for the 91 steps left, and validation"


def test_the_time_left_after_an_epoch():
    assert ExpectedTime.left([90.0, 30.0, 40.0], 10) == "  about 6 min left" and ExpectedTime.left([9.0], 0) == ""
    assert ExpectedTime.left([90.0], 2) == "  about 3 min left"
