"""What TensorBoard costs: the share of a training, and that it can be measured."""

import re

import pytest

from tools.benchmark.tensorboard import Cost, measure


def test_the_share_of_a_training():
    cost = Cost(step=1.0, step_more=0.01, evaluation=10.0, light_more=0.5, drawn_more=2.0)
    assert cost.share(steps=100, evaluations=10, drawn=5) == pytest.approx((1 + 5 + 10) / 200)


def test_steps_and_evaluations_are_measured(config_in, tmp_path):
    text = measure(config_in(tmp_path), ["train.epochs=50", "train.eval_every=2"], steps=1)
    assert re.match(r"a step: [\d.]+ ms, \+[\d.]+ ms with TensorBoard\nan evaluation: \d+ ms, [+-]\d+ ms", text)
    assert "50 epochs: 300 steps, 25 evaluations, " in text and not (tmp_path / "runs").exists()
