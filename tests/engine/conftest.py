"""A tiny world to train in: four short clips of synthetic scenes, and a config that points there."""

import pytest

from data.synthetic import generate_scenes


@pytest.fixture(scope="session")
def scenes(tmp_path_factory):
    root = tmp_path_factory.mktemp("scenes") / "tiny"
    return generate_scenes(root, train=3, val=4, test=2, seconds=1.25, width=96, height=64, train_label_hz=20)


@pytest.fixture
def tiny(scenes, tmp_path):
    """(config file, overrides) of a run of seconds."""
    config = tmp_path / "tiny.yaml"
    config.write_text(f"""
model: {{name: ems_resnet10_ee, T: 2, args: {{width: 0.125}}}}
data:
  name: gen1
  root: {scenes}
  augment: {{hflip: 0.5}}
  args: {{num_steps: "${{model.T}}", representation: {{name: counts, clip: 8}}}}
  workers: 0
optim: {{name: adamw, lr: 0.003, momentum: 0.9, warmup_epochs: 0.5}}
train: {{epochs: 3, batch_size: 4, clip_norm: 10.0, ema_decay: 0.9, ema_ramp: 10, log_every: 1}}
eval: {{protocol: coco, batch_size: 4}}
threads: 1
device: cpu
out: {tmp_path / "runs"}
""")
    return str(config)
