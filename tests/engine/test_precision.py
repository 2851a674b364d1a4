"""float16: losses are scaled, steps that overflow are skipped, and a resume continues with the scale. Every family in
bfloat16 and float16."""

import json
import math

import pytest
import torch
from test_loop import Toy, batches
from tiny_trainer import tiny_trainer

from engine.ema import build_ema
from engine.loop import Update, train_epoch
from engine.optim import Schedule
from engine.precision import SMALLEST_SCALE, LossScaler, autocast, loss_scaler
from engine.trainer import Trainer
from engine.wrap import Execution

CPU = torch.device("cpu")


class Overflows(Toy):
    """Its gradient is infinite where the loss is scaled by more than `limit`, as that of float16 would be."""

    def __init__(self, limit):
        super().__init__()
        self.w.register_hook(lambda grad: grad if grad.abs().max() < limit else grad * math.inf)


def run(model, values, scaler):
    steps = []
    optimizer = torch.optim.SGD([{"params": model.parameters(), "role": "weight"}], lr=0.1)
    update = Update(optimizer, Schedule(0.1, 1.0, 0.0, 10, 0, 0.0, 0.0), build_ema(model, 0.9, 1.0), scaler=scaler)
    train_epoch(model, batches(values, 1), update, CPU, on_step=lambda step: steps.append(model.w.item()))
    return steps, update


def test_unknown_precision():
    with pytest.raises(ValueError, match="fp32.*bf16.*fp16.*got 'fp8'"):
        autocast(CPU, "fp8")
    assert loss_scaler(CPU, "bf16") is None


def test_a_scaled_loss_gives_the_same_steps():
    expected, _ = run(Toy(), [0.1, 0.2, 0.3], None)
    found, update = run(Toy(), [0.1, 0.2, 0.3], LossScaler(CPU))
    assert found == pytest.approx(expected, rel=1e-6) and update.scaler.skipped == 0


def test_steps_that_overflow_are_skipped_and_counted():
    scaler = LossScaler(CPU)
    steps, update = run(Overflows(40000.0), [1.0] * 4, scaler)  # the gradient is -1
    assert steps[0] == 0.5 != steps[1] and scaler.skipped == 1 and scaler.scale == 2.0**15
    assert int(update.ema.n_averaged) == 1 + 3  # the average is not updated by a step that was not taken


def test_gradients_that_no_scale_makes_finite_are_an_error():
    scaler = LossScaler(CPU)
    with pytest.raises(FloatingPointError, match=r"First non-finite gradients: \['w'\]"):
        run(Overflows(0.0), [1.0] * 99, scaler)
    assert scaler.skipped == math.log2(65536 / SMALLEST_SCALE) and scaler.scale == SMALLEST_SCALE / 2


def fp16(folder, **kwargs) -> Trainer:
    trainer = tiny_trainer(folder, execution=Execution(CPU, "fp16"), **kwargs)
    trainer.update.scaler = LossScaler(CPU)
    trainer.update.scaler._scaler.set_growth_interval(3)  # steps; so that the scale changes within an epoch
    return trainer


def test_a_resume_continues_with_the_scale(tmp_path):
    whole = fp16(tmp_path / "whole")
    whole.fit()
    first = fp16(tmp_path / "parts")
    first.epochs = 2
    first.fit()
    second = fp16(tmp_path / "parts")
    second.resume(tmp_path / "parts" / "checkpoint_last.pt")
    second.fit()
    assert second.update.scaler.state_dict() == whole.update.scaler.state_dict() != LossScaler(CPU).state_dict()
    for a, b in zip(whole.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(a, b)
    records = [json.loads(line) for line in (tmp_path / "parts" / "metrics.jsonl").read_text().splitlines()]
    assert [r["loss_scale"] for r in records] == [r["loss_scale"] for r in whole.history]
    assert all(r["peak_gib"] > 0 and r["skipped_steps"] == whole.update.scaler.skipped for r in records[-1:])
