"""Training overfits four event samples: families, heads, and one as its ANN twin."""

import pytest
import torch

from data import create_dataset
from data.sample import collate
from data.scenes import generate_scenes
from engine.evaluation import evaluate
from models import create_model
from scoring.evaluator import Evaluator


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return generate_scenes(
        tmp_path_factory.mktemp("scenes") / "four", train=4, val=0, test=0, seconds=0.5, width=160, height=128,
        train_label_hz=2,
    )  # fmt: skip


@pytest.mark.parametrize(
    "name, head, neuron, width, T, steps, lr",
    [
        ("ems_resnet10_ee", "anchor", "lif", 0.25, 2, 80, 6e-3),
        ("ems_resnet10_ee", "anchor", "relu", 0.25, 2, 80, 6e-3),
        ("ems_resnet10_ee", "yolox", "lif", 0.25, 2, 80, 6e-3),
        ("spikeyolo_n", "dfl", "ilif", 0.15, 1, 120, 3e-3),
    ],
)
def test_overfits_four_samples(scenes, name, head, neuron, width, T, steps, lr):
    four = create_dataset("gen1", "train", root=scenes, num_steps=T, representation={"name": "counts", "clip": 8})
    torch.manual_seed(0)
    batch = collate([four[i] for i in range(len(four))], four.scale)
    assert sum(len(t["labels"]) for t in batch.targets) >= 4
    model = create_model(name, num_classes=2, T=T, neuron=neuron, head=head, in_channels=2, width=width).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    # Without the decay, whether it is done yet depends on the rounding of one torch or another.
    decay = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (steps - step) / (steps / 2)))
    x, targets = batch.to("cpu")
    for _ in range(steps):
        optimizer.zero_grad()
        sum(model(x, targets).values()).backward()
        optimizer.step()
        decay.step()
    evaluator = Evaluator(four.ground_truth())
    model.eval()
    evaluate(lambda x, batch: [model(x)], [batch], [evaluator], torch.device("cpu"))
    scores = evaluator.score("coco")
    assert scores["AP50"] > 0.9 and scores["AP"] > 0.6, scores
