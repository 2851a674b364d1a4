"""Whether a training survives: kill it at random moments, resume it, and compare it with the one that was left alone.

    python -m tools.survival configs/demo_images.yaml train.epochs=4                  20 times kill -9, one process
    python -m tools.survival CONFIG --processes 2 --kills 10 --signal TERM            10 times SIGTERM, under torchrun
    python -m tools.survival CONFIG --out FOLDER --seed 1                             other moments; FOLDER is kept

The moments are within optimizer steps, within writes of checkpoints (after an epoch and within one), and within
evaluations. With several processes one of them is struck, or torchrun. After each the folder must open, and a training
that SIGTERM ends must have lost one step at most. In the end weights, averages, scores and losses must be those of the
run that was left alone, bit for bit (on a CPU). A run that ends before enough kills is compared, and another begins.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import torch

from engine.command import run_command
from engine.config import load_config
from engine.interrupts import REQUEUE
from engine.runs.checkpoint import load_checkpoint
from engine.runs.lock import owner
from engine.runs.newest import open_newest, resumable
from registry import UserError

from .struck import PHASES, Plan, Status

OFTEN = "train.save_minutes=0.005"
SIGNALS = {"KILL": signal.SIGKILL, "TERM": signal.SIGTERM, "USR1": signal.SIGUSR1}
STARTS = 200  # of one series; a training that never gets on ends there


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.survival", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="a YAML file under configs/")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--signal", choices=SIGNALS, default="KILL")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", help="folder of the runs; by default a temporary one")
    args = parser.parse_intermixed_args(argv)
    load_config(args.config, args.overrides)  # mistakes are said here
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(args.out or temporary)
        out.mkdir(parents=True, exist_ok=True)
        Series(args, out).run()


class Series:
    def __init__(self, args: argparse.Namespace, out: Path):
        self.args, self.out, self.number = args, out, SIGNALS[args.signal]
        self.random = random.Random(args.seed)
        self.struck: Counter[str] = Counter()
        self.lost: list[int] = []
        self.compared = self.saved = 0
        self.log = out / "printed.txt"

    def run(self) -> None:
        args = self.args
        never = Plan(self.number, "step", -1, 0.0)
        whole = self.out / "alone"
        if not _finished(whole):
            code = self._start(never, "alone")
            if code:
                raise UserError(f"{args.config}: the training that was left alone ended with code {code}: {self.log}")
        for _ in range(STARTS):
            folder = self.out / f"struck{self.compared}"
            kills = sum(self.struck.values())
            code = self._start(self._plan() if kills < args.kills else never, folder.name)
            self._check(folder, code)
            if code == 0 and _finished(folder):
                differences = compare(whole, folder)
                if differences:
                    raise UserError(f"{folder} differs from {whole}: {'; '.join(differences)}")
                self.compared += 1
                if kills >= args.kills:
                    break
        else:
            raise UserError(f"{STARTS} starts, and {sum(self.struck.values())} kills: {self.log}")
        where = ", ".join(f"{count} during {phase}" for phase, count in sorted(self.struck.items()))
        print(
            f"{sum(self.struck.values())} times {args.signal}, {args.processes} process(es): {where}; steps lost each "
            f"time: {self.lost}; {self.compared} trainings ended as the one that was left alone, bit for bit"
        )

    def _plan(self) -> Plan:
        phase = self.random.choice(PHASES)
        rank = 0 if phase == "save" else self.random.randrange(self.args.processes)
        delay = self.random.uniform(0, {"step": 0.2, "save": 0.02, "evaluation": 0.3}[phase])
        targets = ("process", "group") if self.args.processes == 1 else ("process", "group", "parent")
        return Plan(self.number, phase, self.random.randint(1, 4), delay, rank, self.random.choice(targets))

    def _start(self, plan: Plan, name: str) -> int:
        """The exit code of a training of that name, continued if there is one."""
        file = self.out / "plan.json"
        file.write_text(json.dumps(asdict(plan)))
        for status in self.out.glob("status*.json"):
            status.unlink()
        self.plan = plan
        many = self.args.processes > 1
        launcher = [sys.executable]
        launcher += ["-m", "torch.distributed.run", f"--nproc-per-node={self.args.processes}"] if many else []
        often = [] if any(o.startswith("train.save_minutes") for o in self.args.overrides) else [OFTEN]
        command = [*launcher, "-m", "tools.survival.struck", str(file), self.args.config, *self.args.overrides, *often]
        command += [f"out={self.out}", f"name={name}", "--resume", "auto"]
        with open(self.log, "a") as printed:
            printed.write(f"\n{plan}\n")
            printed.flush()
            # A session of its own: "group" is that of the training.
            code = subprocess.run(command, stdout=printed, stderr=printed, start_new_session=True).returncode
        while owner(self.out / name):  # after torchrun was killed its processes save first
            time.sleep(0.1)
        return code

    def _check(self, folder: Path, code: int) -> None:
        """After a start: the run opens, and no more is lost than may be."""
        statuses = [Status(**json.loads(file.read_text())) for file in sorted(self.out.glob("status[0-9].json"))]
        where = max((status.struck for status in statuses), default="")
        trained = self.saved + max((status.steps for status in statuses), default=0)
        self.saved = 0
        if resumable(folder):
            _, content, said = open_newest(folder)
            if said:
                raise UserError(f"{folder}: {'; '.join(said)}")
            self.saved = content["epoch"] * content["steps_per_epoch"]
            self.saved += -(-content.get("batch", 0) // content.get("batches_per_step", 1))
        if code == 0:
            self.saved = 0  # the next start is that of another training, or was not struck
        elif not where:
            raise UserError(f"{folder}: ended with code {code}, struck by nothing: {self.log}")
        else:
            lost = trained - self.saved
            self.struck[where] += 1
            self.lost.append(lost)
            print(
                f"{self.args.signal} to {self.plan.target}, during {where}: code {code}, {lost} steps lost", flush=True
            )
            if self.number != signal.SIGKILL and (lost > 1 or (self.args.processes == 1 and code != REQUEUE)):
                raise UserError(f"{folder}: {self.plan}: code {code}, {lost} steps lost")


def compare(one: Path, other: Path) -> list[str]:
    """What differs of two finished runs: tensors, scores and losses."""
    contents = [load_checkpoint(folder / "checkpoint_last.pt") for folder in (one, other)]
    found = [
        f"{part} {key}"
        for part in ("model", "ema")
        for key, tensor in contents[0][part].items()
        if not torch.equal(tensor, contents[1][part][key])
    ]
    if contents[0]["best"] != contents[1]["best"]:
        found.append("best score")
    lines = [(folder / "metrics.jsonl").read_text().splitlines() for folder in (one, other)]
    records = [[json.loads(line) | {"seconds": 0, "peak_gib": 0} for line in text] for text in lines]
    return found + ["metrics.jsonl"] * (records[0] != records[1])


def _finished(folder: Path) -> bool:
    path = folder / "checkpoint_last.pt"
    if not path.is_file():
        return False
    content = load_checkpoint(path)
    return content["epoch"] == content["config"]["train"]["epochs"] and content["scored"]


if __name__ == "__main__":
    run_command(main)
