"""Tiny training data: four short clips of synthetic scenes, a config that points there, and a run of it."""

import shutil
from pathlib import Path

import pytest

import train
from data.scenes import generate_scenes

CONFIG = """
model: {{name: ems_resnet10_ee, T: 2, args: {{width: 0.125}}}}
data:
  name: gen1
  root: {scenes}
  augment: {{hflip: 0.5}}
  args: {{representation: {{name: counts, clip: 8}}}}
  workers: 0
optim: {{name: adamw, lr: 0.003, momentum: 0.9, warmup_epochs: 0.5}}
train: {{epochs: 3, batch_size: 4, clip_norm: 10.0, ema_decay: 0.9, ema_ramp: 10, log_every: 1}}
eval: {{protocol: coco, batch_size: 4}}
threads: 1
device: cpu
out: {out}
"""


@pytest.fixture(scope="session")
def scenes(tmp_path_factory):
    root = tmp_path_factory.mktemp("scenes") / "tiny"
    return generate_scenes(root, train=3, val=4, test=2, seconds=1.25, width=96, height=64, train_label_hz=20)


def config_in(folder: Path, scenes: Path) -> str:
    (folder / "tiny.yaml").write_text(CONFIG.format(scenes=scenes, out=folder / "runs"))
    return str(folder / "tiny.yaml")


@pytest.fixture
def tiny(scenes, tmp_path) -> str:
    """The config file of a run of seconds."""
    return config_in(tmp_path, scenes)


@pytest.fixture(scope="session")
def trained(scenes, tmp_path_factory) -> Path:
    """The run folder of `tiny`, trained once and only read; `run` is a copy to work on."""
    return train.main([config_in(tmp_path_factory.mktemp("trained"), scenes)])


@pytest.fixture
def run(trained, tiny, tmp_path) -> Path:
    """What `train.main([tiny])` leaves."""
    folder = tmp_path / "runs" / "tiny"
    shutil.copytree(trained, folder)
    for name in ("config.yaml", "provenance.jsonl"):
        text = (folder / name).read_text()
        (folder / name).write_text(text.replace(str(trained.parents[1]), str(tmp_path)))
    return folder
