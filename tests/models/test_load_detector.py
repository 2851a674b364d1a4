"""load_detector: a trained detector of a checkpoint or a run folder, with its names and its input of the training."""

import pytest
import torch

from data import input_from_plain
from data.images.input import ImageInput
from engine.runs import open_run
from engine.runs.checkpoint import save_checkpoint
from models import create_model, load_detector

KWARGS = {"name": "ems_resnet10_ee", "num_classes": 2, "T": 2, "width": 0.125}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder: `last` has other weights than `best`, and other last than averaged ones."""
    folder = tmp_path_factory.mktemp("run")
    for name in ("last", "best"):
        weights = {key: create_model(**KWARGS).state_dict() for key in ("model", "ema")}
        content = {"model_kwargs": KWARGS, "config": {}, "class_names": ["cat", "dog"], **weights}
        content |= {"input": ImageInput([64, 96]).to_plain()} if name == "best" else {}
        save_checkpoint(folder / f"checkpoint_{name}.pt", content)
    return folder


@pytest.mark.parametrize("weights", ["ema", "model"])
def test_a_run_folder_gives_the_detector_that_open_run_gives(run, weights):
    model, opened = load_detector(run, weights), open_run(run / "checkpoint_best.pt", weights)
    assert not model.training and model.class_names == opened.class_names == ["cat", "dog"]
    x = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        pairs = list(
            zip(model.raw(x), opened.model.raw(x), load_detector(run / "checkpoint_last.pt").raw(x), strict=True)
        )
    assert all(torch.equal(a, b) and not torch.equal(a, other) for a, b, other in pairs)


def test_its_input_prepares_an_image_as_in_the_training(run):
    prepare = input_from_plain(load_detector(run).input)
    image = torch.randint(0, 255, (48, 50, 3), dtype=torch.uint8).numpy()
    assert torch.equal(prepare(image)[0], ImageInput([64, 96])(image)[0])
    with pytest.raises(ValueError, match="input of a checkpoint: is missing, as in checkpoints of earlier versions"):
        input_from_plain(load_detector(run / "checkpoint_last.pt").input)


def test_what_does_not_load_is_named(run, tmp_path):
    with pytest.raises(ValueError, match="no checkpoint in this folder"):
        load_detector(tmp_path)
    with pytest.raises(ValueError, match="weights = 'best': give 'ema'"):
        load_detector(run, "best")
    save_checkpoint(tmp_path / "c.pt", {"model_kwargs": {"name": "ems_resnet18x"}})
    with pytest.raises(ValueError, match=r"c\.pt: its model cannot be built from model_kwargs: .*ems_resnet18"):
        load_detector(tmp_path / "c.pt")
