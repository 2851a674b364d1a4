"""Provenance of results: command, date, commit, versions and machine, as plain values."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from data.atomic_file import append_line

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("spikesight", "torch", "torchvision", "spikingjelly", "numpy", "faster-coco-eval")


def provenance(command: list[str], device: torch.device | None = None) -> dict[str, Any]:
    """command (one line), date (ISO 8601 with offset), commit, dirty, versions, machine.

    command: script and arguments. device: of the model, if one was run; `machine` then names it.
    commit: of the checkout that the code was run from, wherever the current folder is; None outside a git checkout.
    dirty: source files differ from the commit, or are not part of it; None without a commit.
    """
    commit, dirty = _commit(ROOT)
    return {
        "command": shlex.join(command),
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "commit": commit,
        "dirty": dirty,
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "machine": _machine(device),
    }


def append_provenance(folder: Path, record: dict[str, Any]) -> None:
    """One line of `folder`/provenance.jsonl for each start of a run: the first, then each resume."""
    append_line(folder / "provenance.jsonl", json.dumps(record))


def command_line(script: str, argv: list[str] | None) -> list[str]:
    """The command that runs `script` with `argv`; with None the arguments of this process."""
    return [script, *(sys.argv[1:] if argv is None else argv)]


def _commit(root: Path) -> tuple[str | None, bool | None]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30, env=environment)
        return done.stdout.strip()

    try:
        # Code installed below another project's checkout is not part of that one.
        if Path(git("rev-parse", "--show-toplevel")).resolve() != root:
            return None, None
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--", "*.py", "*.cu"))
    except (OSError, subprocess.SubprocessError):  # no git, no checkout, or one that git does not trust
        return None, None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _machine(device: torch.device | None) -> dict[str, Any]:
    machine: dict[str, Any] = {
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }
    if device is not None:
        machine["device"] = str(device)
        machine["processes"] = int(os.environ.get("WORLD_SIZE", 1))
        if device.type == "cuda":
            machine |= {"gpu": torch.cuda.get_device_name(device), "cuda": torch.version.cuda}
    return machine


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
