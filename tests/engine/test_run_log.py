"""What TensorBoard is given: points of short runs too, and groups that open on the losses."""

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from engine.loop import Step
from engine.run_log import RunLog


def test_the_first_steps_are_all_points_and_then_every_so_many(tmp_path):
    log = RunLog(tmp_path, log_every=5)
    for step in range(13):
        log.step(Step(step=step, losses={"box": 1.0}, lr=0.1, grad_norm=1.0, step_time=0.1, data_time=0.1))
    log.firing_rates({f"layer{i}": 0.1 for i in range(16)}, 12)
    log.pictures([torch.zeros(3, 8, 8, dtype=torch.uint8)], 12)
    log.epoch({"epoch": 0, "step": 12, "val/AP": 0.5})
    log.close()
    board = EventAccumulator(str(tmp_path)).Reload()
    assert [event.step for event in board.Scalars("loss/total")] == [0, 1, 2, 3, 4, 5, 10]
    groups = sorted({tag.split("/")[0] for tag in board.Tags()["scalars"] + board.Tags()["images"]})
    assert groups == ["loss", "optim", "time", "val", "val_firing_rate", "val_pictures"]  # of which it opens two
