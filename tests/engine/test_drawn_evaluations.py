"""Images in TensorBoard after about 20 evaluations, however long a training is."""

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_trainer import tiny_trainer

from engine import validation
from engine.validation import Validation


@pytest.mark.parametrize("epochs", [1, 7, 20, 21, 300])
@pytest.mark.parametrize("every", [1, 4, 30])
def test_evaluations_that_draw_are_spread_over_the_training(epochs, every):
    of = Validation(None, None, "coco", None, every=every)
    evaluated = [e for e in range(1, epochs + 1) if e % every == 0 or e == epochs]
    drawn = [e for e in evaluated if of.draws_after(e, epochs)]
    assert drawn[0] == evaluated[0] and drawn[-1] == epochs and len(drawn) <= 21
    if len(evaluated) <= 20:
        assert drawn == evaluated
    else:
        assert max(b - a for a, b in zip(drawn, drawn[1:], strict=False)) <= epochs / 20 + 2 * every


def test_the_others_log_scores_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(validation, "DRAWN", 2)
    image = torch.zeros(3, 8, 8, dtype=torch.uint8)
    tiny_trainer(tmp_path, epochs=6, draw=lambda evaluator: [image]).fit()
    board = EventAccumulator(str(tmp_path)).Reload()
    assert [event.step for event in board.Images("val_pictures/0")] == [1, 5, 11]  # after epochs 1, 3 and 6 of 6
    assert len(board.Scalars("val/AP")) == 6
