"""What is run for a network of the zoo, one command after another; a command that ended is not run again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import IO

from data.atomic_file import write_atomically
from engine.runs.provenance import provenance
from registry import UserError

from .networks import Network

ROOT = Path(__file__).parents[2]
STEPS = (16, 64)  # of converted networks; the last is that of the table's row
SCORED, SIMULATED = "evaluation", "evaluation_converted"
TIMED, TIMED_CONVERTED = "inference.json", "inference_converted.json"


@dataclass(frozen=True)
class Place:
    """Where the zoo's runs lie, and what all trainings have in addition."""

    out: Path
    overrides: tuple[str, ...] = ()


def schedule(data: str) -> Path:
    """The config that all networks of that data have."""
    return ROOT / "configs" / "zoo" / f"{data}.yaml"


def commands(network: Network, place: Place) -> Iterator[tuple[str, list[str]]]:
    """(name, command), in order."""
    run = place.out / network.name
    last, converted = str(run / "checkpoint_last.pt"), str(run / "converted.pt")
    overrides = [*network.overrides, *place.overrides]
    train, evaluate, convert, config = map(
        os.path.relpath, (ROOT / "train.py", ROOT / "evaluate.py", ROOT / "convert.py", schedule(network.data))
    )
    yield "train", [train, config, *overrides, f"out={place.out}", f"name={network.name}", "--resume", "auto"]
    seen = ["--spikes", "--energy", "--pictures", "4"]
    yield "evaluate", [evaluate, last, *seen, "--out", str(run / SCORED)]
    if network.convert is not None:
        yield "convert", [convert, last, *network.convert, "--out", converted]
        steps = ",".join(map(str, STEPS))
        yield "simulate", [evaluate, converted, "--steps", steps, *seen, "--out", str(run / SIMULATED)]
    time = ["-m", "tools.benchmark", "infer"]
    one = ["train.batch_size=1", "--turns", "9", "--json"]
    yield "time", [*time, last, *one, str(run / TIMED)]
    if network.convert is not None:
        yield "time converted", [*time, converted, f"eval.T={STEPS[-1]}", *one, str(run / TIMED_CONVERTED)]


class Processes:
    """The commands that run now. After `stop` they end, trainings with a checkpoint, and no other begins."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen] = set()
        self._stopped, self._lock = False, Lock()

    def run(self, command: list[str], printed: IO[str]) -> int:
        """Its exit code."""
        environment = dict(os.environ, PYTHONPATH=str(ROOT))
        with self._lock:
            if self._stopped:
                return -signal.SIGTERM
            process = subprocess.Popen([sys.executable, *command], env=environment, stdout=printed, stderr=printed)
            self._running.add(process)
        try:
            return process.wait()
        finally:
            with self._lock:
                self._running.remove(process)

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
            for process in self._running:
                process.terminate()


def run_steps(network: Network, place: Place, processes: Processes) -> None:
    """Run the commands of a network that have not ended before, with what they print in <run>.log.

    <run>.json has of each that ended its command, commit and seconds; a command that differs from that is run again,
    with all behind it. UserError if one fails.
    """
    log, record = (place.out / f"{network.name}{suffix}" for suffix in (".log", ".json"))
    ended: dict[str, dict] = json.loads(record.read_text()) if record.is_file() else {}
    names = [name for name, _ in commands(network, place)]
    for name, command in commands(network, place):
        if ended.get(name, {}).get("command") == command:
            continue
        ended = {earlier: ended[earlier] for earlier in names[: names.index(name)]}
        write_atomically(record, json.dumps(ended, indent=1) + "\n")  # before what it produced is replaced
        start = time.perf_counter()
        with open(log, "a") as printed:
            printed.write(f"\n$ python {' '.join(command)}\n")
            printed.flush()
            code = processes.run(command, printed)
        if code:
            raise UserError(f"{network.name}: {name} ended with code {code}; {log} says why")
        commit = provenance([])["commit"]
        ended[name] = {"command": command, "commit": commit, "seconds": round(time.perf_counter() - start, 1)}
        write_atomically(record, json.dumps(ended, indent=1) + "\n")
