"""Golden files; tiny data; how many checks were skipped and why; one thread, no compilation unless a test asks."""

import os
import runpy
import signal
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from data.scenes import generate_scenes
from neurons.multistep import backends

TESTS = Path(__file__).parent
ROOT = TESTS.parent

torch.set_num_threads(1)
backends.SMALL = 1 << 40
# Under nohup, or in the background of a script, they are ignored, here and in processes that tests start.
for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)


class Golden:
    """Numbers computed with published code, in tests/golden, whose README says what each is."""

    folder = TESTS / "golden"

    def __call__(self, name: str) -> dict[str, torch.Tensor]:
        """golden("ems_neuron_lif") -> {array name: tensor}."""
        with np.load(self.folder / f"{name}.npz", allow_pickle=False) as file:
            return {key: torch.from_numpy(file[key]) for key in file.files}

    def grad_output(self, y: torch.Tensor) -> torch.Tensor:
        """The gradient that was put into every output of this shape."""
        return self("grad_outputs")["x".join(map(str, y.shape))]

    @staticmethod
    def stored(x: torch.Tensor) -> torch.Tensor:
        """What the file of a block keeps of an output or a gradient: above 4096 values every 17th."""
        return x.flatten()[::17] if x.numel() > 4096 else x


TINY = """
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
def golden() -> Golden:
    return Golden()


@pytest.fixture(scope="session")
def shared():
    """shared("samples/NAME") -> that path below $SPIKESIGHT_SHARED, of what cannot be shipped, or skips."""
    root = Path(os.environ.get("SPIKESIGHT_SHARED") or ROOT.parent / "shared")

    def find(name: str) -> Path:
        if not (root / name).exists():
            pytest.skip("need files that are not shipped (SPIKESIGHT_SHARED)")
        return root / name

    return find


@pytest.fixture(scope="session")
def whole_network(shared):
    """whole_network("eas_model_NAME") -> (arrays, weights under the published names) of a file that stores weights as
    float16, or as int8 with one float32 scale each, both exactly."""

    def load(name: str) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        with np.load(shared(f"golden/{name}.npz"), allow_pickle=False) as file:
            g = {key: torch.from_numpy(file[key]) for key in file.files}
        weights = {key[2:]: v.float() if v.is_floating_point() else v for key, v in g.items() if key.startswith("w.")}
        weights |= {key[3:]: v.float() * g[f"scale.{key[3:]}"] for key, v in g.items() if key.startswith("q8.")}
        return g, weights

    return load


@pytest.fixture(scope="session")
def scenes(tmp_path_factory):
    root = tmp_path_factory.mktemp("scenes") / "tiny"
    return generate_scenes(root, train=3, val=4, test=2, seconds=1.25, width=96, height=64, train_label_hz=20)


@pytest.fixture(scope="session")
def config_in(scenes) -> Callable[[Path], str]:
    """folder -> path of a config in it, of a run of seconds on `scenes`, whose run folders are made beside it."""

    def write(folder: Path) -> str:
        (folder / "tiny.yaml").write_text(TINY.format(scenes=scenes, out=folder / "runs"))
        return str(folder / "tiny.yaml")

    return write


@pytest.fixture
def command(capsys, monkeypatch):
    """command("train.py", CONFIG, ...) or command("-m", "data.check", ...): what that program, run in this process,
    returns and prints, without the seconds that a process takes to import torch."""

    def run(*words: str) -> subprocess.CompletedProcess:
        name, *arguments = words[1:] if words[0] == "-m" else words
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)}
        capsys.readouterr()
        code = 0
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # runpy's, of a module that is imported already
                if words[0] == "-m":
                    runpy.run_module(name, run_name="__main__")
                else:
                    runpy.run_path(str(ROOT / name), run_name="__main__")
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
            if isinstance(end.code, str):
                print(end.code, file=sys.stderr)
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        return subprocess.CompletedProcess(words, code, *capsys.readouterr())

    return run


def pytest_terminal_summary(terminalreporter):
    """Says how many checks were skipped, by reason."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = Counter(report.longrepr[2].removeprefix("Skipped: ") for report in skipped)
    if reasons:
        counts = ", ".join(f"{n} {reason}" for reason, n in reasons.most_common())
        terminalreporter.write_line(f"{sum(reasons.values())} checks skipped: {counts}")
