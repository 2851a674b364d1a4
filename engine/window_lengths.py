"""AP of recordings against the length of the window of events, of a detector that was trained with another one."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from analysis.plots.windows import plot_windows
from data import DetectionDataset
from data.events.dataset import EventDataset
from registry import UserError

from .sweep import Sweep, Variant

Lengths = list[float]  # ms, increasing, that of the training among them


def parse_windows(text: str | None, dataset: DetectionDataset) -> Lengths:
    """ "25,50" -> [25, 50, 250] of a `dataset` with windows of 250 ms; [] of None. UserError for values that cannot be,
    and where windows have no length: of images, of frames made before, of whole recordings."""
    if text is None:
        return []
    if not isinstance(dataset, EventDataset) or dataset.from_first:
        raise UserError(f"--windows {text}: the samples of this dataset are no windows of events. Leave it out")
    try:
        lengths = {float(part) for part in text.split(",")}
    except ValueError:
        lengths = set()
    if not lengths or not all(1e-3 <= length < 1e6 for length in lengths):
        raise UserError(f"--windows {text}: give lengths in milliseconds with commas between them, as in 25,50,100")
    return sorted({*lengths, dataset.input.window_us / 1e3})


def window_sweep(
    dataset: DetectionDataset, lengths: Lengths, with_window: Callable[[float], DetectionDataset]
) -> Sweep:
    """The split with windows of each of `lengths`, whose T frames share it, and the same labels; that of the training
    is `own`. with_window: makes the split with windows of another length in ms."""
    assert isinstance(dataset, EventDataset)  # `parse_windows` has said so
    return Sweep("windows", plot_windows, len(lengths), _variants(dataset, lengths, with_window))


def _variants(
    dataset: EventDataset, lengths: Lengths, with_window: Callable[[float], DetectionDataset]
) -> Iterator[Variant]:
    trained = dataset.input.window_us / 1e3
    for length in lengths:
        own = length == trained
        data = dataset if own else with_window(length)
        at = {"window_ms": length, "trained": own}
        yield Variant(f"windows of {length:g} ms", data, own, at, {"windows_run": len(data)})
