"""A run folder of a detector that was never trained, but finds much, at random."""

from functools import partial
from pathlib import Path

import torch

from data import create_dataset, eval_loader
from engine.config import config_from_plain, config_to_plain, dataset_kwargs, load_config, model_kwargs
from engine.runs.checkpoint import save_checkpoint
from engine.runs.open import open_run
from models import create_model
from scoring.evaluator import Evaluator

CONFIG = """
model: {{name: {model}, T: {T}, head: {head}, neuron: {neuron}, args: {{width: 0.125{args}}}}}
data: {{root: {root}, size: [64, 96], workers: 0, {data}}}
eval: {{protocol: {protocol}, batch_size: 4}}
threads: 1
device: cpu
"""
EVENTS = "name: gen1, args: {representation: {name: counts, clip: 8}%s}"
IMAGES = "name: scene_images, args: {scenes: {train: 3, val: 4, test: 2, seconds: 1.25, width: 96, height: 64}}"


def untrained_run(
    folder: Path, scenes: Path, data=EVENTS % "", model="ems_resnet10_ee", head="anchor", neuron="lif",
    protocol="prophesee", precision="fp32", args="", T=2,
) -> Path:  # fmt: skip
    """`folder` with the checkpoints best and last of a detector for `data`, whose files are in `scenes`.

    args: more of model.args, after a comma."""
    folder.mkdir(exist_ok=True)
    of_model = {"model": model, "head": head, "neuron": neuron, "args": args, "T": T}
    text = CONFIG.format(**of_model, root=scenes, data=data, protocol=protocol)
    (folder / "config.yaml").write_text(text)
    cfg = load_config(folder / "config.yaml", [f"train.precision={precision}"])
    name, kwargs = dataset_kwargs(cfg)
    dataset = create_dataset(name, "test", **kwargs)
    torch.manual_seed(0)
    kwargs = model_kwargs(cfg, len(dataset.class_names), dataset.channels)
    detector = create_model(**kwargs)
    with torch.no_grad():
        for name, bias in detector.head.named_parameters():
            if name.endswith("bias"):
                bias.zero_()  # probabilities near one half
        for norm in (m for m in detector.modules() if isinstance(m, torch.nn.BatchNorm2d)):
            norm.bias.fill_(0.6)  # neurons fire
    weights = detector.state_dict()
    for k, file in enumerate(("checkpoint_best.pt", "checkpoint_last.pt")):
        identity = {"config": config_to_plain(cfg), "model_kwargs": kwargs, "class_names": dataset.class_names}
        identity["input"] = dataset.input.to_plain()
        save_checkpoint(folder / file, {**identity, "model": weights, "ema": weights, "epoch": k + 1})
    return folder


def parts(run, split="test"):
    """Detector, loader of two images a batch, and evaluators of a run."""
    opened = open_run(run)
    name, kwargs = dataset_kwargs(config_from_plain(opened.config))
    dataset = create_dataset(name, split, **kwargs)
    return opened.model, eval_loader(dataset, 2), partial(Evaluator, dataset.ground_truth())
