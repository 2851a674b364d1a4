"""The commands that a new user follows, page by page and in their order, run on small data and narrow networks."""

import shutil
from pathlib import Path

import pytest
from pages import ROOT, blocks, commands, configs_shown, make_files

from data.scenes import generate_scenes
from engine.config import load_config

FOLLOWED = ["README.md", "docs/quickstart.md", "docs/own_data.md"]
NOT_RUN = {"--resume": "tests/engine/runs/test_resume.py interrupts a run", "pip": "internet", "CONFIG": "a pattern"}
SMALL = ["model.args.width=0.125", "data.size=[64,96]", "train.epochs=1", "train.batch_size=2", "train.accumulate=1"]
SMALL += ["eval.batch_size=2", "data.workers=0", "threads=1", "device=cpu", "optim.warmup_epochs=0.5"]
SCENES = "{train: 3, val: 4, test: 2, seconds: 1.25, width: 96, height: 64, train_label_hz: 20, workers: 1}"
ROOTS = {"voc": "BCCD_Dataset/BCCD", "yolo": "cells", "gen1": "gen1"}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with the configs, also those that pages show, photographs, a recording, and a folder as Gen1's."""
    folder = tmp_path_factory.mktemp("files")
    make_files(folder)
    generate_scenes(folder / "gen1", train=2, val=1, test=1, seconds=1.0, train_label_hz=4.0, dt_ms=16.0)
    shutil.copytree(ROOT / "configs", folder / "configs")
    for name, text in configs_shown().items():
        (folder / name).write_text(text)
    return folder


def shrunk(words: list[str], folder: Path) -> list[str]:
    """Program and arguments of a command, with what makes it small behind them. Of torchrun a single process."""
    if words[0] == "torchrun":  # tests/engine/test_launchers.py starts several
        words = ["python", *words[next(k for k, word in enumerate(words) if word.endswith(".py")) :]]
    program, rest = (words[1:3], words[3:]) if words[1] == "-m" else (words[1:2], words[2:])
    if program[-1] in ("train.py", "check.py", "data.check"):
        data = load_config(folder / rest[0], [word for word in rest[1:] if not word.startswith("--")]).data
        where = f"data.args.scenes={SCENES}" if data.name.startswith("scene") else f"data.root={ROOTS[data.name]}"
        rest = [*rest, *SMALL, where]
    return [*program, *rest]


@pytest.mark.parametrize("page", FOLLOWED)
def test_the_commands_of_a_page_run_in_their_order(page, files, command, monkeypatch):
    monkeypatch.chdir(files)
    for code in blocks(ROOT / page, "python")[: page == "docs/own_data.md"]:  # which makes the folder `cells`
        exec(code, {})
    ran = 0
    for words in commands(ROOT / page):
        if not NOT_RUN.keys() & set(words):
            done = command(*shrunk(words, files))
            assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout[-800:]}\n{done.stderr[-800:]}"
            ran += 1
    assert ran > 2
