"""Processes in one process group, as torchrun starts them; and trainings that are interrupted at a set step."""

import contextlib
import os
import pickle
import signal
import socket
from pathlib import Path

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from neurons.multistep import backends

# Forked from a server that has imported the libraries and started no thread: a fork of this process, whose libraries
# have threads, could wait for one of them without end.
torch.multiprocessing.set_forkserver_preload(["torch", "torchvision", "spikingjelly.activation_based.functional"])


def on_two_ranks(folder: Path, function, *arguments) -> list:
    return on_ranks(2, folder, function, *arguments)


def on_ranks(number: int, folder: Path, function, *arguments) -> list:
    """[(what `function(*arguments)` returns, what it prints) of each rank]; raises what a rank raised."""
    arguments = (number, folder, *free_ports(1), function, arguments)
    torch.multiprocessing.start_processes(_rank, arguments, nprocs=number, start_method="forkserver")
    return [pickle.loads((folder / f"rank{rank}").read_bytes()) for rank in range(number)]


def free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as opened:
        sockets = [opened.enter_context(socket.socket()) for _ in range(number)]
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]


def _rank(rank: int, number: int, folder: Path, port: int, function, arguments) -> None:
    torch.set_num_threads(1)
    backends.SMALL = 1 << 40  # compiles no neuron, as in tests/conftest.py
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(number)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with open(folder / f"printed{rank}", "w+") as printed:
        with contextlib.redirect_stdout(printed):
            result = function(*arguments)
        printed.seek(0)
        (folder / f"rank{rank}").write_bytes(pickle.dumps((result, printed.read())))


def _raise_interrupt():
    raise KeyboardInterrupt


@contextlib.contextmanager
def interrupted(step: int, how=_raise_interrupt):
    """What is trained within is interrupted once it has taken that many optimizer steps, as by a Ctrl-C that nothing
    catches."""
    taken = []

    def interrupt(*_):
        taken.append(1)
        if len(taken) == step:
            how()

    hook = register_optimizer_step_post_hook(interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            yield
    finally:
        hook.remove()


def preempted(step: int, rank: int = 0):
    """What is trained within gets a SIGTERM on `rank` in that optimizer step, and saves."""
    here = int(os.environ.get("RANK", 0)) == rank
    return interrupted(step, lambda: os.kill(os.getpid(), signal.SIGTERM) if here else None)
