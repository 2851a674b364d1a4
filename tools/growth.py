"""Whether a training grows with its length: open files, threads, memory, event files, after each epoch (Linux).

    python -m tools.growth configs/demo_images.yaml train.epochs=20

Runs train.py with that config in a temporary folder. A table has, after each epoch, the descriptors, threads, resident
and own memory of the training process and of its loader workers, and the size of the TensorBoard files.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from engine.command import run_command
from engine.config import load_config
from registry import UserError

TRAIN = Path(__file__).parent.parent / "train.py"


@dataclass
class Usage:
    """What processes hold. rss: their resident memory, MiB; own: of it what they have written and no other process
    shares (Private_Dirty; files of libraries become private, too, when the last other program that uses them ends)."""

    files: int = 0
    threads: int = 0
    rss: float = 0.0
    own: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        return Usage(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


def usage(process: int) -> Usage:
    """Of one running process."""
    folder = Path("/proc") / str(process)
    memory = dict(line.split(":") for line in (folder / "smaps_rollup").read_text().splitlines()[1:])
    rss, own = (int(memory[name].split()[0]) / 1024 for name in ("Rss", "Private_Dirty"))
    files, threads = (len(os.listdir(folder / name)) for name in ("fd", "task"))
    return Usage(files, threads, rss, own)


def children(process: int) -> list[int]:
    """The processes that it started and that still run."""
    tasks = (Path("/proc") / str(process) / "task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def event_bytes(folder: Path) -> int:
    """Size of the TensorBoard files in a run folder."""
    return sum(path.stat().st_size for path in folder.glob("events.out.tfevents.*"))


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.growth", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="a YAML file under configs/")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    args = parser.parse_args(argv)
    if not Path("/proc/self/smaps_rollup").exists():
        raise UserError("tools.growth reads /proc/PID/smaps_rollup, which only Linux has")
    cfg = load_config(args.config, args.overrides)
    names = " ".join(f"{f.name:>7}" for f in fields(Usage))
    print(f"               training process               loader workers                  event\n"
          f"epoch  steps  {names}  {names}  files KiB", flush=True)  # fmt: skip
    with tempfile.TemporaryDirectory() as out, open(Path(out) / "printed", "w+") as printed:
        command = [sys.executable, str(TRAIN), args.config, *args.overrides, f"out={out}", "train.keep_every=null"]
        process = subprocess.Popen(command, stdout=printed, stderr=subprocess.STDOUT)
        try:
            _watch(process, Path(out) / cfg.name)
        finally:
            process.terminate()
            process.wait()
        printed.seek(0)
        if process.returncode:
            raise UserError(f"the training failed: {printed.read()[-2000:]}")


def _watch(process: subprocess.Popen, folder: Path) -> None:
    """Print a line for each epoch; the last epoch's may be missing, if the training ends faster than it is read."""
    metrics, seen = folder / "metrics.jsonl", 0
    while process.poll() is None:
        lines = metrics.read_text().splitlines() if metrics.exists() else []
        if len(lines) > seen:
            seen, record = len(lines), json.loads(lines[-1])
            try:
                every = usage(process.pid), sum(map(usage, children(process.pid)), Usage())
            except (FileNotFoundError, ProcessLookupError):
                continue
            numbers = "  ".join(" ".join(f"{n:7.{isinstance(n, float):d}f}" for n in astuple(u)) for u in every)
            print(
                f"{record['epoch'] + 1:5} {record['step'] + 1:6}  {numbers}  {event_bytes(folder) / 1024:9.1f}",
                flush=True,
            )
        time.sleep(0.02)


if __name__ == "__main__":
    run_command(main)
