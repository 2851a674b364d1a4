"""Stateful training and evaluation on sequential samples: each batch row carries its own state."""

import json

import pytest
import torch
from ranks import interrupted

import evaluate
import train
from data import create_dataset, eval_loader, train_loader
from data.sample import collate
from engine.ema import build_ema
from engine.evaluation import evaluate as evaluate_model
from engine.evaluation import predictor
from engine.loop import Update, stream_of, train_epoch
from engine.optim import Schedule, build_optimizer
from engine.runs.checkpoint import load_checkpoint
from models import create_model
from neurons import Stream
from scoring.evaluator import Evaluator


@pytest.fixture(scope="module")
def dataset(scenes):
    return create_dataset("gen1", "train", root=scenes, num_steps=2, sampling="sequential", window_ms=100)


@pytest.fixture
def model(dataset):
    torch.manual_seed(0)
    model = create_model("ems_resnet10_ee", num_classes=2, T=2, in_channels=2, width=0.25)
    for bias in (m.bias for m in model.head.modules() if isinstance(m, torch.nn.Conv2d)):
        torch.nn.init.constant_(bias, 0.0)  # objectness near one half, so that something is found
    return model


def detections(model, dataset, batch_size):
    evaluator = Evaluator(dataset.ground_truth(), dataset.expected_images)
    loader = eval_loader(dataset, batch_size)
    with predictor(model, loader) as predict:
        evaluate_model(predict, loader, [evaluator], torch.device("cpu"))
    return evaluator


def test_evaluation_carries_each_recording_whatever_the_batch_size(model, dataset):
    alone, together = (detections(model, dataset, size) for size in (1, 3))
    assert alone.seen_images == together.seen_images == len(dataset.ground_truth()["images"])
    a, b = ({i: rows for i, rows in e.state()} for e in (alone, together))
    assert sum(map(len, a.values())) > 0
    for image_id, rows in a.items():
        torch.testing.assert_close(torch.tensor(rows), torch.tensor(b[image_id]), atol=1e-3, rtol=1e-3)

    model.eval()
    sequence = dataset.sequences[1]
    with torch.inference_mode(), Stream(model):
        for index in sequence:
            carried = model(dataset[index].x.unsqueeze(1).float())[0]
    with torch.inference_mode():
        fresh = model(dataset[sequence[-1]].x.unsqueeze(1).float())[0]
    last = dataset[sequence[-1]]
    found = torch.tensor(a[last.image_id][:, 4])
    torch.testing.assert_close(found, carried["scores"].double(), atol=1e-6, rtol=0)
    assert carried["scores"].shape != fresh["scores"].shape or not torch.equal(carried["scores"], fresh["scores"])


def test_images_without_target_take_no_part_in_the_losses(model):
    x = torch.rand(2, 3, 2, 64, 96)
    known = {"boxes": torch.tensor([[8.0, 8, 40, 40]]), "labels": torch.tensor([1])}
    other = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    model.train()
    raw = model.raw(x)
    expected = model.head.loss([r[[0, 2]] for r in raw], [known, other], (64, 96))
    for norm in (m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)):
        norm.reset_running_stats()
    losses = model(x, [known, None, other])
    for key, value in expected.items():
        torch.testing.assert_close(losses[key], value)

    losses = model(x, [None] * 3)
    assert set(losses) == set(expected) and all(float(v.detach()) == 0 for v in losses.values())
    sum(losses.values()).backward()
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())


@pytest.mark.parametrize("asked", [[], [1], [0, 2], [0, 1, 2]])
def test_in_evaluation_only_what_is_asked_for_is_decoded(model, asked, monkeypatch):
    x = torch.rand(2, 3, 2, 64, 96)
    targets = [{} if i in asked else None for i in range(3)]
    model.eval()
    rows, decode = [], model.head.decode
    monkeypatch.setattr(model.head, "decode", lambda raw, size: rows.append(len(raw[0])) or decode(raw, size))
    with torch.no_grad():
        whole, some = model(x), model(x, targets)
    assert rows == [3, *([len(asked)] if asked else [])]
    for i in range(3):
        for key, value in some[i].items():
            torch.testing.assert_close(value, whole[i][key] if i in asked else whole[i][key][:0])


def test_a_step_without_any_label_changes_no_loss(model, dataset):
    silent = [i for i in range(len(dataset)) if not dataset[i].labelled][:2]
    batch = collate([dataset[i] for i in silent], 1.0)
    optimizer = build_optimizer(model, "sgd", 0.0, 0.9, 0.0)
    schedule = Schedule(0.0, 1.0, 0.9, 10, 0, 0.0, 0.0)
    losses = train_epoch(model, [batch], Update(optimizer, schedule, build_ema(model, 0.9, 1.0)), torch.device("cpu"))
    assert losses and all(v == 0 for v in losses.values())


def test_training_carries_the_state_and_resets_it_where_a_recording_starts(model, dataset):
    """The losses of each step are those of a model streamed by hand over the same rows."""
    batches = list(train_loader(dataset, 2, seed=0))
    assert any(b.starts.any() for b in batches[1:])
    optimizer = build_optimizer(model, "sgd", 0.0, 0.9, 0.0)
    schedule, ema = Schedule(0.0, 1.0, 0.9, 100, 0, 0.0, 0.0), build_ema(model, 0.9, 1.0)
    steps = []
    with stream_of(model, train_loader(dataset, 2, seed=0)) as stream:
        update = Update(optimizer, schedule, ema)
        train_epoch(model, batches, update, torch.device("cpu"), on_step=steps.append, stream=stream)
    model.train()
    with torch.no_grad(), Stream(model) as stream:
        expected = []
        for batch in batches:
            stream.reset(batch.starts)
            expected.append(sum(map(float, model(*batch.to("cpu")).values())))
    with torch.no_grad():
        fresh = [sum(map(float, model(*batch.to("cpu")).values())) for batch in batches]
    counts = [max(1, sum(t is not None for t in b.targets)) for b in batches]
    got = [sum(s.losses.values()) * n for s, n in zip(steps, counts, strict=True)]
    assert got == pytest.approx(expected, rel=1e-5)
    assert got != pytest.approx(fresh, rel=1e-3)


def test_a_whole_run_in_sequence(tiny):
    """The same digits from worker processes, and where it is interrupted within an epoch and resumed."""
    options = ["data.args.sampling=sequential", "train.epochs=2", "data.args.window_ms=100"]
    run = train.main([tiny, *options])
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert len(metrics) == 2 and metrics[-1]["val/AP50"] is not None
    keys = [key for key in metrics[0] if key.startswith(("loss", "val"))]
    content = load_checkpoint(run / "checkpoint_last.pt")
    with interrupted(content["steps_per_epoch"] + 2):
        train.main([tiny, *options, "data.workers=2", "name=parts"])
    parts = train.main([tiny, *options, "data.workers=2", "name=parts", "--resume"])
    other = [json.loads(line) for line in (parts / "metrics.jsonl").read_text().splitlines()]
    assert [[m[k] for k in keys] for m in metrics] == [[m[k] for k in keys] for m in other]
    resumed = load_checkpoint(parts / "checkpoint_last.pt")
    for part in ("model", "ema"):
        assert all(torch.equal(content[part][key], resumed[part][key]) for key in content[part])
    found = evaluate.main([str(run / "checkpoint_last.pt"), "--pictures", "1"])
    assert found["images"] == found["expected_images"] > 0
