"""Run folders: names of one path component, removal of what a run wrote and nothing else, one training in each."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import train
from engine import trainer
from engine.config import config_to_plain, load_config
from engine.runs.files import EVALUATED, MARKER, WRITTEN, run_name
from engine.runs.folder import check_new_run, discarded_without_checkpoint, new_run_folder
from engine.runs.lock import RunLock, owner

ROOT = Path(__file__).parents[3]
HOLD = """
import sys, time
from pathlib import Path
from engine.runs.lock import RunLock
lock = RunLock(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def held():
    """Start a process that holds the lock of a folder."""
    processes = []

    def start(folder: Path) -> subprocess.Popen:
        process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], cwd=ROOT, stdout=subprocess.PIPE)
        processes.append(process)
        assert process.stdout.readline() == b"held\n"
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


def fill(folder: Path) -> None:
    """Everything that trainings and evaluations write."""
    evaluations = "eval/test_coco_best", "eval/test_coco_best/detections_test_raw", "scores"
    below = [f"{evaluation}/{name}" for evaluation in evaluations for name in EVALUATED]
    for pattern in (*WRITTEN, *EVALUATED, *below):
        path = folder / pattern.replace("*_[0-9]*", "image_7").replace("[0-9]*", "7").replace("*", "x")
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.name != MARKER:
            path.write_text("x")
    for evaluation in evaluations:
        (folder / evaluation / "metrics.json").write_text(json.dumps({"request": {}}))


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../precious", "a/b", "/tmp/x", "a\\b", "two\nlines", "a\tb", " a", "\udc80", "x" * 201, "é" * 101],
)
def test_a_name_is_one_path_component(tmp_path, name):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "config.yaml").write_text("name: mine")
    for overwrite in (False, True):
        for make in (check_new_run, new_run_folder):
            with pytest.raises(ValueError, match="^name = "):
                make(str(tmp_path / "runs"), name, overwrite)
    assert (precious / "config.yaml").exists() and not (tmp_path / "runs").exists()


def test_names_with_marks_are_names(tmp_path):
    for name in ("a[1]", "a*", "x" * 200, "ü.v2", "-1", "..."):
        folder = new_run_folder(str(tmp_path), name)
        assert folder == tmp_path / name and run_name(folder) == name
        assert new_run_folder(str(tmp_path), name).name == f"{name}-2"


def test_overwriting_removes_what_a_run_wrote_and_nothing_else(tmp_path):
    folder = new_run_folder(str(tmp_path), "a")
    fill(folder)
    mine = ["notes.txt", "checkpoint_mine.pt", "pictures/mine.png", "backup/metrics.json", "scores/mine.txt"]
    mine += ["eval/test_coco_best/pictures/mine.png"]
    for name in mine:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("mine")
    assert new_run_folder(str(tmp_path), "a", overwrite=True) == folder
    left = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert left == {*mine, MARKER, ".lock"}


def test_overwriting_leaves_an_empty_folder_where_nothing_else_lies_there(tmp_path):
    folder = new_run_folder(str(tmp_path), "a")
    fill(folder)
    new_run_folder(str(tmp_path), "a", overwrite=True)
    assert {path.name for path in folder.iterdir()} == {MARKER, ".lock"}


def test_links_in_a_run_are_not_followed(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "image_1.png").write_text("mine")
    (outside / "weights.pt").write_text("mine")
    folder = new_run_folder(str(tmp_path / "runs"), "a")
    (folder / "pictures").symlink_to(outside)
    (folder / "checkpoint_best.pt").symlink_to(outside / "weights.pt")
    (folder / "elsewhere").symlink_to(outside)
    (outside / "metrics.json").write_text(json.dumps({"request": {}}))
    new_run_folder(str(tmp_path / "runs"), "a", overwrite=True)
    assert {path.name for path in outside.iterdir()} == {"image_1.png", "weights.pt", "metrics.json"}
    assert not (folder / "checkpoint_best.pt").is_symlink()


@pytest.mark.parametrize("files", [["notes.txt"], ["config.yaml"], ["config.yaml", "metrics.jsonl"]])
def test_what_is_no_run_is_not_overwritten(tmp_path, files):
    for name in files:
        (tmp_path / "a").mkdir(exist_ok=True)
        (tmp_path / "a" / name).write_text("model: {}\nname: a\n" if name == "config.yaml" else "x")
    for make in (check_new_run, new_run_folder):
        with pytest.raises(ValueError, match="a: not overwritten, it is no run's folder; choose another name"):
            make(str(tmp_path), "a", True)
    assert {path.name for path in (tmp_path / "a").iterdir()} == set(files)


def test_runs_from_before_markers_are_known(tmp_path):
    """By a config.yaml with the sections of ours, and logs beside it."""
    folder = tmp_path / "old-2"
    folder.mkdir()
    plain = config_to_plain(load_config("configs/demo.yaml", ["name=old"]))
    (folder / "config.yaml").write_text(json.dumps(plain))
    assert run_name(folder) is None
    (folder / "metrics.jsonl").touch()
    assert run_name(folder) == "old"
    assert new_run_folder(str(tmp_path), "old-2", overwrite=True) == folder and not (folder / "metrics.jsonl").exists()


@pytest.mark.parametrize("out", ["file", "file/below", "/proc/runs"])
def test_an_out_that_cannot_be_written(tmp_path, out):
    (tmp_path / "file").touch()
    out = str(tmp_path / out)  # an absolute one stays
    for make in (check_new_run, new_run_folder):
        with pytest.raises(ValueError, match="^out = .*choose another"):
            make(out, "a")
    with pytest.raises(ValueError, match="^out = .*choose another"):
        train.main(["configs/demo.yaml", f"out={out}"])


def test_a_training_holds_its_folder_until_it_ends_however_it_ends(tmp_path, held):
    folder = new_run_folder(str(tmp_path), "a")
    process = held(folder)
    busy = f"a is being trained by process {process.pid} on "
    assert busy in owner(folder)
    with pytest.raises(ValueError, match=busy):
        RunLock(folder)
    for make in (check_new_run, new_run_folder):
        with pytest.raises(ValueError, match=f"{busy}.*overwrite=true"):
            make(str(tmp_path), "a", True)
    assert new_run_folder(str(tmp_path), "a").name == "a-2"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert owner(folder) is None
    with RunLock(folder):
        assert json.loads((folder / ".lock").read_text())["process"] == os.getpid()
    assert (folder / ".lock").read_text() == ""


def test_a_loader_process_does_not_hold_the_folder(tmp_path):
    """It is a fork of the training, and may outlive it by seconds."""
    folder = new_run_folder(str(tmp_path), "a")
    fork = HOLD.replace('print("held"', "import os\nif os.fork() == 0: time.sleep(60)\nprint('held'")
    process = subprocess.Popen(
        [sys.executable, "-c", fork, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, start_new_session=True
    )
    try:
        assert process.stdout.readline() == b"held\n" and owner(folder) is not None
        process.kill()
        process.wait()
        assert owner(folder) is None
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.stdout.close()


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_a_training_without_checkpoint_leaves_no_folder(tmp_path, error):
    folder = new_run_folder(str(tmp_path), "a")
    with pytest.raises(error) as caught, RunLock(folder), discarded_without_checkpoint(folder):
        raise error("why")
    assert not folder.exists() and tmp_path.exists()
    if error is KeyboardInterrupt:
        assert "nothing was saved" in str(caught.value) and "start again without --resume" in str(caught.value)
    else:
        assert str(caught.value) == "why"


def test_an_interrupted_training_tells_how_to_go_on(tmp_path):
    folder = new_run_folder(str(tmp_path), "a")
    (folder / "checkpoint_last.pt").touch()
    with pytest.raises(KeyboardInterrupt, match=f"--resume {folder}"), discarded_without_checkpoint(folder):
        raise KeyboardInterrupt
    assert (folder / "checkpoint_last.pt").exists()


def test_notes_of_a_user_stay_where_a_training_is_interrupted(tmp_path):
    folder = new_run_folder(str(tmp_path), "a")
    (folder / "notes.txt").touch()
    with pytest.raises(KeyboardInterrupt, match="holds nothing to resume"), discarded_without_checkpoint(folder):
        raise KeyboardInterrupt
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


def test_ctrl_c_in_the_first_epoch(command, tiny, tmp_path, monkeypatch):
    """The advice fits, and no folder is left."""

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(trainer, "train_epoch", interrupted)
    done = command("train.py", tiny)
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert "interrupted: nothing was saved" in done.stderr and not list((tmp_path / "runs").iterdir())
