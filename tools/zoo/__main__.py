"""Train every family, spiking and ANN, direct and converted, on the demo's scenes under one schedule: one table.

    python -m tools.zoo                                     all networks, into runs/zoo
    python -m tools.zoo --list                              their names and commands; runs nothing
    python -m tools.zoo 'events_*' images_ems               those alone
    python -m tools.zoo --jobs 4 train.epochs=8 seed=1 --out runs/zoo8      four at a time; any key, for all trainings

The same command again continues: a training at its last checkpoint, and what has ended is not run again. The schedules
are in configs/zoo/, one for events and one for images. Printed, and written as <out>/zoo.md and zoo.json:

    rate                firing rate, mean of the layers
    additions, MACs     per image, of the network with BatchNorm fused: of spikes (SOPs), and multiply-accumulates
    papers .. int8      energy in uJ per image: as the papers count it; with data movement, with .. without reuse of
                        what was read; the same of the bit-matched twin and of the ANN in int8 (docs/energy.md)
    CPU ms, MiB         of one image: CPU time and peak memory with one thread; `trained`: wall time of the training

A network that fails is named at the end; the others go on.
"""

from __future__ import annotations

import argparse
import json
import os
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from pathlib import Path

from data.atomic_file import write_atomically
from engine.build import build_dataset
from engine.command import run_command
from engine.config import load_config
from registry import UserError

from .networks import Network, networks
from .steps import Place, Processes, commands, run_steps, schedule
from .table import markdown, rows


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.zoo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("which", nargs="*", metavar="NAME|key=value", help="names or patterns; default: all")
    parser.add_argument("--out", type=Path, default=Path("runs/zoo"), metavar="DIR")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="networks at a time")
    parser.add_argument("--list", action="store_true", help="print the names and commands, run nothing")
    args = parser.parse_intermixed_args(argv)
    if args.jobs < 1:
        raise UserError(f"--jobs {args.jobs}: give 1 or more")
    overrides = tuple(text for text in args.which if "=" in text)
    chosen = _chosen([text for text in args.which if "=" not in text])
    place = Place(args.out.resolve(), overrides)
    if args.list:
        for network in chosen:
            print(network.name, *(f"  python {' '.join(command)}" for _, command in commands(network, place)), sep="\n")
        return
    configs = [load_config(str(schedule(data)), list(overrides)) for data in dict.fromkeys(n.data for n in chosen)]
    build_dataset(configs[0], configs[0].data.train_split)  # makes the scenes, once
    place.out.mkdir(parents=True, exist_ok=True)
    failed = _run(chosen, place, args.jobs)
    print(_write(place))
    if failed:
        raise UserError("\n".join(failed))


def _run(chosen: list[Network], place: Place, jobs: int) -> list[str]:
    """What failed of these networks, which run `jobs` at a time; an interrupt ends them all."""
    failed, processes = [], Processes()
    with ThreadPoolExecutor(jobs) as pool:
        try:
            for network, running in [(n, pool.submit(run_steps, n, place, processes)) for n in chosen]:
                try:
                    running.result()
                    print(f"{network.name}: done", flush=True)
                except UserError as error:
                    failed.append(str(error))
                    print(error, flush=True)
                _write(place)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            processes.stop()
            raise
    return failed


def _chosen(patterns: list[str]) -> list[Network]:
    every = networks()
    for pattern in patterns:
        if not any(fnmatchcase(network.name, pattern) for network in every):
            raise UserError(f"{pattern!r}: no such network; there are {', '.join(n.name for n in every)}")
    return [n for n in every if not patterns or any(fnmatchcase(n.name, pattern) for pattern in patterns)]


def _write(place: Place) -> str:
    """zoo.json and zoo.md of all networks that have ended; the latter is returned."""
    found = [row for network in networks() for row in rows(network, place)]
    write_atomically(place.out / "zoo.json", json.dumps(found, indent=1) + "\n")
    text = markdown(found)
    write_atomically(place.out / "zoo.md", text)
    return text


if __name__ == "__main__":
    run_command(main, "the same command continues")
