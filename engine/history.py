"""AP against the length of history: how many windows the network has seen since its state was reset."""

from __future__ import annotations

from collections.abc import Iterator

from analysis.plots.history import plot_history
from data import DetectionDataset
from data.events.window_dataset import WindowDataset
from registry import UserError

from .sweep import Sweep, Variant

Lengths = list[int | None]  # windows, increasing; None: all since the recording began


def parse_history(text: str | None, dataset: DetectionDataset, converted: bool = False) -> Lengths:
    """ "1,2,4,all" -> [1, 2, 4, None]; [] of None. UserError for values that cannot be, and where there is no history:
    of images, and of converted networks."""
    if text is None:
        return []
    words = {part.strip() for part in text.split(",")}
    numbers = sorted({int(word) for word in words - {"all"} if word.isdecimal()} - {0})
    if len(numbers) != len(words - {"all"}):
        raise UserError(f"--history {text}: give numbers of windows above 0, and all, as in --history 1,2,4,8,all")
    if not isinstance(dataset, WindowDataset):
        raise UserError(f"--history {text}: images have no history; it is for recordings of events")
    if converted:
        raise UserError(f"--history {text}: a converted network is simulated from rest for each sample. Leave it out")
    return [*numbers, *([None] if "all" in words else [])]


def history_sweep(dataset: DetectionDataset, lengths: Lengths) -> Sweep:
    """The split at each of `lengths` of history; the longest is `own`."""
    assert isinstance(dataset, WindowDataset)  # `parse_history` has said so
    sampling = {"sampling": "sequential" if dataset.sequential else "random"}
    return Sweep("history", plot_history, len(lengths), _variants(dataset, lengths), sampling)


def _variants(dataset: WindowDataset, lengths: Lengths) -> Iterator[Variant]:
    for length in lengths:
        data, name = dataset.with_history(length), "all" if length is None else str(length)
        windows, covered_us = data.histories.T
        counts = {
            "labels": len(windows),
            "labels_with_fewer": 0 if length is None else int((windows < length).sum()),
            "mean_windows": float(windows.mean()),
            "mean_ms": float(covered_us.mean()) / 1e3,
            "windows_run": len(data),
        }
        yield Variant(f"history {name}", data, length == lengths[-1], {"windows": name}, counts)
