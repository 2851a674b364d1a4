"""Every Gen1 recipe from raw recordings to an AP, at a fraction of its width and otherwise unchanged."""

import json
import math
from pathlib import Path

import pytest
import torch

import evaluate
import train
from data.scenes import generate_scenes
from engine.config import load_config
from models import create_model
from scoring.protocols import get_protocol

ROOT = Path(__file__).parent.parent
RECIPES = sorted((ROOT / "configs" / "gen1").glob("*.yaml"))


@pytest.fixture(scope="module")
def gen1(tmp_path_factory):
    """A small folder as Gen1's: 304x240, labels each 250 ms less 1 us, the old field order."""
    root = tmp_path_factory.mktemp("gen1") / "gen1"
    return generate_scenes(root, train=1, val=1, test=1, seconds=1.0, train_label_hz=4.0, dt_ms=16.0)


def test_the_published_recipe_weighs_objectness_as_the_published_code_does():
    """By 3 / 2 levels, and by (640 / 640)^2 although its frames are 320 x 320."""
    cfg = load_config(ROOT / "configs/gen1/ems_resnet18_ee_published.yaml")
    head = create_model(cfg.model.name, num_classes=2, head=dict(cfg.model.head), width=0.125).head
    raw = [torch.zeros(1, 3, side, side, 7) for side in (20, 10)]  # of 320 x 320
    target = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    unweighted = sum(balance * math.log(2) for balance in (4.0, 1.0))
    assert head.loss(raw, [target], (320, 320))["objectness"].item() == pytest.approx(1.5 * unweighted)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_from_raw_files_to_an_ap(recipe, gen1, tmp_path):
    shrunk = [
        "model.args={width: 0.125}",
        "train.epochs=1",
        "train.batch_size=2",
        "train.accumulate=1",
        "optim.warmup_epochs=0.5",
    ]
    where = [f"data.root={gen1}", f"out={tmp_path}", "data.workers=0", "device=cpu", "threads=1", "eval.batch_size=2"]
    run = train.main([str(recipe), *where, *shrunk])
    metrics = evaluate.main([str(run / "checkpoint_last.pt"), "--pictures", "1"])
    folder = run / "eval" / f"{metrics['split']}_{metrics['protocol']}_last"
    assert metrics == json.loads((folder / "metrics.json").read_text())
    assert metrics["images"] == metrics["expected_images"] > 0 and metrics["clips"] > 0
    assert metrics["rule"] == get_protocol(metrics["protocol"]).rule
    assert 0 <= metrics["AP"] <= 1 and metrics["T"] > 1
    assert (folder / "pictures" / "image_1.png").stat().st_size > 1000
    detections = ["--detections", str(folder / "detections.json")]
    other = evaluate.main([str(run / "checkpoint_last.pt"), *detections, "--protocol", "prophesee"])
    assert other["protocol"] == "prophesee" and 0 < other["evaluated_images"] <= other["images"]
