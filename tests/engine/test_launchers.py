"""Trainings as torchrun and SLURM start them: a killed process, a signal before the time ends, a second start."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from ranks import on_two_ranks

import train
from engine.runs.checkpoint import load_checkpoint

ROOT = Path(__file__).parent.parent.parent
OPTIONS = ["model.neuron={name: lif, backend: torch}", "train.epochs=2", "train.batch_size=2"]
# As SLURM's srun runs two tasks; with $SIGNAL_AT it sends them SIGUSR1 once that file exists.
SRUN = """#!/bin/bash
[ "$1" = --kill-on-bad-exit=1 ] && shift
for task in 0 1; do SLURM_PROCID=$task SLURM_LOCALID=$task SLURM_NTASKS=2 "$@" & tasks+=($!); done
if [ -n "$SIGNAL_AT" ]; then
    until [ -e "$SIGNAL_AT" ]; do sleep 0.1; done
    kill -USR1 "${tasks[@]}"
fi
for task in "${tasks[@]}"; do wait $task; code=$?; [ $code -gt ${worst:-0} ] && worst=$code; done
exit ${worst:-0}
"""
SCONTROL = """#!/bin/bash
if [ "$1" = show ]; then echo 127.0.0.1; echo other; else echo "$@" >> "$REQUEUED"; fi
"""
pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="need /proc")


def environment(**kwargs):
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | kwargs


def until(condition, process, seconds=300):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)


def workers(torchrun, rank):
    """Process ids of the workers of a torchrun with this rank."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            parent = int((path.parent / "stat").read_text().rsplit(")", 1)[1].split()[1])
            if parent == torchrun.pid and f"RANK={rank}".encode() in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
        except OSError:
            pass
    return found


def uninterrupted(config):
    train.main([config, "name=whole", *OPTIONS])


def weights(folder):
    return load_checkpoint(folder / "checkpoint_last.pt")["model"]


def test_torchrun_brings_a_killed_worker_back_to_the_last_checkpoint(tiny, tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=1"]
    with subprocess.Popen(
        [*command, str(ROOT / "train.py"), tiny, *OPTIONS, "--resume", "auto"],
        env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as torchrun:  # fmt: skip
        try:
            until((tmp_path / "runs" / "tiny" / "checkpoint_last.pt").exists, torchrun)
            os.kill(workers(torchrun, 1)[0], signal.SIGKILL)
            said = torchrun.communicate(timeout=300)[0]
        finally:
            torchrun.kill()
    assert torchrun.returncode == 0, said
    assert "resuming" in said and said.count("done: ") == 1
    assert [folder.name for folder in (tmp_path / "runs").iterdir()] == ["tiny"]
    on_two_ranks(tmp_path, uninterrupted, tiny)
    ours, whole = (weights(tmp_path / "runs" / name) for name in ("tiny", "whole"))
    assert ours.keys() == whole.keys() and all(torch.equal(ours[key], whole[key]) for key in whole)


def test_a_restart_that_would_begin_a_new_run_is_refused_at_once(tiny, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "3")
    with pytest.raises(ValueError, match="--max-restarts=3 .* add --resume auto"):
        train.main([tiny])
    assert not (tmp_path / "runs").exists()


def test_the_file_for_slurm_queues_the_job_again_until_the_training_is_finished(tiny, tmp_path):
    tools, requeued = tmp_path / "bin", tmp_path / "requeued"
    tools.mkdir()
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL), ("python", f'#!/bin/bash\nexec {sys.executable} "$@"')):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    job = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_JOB_NODELIST": "node[1-2]", "REQUEUED": str(requeued)}
    folder = tmp_path / "runs" / "tiny"

    def run(**more):
        path = f"{tools}{os.pathsep}{os.environ['PATH']}"
        return subprocess.run(
            ["bash", "configs/slurm.sbatch", tiny, *OPTIONS],
            env=environment(PATH=path, **job, **more), cwd=ROOT, capture_output=True, text=True, timeout=300,
        )  # fmt: skip

    first = run(SIGNAL_AT=str(folder / "checkpoint_last.pt"))
    assert first.returncode == 0 and requeued.read_text() == f"requeue {os.getpid()}\n", first.stderr
    assert load_checkpoint(folder / "checkpoint_last.pt")["epoch"] < 2 or "done" not in first.stdout
    second = run()
    assert second.returncode == 0 and "resuming" in second.stdout and f"done: {folder}" in second.stdout, second.stderr
    assert requeued.read_text().count("\n") == 1
    assert load_checkpoint(folder / "checkpoint_last.pt")["epoch"] == 2
