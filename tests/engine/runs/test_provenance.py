"""Commit, versions, machine, date and command of a run, for any location of the code and any current folder."""

import json
import shutil
import subprocess
from datetime import datetime

import pytest
import torch

from engine.runs import provenance as module
from engine.runs.provenance import append_provenance, command_line, provenance


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A git checkout with one source file, in place of the project's; git(...) runs a command in it."""
    if shutil.which("git") is None:
        pytest.skip("need git")
    root = tmp_path.resolve() / "code"
    root.mkdir()

    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        done = subprocess.run(["git", *identity, *arguments], cwd=root, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    git("init", "-q")
    (root / "model.py").write_text("x = 1\n")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    monkeypatch.setattr(module, "ROOT", root)
    return root, git


def test_it_names_command_date_versions_and_machine():
    record = json.loads(json.dumps(provenance(["train.py", "my config.yaml", "seed=1"], torch.device("cpu"))))
    assert record["command"] == "train.py 'my config.yaml' seed=1"
    assert abs((datetime.now().astimezone() - datetime.fromisoformat(record["date"])).total_seconds()) < 3600
    assert record["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert {"python", "spikesight", "spikingjelly", "numpy"} <= set(record["versions"])
    assert record["machine"]["device"] == "cpu" and record["machine"]["threads"] == torch.get_num_threads()
    assert record["machine"]["cpu"] and record["machine"]["cores"] >= 1


def test_the_commit_is_that_of_the_code_not_of_the_current_folder(checkout, tmp_path, monkeypatch):
    root, git = checkout
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("GIT_DIR", str(elsewhere))  # as hooks set it
    record = provenance([])
    monkeypatch.delenv("GIT_DIR")
    assert record["commit"] == git("rev-parse", "HEAD") and record["dirty"] is False


def test_changed_and_new_sources_make_it_dirty_and_results_do_not(checkout):
    root, git = checkout
    (root / "notes.txt").write_text("nothing of the code")
    assert provenance([])["dirty"] is False
    (root / "neuron.py").write_text("y = 2\n")
    assert provenance([])["dirty"] is True
    (root / "neuron.py").unlink()
    (root / "model.py").write_text("x = 2\n")
    assert provenance([])["dirty"] is True


def test_without_a_checkout_of_its_own_there_is_no_commit(checkout, monkeypatch):
    root, _ = checkout
    (root / "lib").mkdir()
    monkeypatch.setattr(module, "ROOT", root / "lib")  # installed below someone else's checkout
    assert provenance([])["commit"] is None and provenance([])["dirty"] is None
    monkeypatch.setenv("PATH", "")  # no git at all
    assert provenance([])["commit"] is None


def test_each_start_of_a_run_is_one_line(tmp_path):
    for seed in (0, 1):
        append_provenance(tmp_path, provenance(command_line("train.py", [f"seed={seed}"])))
    lines = [json.loads(line) for line in (tmp_path / "provenance.jsonl").read_text().splitlines()]
    assert [line["command"] for line in lines] == ["train.py seed=0", "train.py seed=1"]
