"""A new neuron, model, head or dataset is one file: dropped into a copy of its room, it is there."""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent

FILES = {
    "neurons/leaky.py": '''
        """Leaky integrator without spikes."""
        import torch
        from .base import MultiStepNeuron
        from .registry import register_neuron

        @register_neuron("leaky")
        class Leaky(MultiStepNeuron):
            spiking = False

            def steps(self, x_seq):
                v, out = torch.zeros_like(x_seq[0]), []
                for x in x_seq:
                    v = 0.5 * v + x
                    out.append(v)
                return torch.stack(out)
    ''',
    "models/small.py": '''
        """One convolution."""
        from torch import nn
        from neurons import neuron_factory
        from .detector import Detector
        from .heads import build_head
        from .registry import register_model
        from .time import over_time

        class Small(nn.Module):
            def __init__(self, neuron):
                super().__init__()
                self.conv, self.neuron = nn.Conv2d(3, 8, 3, 16, 1), neuron()

            def forward(self, x):
                x = self.neuron(over_time(self.conv, x))
                return [x, x[..., ::2, ::2]]

        @register_model
        def small(num_classes=80, T=4, neuron="lif", head="anchor"):
            return Detector(Small(neuron_factory(neuron)), build_head(head, (8, 8), (16, 32), num_classes), T)
    ''',
    "data/nothing.py": '''
        """An empty dataset."""
        from .dataset import DetectionDataset
        from .registry import register_dataset

        @register_dataset("nothing")
        class Nothing(DetectionDataset):
            def __init__(self, split, *, root="."):
                self.split = split

            def __len__(self):
                return 0

            load = ground_truth = box_sizes = None
    ''',
}
USE = """
import torch
from data import create_dataset
from models import create_model
model = create_model("small", num_classes=2, T=3, neuron="leaky")
targets = [{"boxes": torch.tensor([[4.0, 4.0, 30.0, 30.0]]), "labels": torch.tensor([1])}]
sum(model(torch.rand(1, 3, 64, 64), targets).values()).backward()
assert model.network.conv.weight.grad.abs().sum() > 0
assert len(create_dataset("nothing", "train")) == 0
print("all there")
"""


def test_one_file_each(tmp_path):
    for room in ("neurons", "models", "data"):
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in FILES.items():
        lines = text.strip("\n").splitlines()
        indent = len(lines[0]) - len(lines[0].lstrip())
        (tmp_path / name).write_text("\n".join(line[indent:] for line in lines).strip() + "\n")
    (tmp_path / "use.py").write_text(USE)
    done = subprocess.run([sys.executable, "use.py"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and "all there" in done.stdout, done.stderr
