"""Runs of models with options: what does not fit the data is said before the training."""

import pytest
from untrained import EVENTS, IMAGES, parts, untrained_run

from engine.build import check_samples
from models.temporal_encoder import TemporalEncoder


def test_an_encoder_of_images_is_refused_for_events_before_the_training(scenes, tmp_path):
    model, loader, _ = parts(untrained_run(tmp_path / "events", scenes, EVENTS % "", args=", encoder: temporal"))
    with pytest.raises(ValueError, match="makes the steps of images .*, got events .*: leave model.args.encoder out"):
        check_samples(model, loader.dataset)
    model, loader, _ = parts(untrained_run(tmp_path / "images", scenes, IMAGES, args=", encoder: temporal"))
    assert isinstance(model.encoder, TemporalEncoder) and check_samples(model, loader.dataset) == []
