"""Several processes: timeouts for one that hangs, and the end of all when torchrun ends."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch.distributed as dist

from engine import distributed

ROOT = Path(__file__).parent.parent.parent

FROZEN = """
import os, signal, sys
from engine import distributed
distributed.start("cpu", timeout_minutes=0.05)
distributed.barrier()
if distributed.rank() == 1:
    os.kill(os.getpid(), signal.SIGSTOP)
try:
    with distributed.naming_lost_processes():
        distributed.gather(1)
except ConnectionError as error:
    distributed.stop()
    distributed.end(f"error: {error}")
"""

ORPHAN = '''
import subprocess, sys
child = """
import time
from engine import distributed
distributed.end_with_parent(0.1)
print("on", flush=True)
time.sleep(600)
"""
child = subprocess.Popen([sys.executable, "-c", child], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
sys.stdin.read()
'''


def environment(**kwargs):
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | kwargs


def test_a_frozen_process_is_waited_for_as_long_as_the_timeout():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = str(s.getsockname()[1])
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", FROZEN],
            env=environment(RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=port),
            stderr=subprocess.PIPE,
        )
        for rank in range(2)
    ]
    try:
        said = ranks[0].communicate(timeout=300)[1].decode()
        assert "error: process 0 of 2: another process has ended, or has not answered within timeout_minutes" in said
        assert ranks[0].returncode == 1 and ranks[1].poll() is None
    finally:
        for process in ranks:
            process.kill()
            process.wait()


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="need /proc")
def test_a_process_ends_when_torchrun_is_killed():
    parent = subprocess.Popen(
        [sys.executable, "-c", ORPHAN],
        env=environment(TORCHELASTIC_RUN_ID="none"), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    pid = int(parent.stdout.readline())
    assert alive(pid)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 60
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    try:
        assert not alive(pid)
    finally:
        if alive(pid):
            os.kill(pid, signal.SIGKILL)


def test_errors_of_the_work_itself_are_not_taken_for_lost_processes(monkeypatch):
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    with pytest.raises(RuntimeError, match="out of memory"), distributed.naming_lost_processes():
        raise RuntimeError("out of memory")
