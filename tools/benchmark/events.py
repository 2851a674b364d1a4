"""Benchmark event loading, from file to tensor: our readers and representations against published loaders.

    python -m tools.benchmark events                                       one thread, CPU milliseconds
    python -m tools.benchmark events --workers 2 --folder /data/benchmark  the recording is kept and used again

A recording of 20 M events over 60 s on 304x240 pixels, drawn evenly, is read in windows at random times. All
implementations take turns at each window, so that the machine's load is the same for all, and their outputs are
compared. The file is in the page cache. Then: samples per second of the loader, and the memory of a process that reads
windows all over the file.
"""

from __future__ import annotations

import argparse
import mmap
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from data import create_dataset, train_loader
from data.problems import Problems
from data.recordings import Events, open_dat, write_boxes
from data.recordings.boxes import BOX_DTYPE
from data.recordings.dat_header import read_header
from data.recordings.dat_writer import DatWriter
from data.representations import build_representation

from ._published_events import Toolbox, last_event_frames, rvt_decode, rvt_histogram
from .neurons import machine

HEIGHT, WIDTH = 240, 304
WINDOW_US = 250_000
LABEL_US = 25_000  # between two labels: an epoch is long enough not to time its beginning


def write_recording(folder: Path, events: int, seconds: int, seed: int) -> Path:
    """`folder`/train with one recording of `events`, evenly drawn, and a label every 25 ms, if it is not there."""
    path = folder / "train" / f"bench_{events}_{seconds}_{seed}_td.dat"
    if path.is_file() and (header := read_header(path, Problems())) and header.events == events:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    with DatWriter(path, WIDTH, HEIGHT) as writer:
        for second in range(seconds):
            n = events * (second + 1) // seconds - events * second // seconds
            t = np.sort(rng.integers(second * 1_000_000, (second + 1) * 1_000_000, n))
            x, y, p = (rng.integers(0, size, n) for size in (WIDTH, HEIGHT, 2))
            writer.write(Events(t, x.astype(np.uint16), y.astype(np.uint16), p.astype(np.uint8)))
    times = np.arange(WINDOW_US, seconds * 1_000_000, LABEL_US)
    boxes = np.zeros(len(times), BOX_DTYPE)
    boxes["t"] = times
    for name, value in {"x": 100, "y": 80, "w": 60, "h": 50}.items():
        boxes[name] = value
    write_boxes(path.parent / path.name.replace("_td.dat", "_bbox.npy"), boxes)
    return path


class Contestants:
    """The implementations to compare; each is a function of the end of the window (us)."""

    def __init__(self, path: Path):
        header = read_header(path, Problems())
        assert header is not None
        self.toolbox, self.reader = Toolbox(path, header.offset), open_dat(path)
        with open(path, "rb") as file:
            self.mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.offset, self.count = header.offset, header.events

    def ours(self, what: str | dict, num_steps: int, window_us: int) -> Callable[[int], torch.Tensor]:
        form = build_representation(what, num_steps)

        def sample(t1: int) -> torch.Tensor:
            return torch.from_numpy(form(self.reader.read(t1 - window_us, t1), t1 - window_us, t1, HEIGHT, WIDTH))

        return sample

    def read_only(self, window_us: int) -> Callable[[int], torch.Tensor]:
        return lambda t1: torch.from_numpy(self.reader.read(t1 - window_us, t1).x)

    def published_last_event(self, num_steps: int, window_us: int) -> Callable[[int], torch.Tensor]:
        def sample(t1: int) -> torch.Tensor:  # its windows hold t0 <= t < t1, so they begin one microsecond later
            step_us = window_us // num_steps
            frames = last_event_frames(self.toolbox, t1 - window_us + 1, step_us, num_steps, HEIGHT, WIDTH)
            return torch.from_numpy(frames).permute(0, 3, 1, 2).contiguous()

        return sample

    def rvt(self, bins: int, num_steps: int, window_us: int, clip: int = 10) -> Callable[[int], torch.Tensor]:
        def sample(t1: int) -> torch.Tensor:
            ends = [t1 - window_us + window_us * k // num_steps for k in range(num_steps + 1)]
            cut = zip(ends[:-1], ends[1:], strict=True)
            events = [rvt_decode(self.mapped, self.offset, self.count, a, b) for a, b in cut]
            return torch.stack([rvt_histogram(e, bins, HEIGHT, WIDTH, clip) for e in events])

        return sample


def tables(c: Contestants) -> dict[str, dict[str, Callable[[int], torch.Tensor]]]:
    """Title of a table -> its contestants, the baseline first."""
    fine = {"name": "stacked_histogram", "bins": 10}
    return {
        "250 ms, T = 5, images of the last event": {
            "EMS-YOLO, SpikeYOLO": c.published_last_event(5, 250_000),
            "last_event": c.ours("last_event", 5, 250_000),
            "counts": c.ours({"name": "counts", "clip": 10}, 5, 250_000),
            "the reading alone": c.read_only(250_000),
        },
        "250 ms, five counts of each polarity": {
            "RVT, bins 5": c.rvt(5, 1, 250_000),
            "stacked_histogram, bins 5, events": c.ours(fine | {"bins": 5, "span": "events"}, 1, 250_000),
            "stacked_histogram, bins 5": c.ours(fine | {"bins": 5}, 1, 250_000),
            "counts, T = 5": c.ours({"name": "counts", "clip": 10}, 5, 250_000),
        },
        "250 ms, T = 5 histograms of 10 bins": {
            "RVT, bins 10": c.rvt(10, 5, 250_000),
            "stacked_histogram, events": c.ours(fine | {"span": "events"}, 5, 250_000),
            "stacked_histogram": c.ours(fine, 5, 250_000),
        },
        "50 ms, one histogram of 10 bins": {
            "RVT, bins 10": c.rvt(10, 1, 50_000),
            "stacked_histogram, events": c.ours(fine | {"span": "events"}, 1, 50_000),
            "stacked_histogram": c.ours(fine, 1, 50_000),
        },
    }


def agreement(first: torch.Tensor, other: torch.Tensor) -> str:
    if first.numel() != other.numel():
        return "-"
    # Counts of T steps and of bins in one step differ in the order of their first two axes.
    other = other.reshape(first.shape) if other.shape[1] != 2 else other.transpose(0, 1).reshape(first.shape)
    return f"{int((first != other).sum()) / max(int((first != first.flatten()[0]).sum()), 1):.2%}"


def measure(rivals: dict[str, Callable[[int], torch.Tensor]], ends: list[int]) -> None:
    taken: dict[str, list[float]] = {name: [] for name in rivals}
    names, order = list(rivals), np.random.default_rng(0)
    for t1 in [ends[0], *ends]:
        for name in order.permutation(names).tolist():  # the first one has a cold cache
            start = time.process_time()
            rivals[name](t1)
            taken[name].append(1e3 * (time.process_time() - start))
    theirs, baseline = np.array(taken[names[0]][1:]), rivals[names[0]](ends[0])
    for name, sample in rivals.items():
        ms = np.array(taken[name][1:])
        low, _, high = np.percentile(theirs / ms, (10, 50, 90))
        print(
            f"{name:<36}{np.median(ms):>8.2f}{np.percentile(ms, 90):>8.2f}{np.median(theirs) / np.median(ms):>8.1f}x"
            f"{f'{low:.1f} .. {high:.1f}':>16}{agreement(baseline, sample(ends[0])):>10}",
            flush=True,
        )


def loader_speed(folder: Path, workers: int, seconds: float) -> None:
    """Batches of 20 as a training takes them: CPU time in this process, then wall time with `workers`."""
    for what in ({"name": "counts", "clip": 10}, {"name": "last_event"}, {"name": "stacked_histogram"}):
        data = create_dataset("gen1", "train", root=folder, representation=what, num_steps=5, window_ms=250)
        found = []
        for clock, count in ((time.process_time, 0), (time.perf_counter, workers)):
            loader, epoch, start, taken, samples = train_loader(data, 20, 0, count), 0, 0.0, 0.0, 0
            while taken < seconds:
                loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
                for batch in loader:
                    samples += len(batch.targets) if start else 0
                    start = start or clock()  # from the second batch on: the workers are up then
                    taken = clock() - start
                    if taken >= seconds:
                        break
                epoch += 1
            found.append(samples / taken)
        print(f"{what['name']:<36}{1e3 / found[0]:>10.2f}{found[1]:>16.0f}{20e3 / found[1]:>16.0f}", flush=True)


def read_everywhere(path: Path, windows: int, seed: int) -> None:
    """In a process of its own: the memory it has before and after reading windows all over the file."""
    reader, form = open_dat(path), build_representation("counts", 5)
    before = _memory()
    for t1 in np.random.default_rng(seed).integers(WINDOW_US, reader.t_last, windows).tolist():
        form(reader.read(t1 - WINDOW_US, t1), t1 - WINDOW_US, t1, HEIGHT, WIDTH)
    after = _memory()
    size = path.stat().st_size / 2**20
    print(
        f"{windows} windows of a file of {size:.0f} MiB: own memory {before['RssAnon']:.0f} -> {after['RssAnon']:.0f} "
        f"MiB, pages of files {before['RssFile']:.0f} -> {after['RssFile']:.0f} MiB, peak {after['VmHWM']:.0f} MiB"
    )


def _memory() -> dict[str, float]:
    """MiB, by the names of /proc/self/status."""
    lines = (line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return {key: int(value.split()[0]) / 1024 for key, value in lines if key in ("RssAnon", "RssFile", "VmHWM")}


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.benchmark events")
    parser.add_argument("--folder", type=Path, help="where the recording is kept; default: a temporary folder")
    parser.add_argument("--events", type=int, default=20_000_000)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--windows", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=0, help="of the loader")
    parser.add_argument("--loader-seconds", type=float, default=8)
    parser.add_argument("--memory-of", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if args.memory_of is not None:
        read_everywhere(args.memory_of, args.windows, args.seed)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        path = write_recording(folder, args.events, args.seconds, args.seed)
        ends = np.random.default_rng(args.seed).integers(WINDOW_US, args.seconds * 1_000_000, args.windows).tolist()
        print(
            f"{args.events} events, {args.seconds} s, {args.windows} windows, seed {args.seed}, {machine(CPU)}, "
            f"{os.cpu_count()} cores, numpy {np.__version__}, torch {torch.__version__}, 1 thread"
        )
        path.read_bytes()  # into the page cache
        for title, rivals in tables(Contestants(path)).items():
            print(f"\n{title:<36}{'median':>8}{'90 %':>8}{'faster':>9}{'10 .. 90 %':>16}{'differs':>10}")
            measure(rivals, ends)
        columns = f"{'CPU ms each':>10}{f'/s, {args.workers} workers':>15}{'ms for 20':>16}"
        print(f"\n{'loader, 250 ms, T = 5':<36}{columns}   load {os.getloadavg()[0]:.1f}")
        loader_speed(folder, args.workers, args.loader_seconds)
        print()
        command = [sys.executable, "-m", "tools.benchmark", "events", "--memory-of", str(path)]
        subprocess.run([*command, "--windows", str(10 * args.windows), "--seed", str(args.seed)], check=True)


CPU = torch.device("cpu")
