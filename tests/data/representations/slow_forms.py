"""Reference implementation of every representation, event by event, from its formula.

`slow(name, options, rows, t0, t1, T, H, W)` -> float64; rows: (t, x, y, p) in order of time.
"""

import math
from dataclasses import dataclass

import numpy as np

from data.recordings import Events

__all__ = ["FORMS", "events_of", "slow"]

# Every form with its arguments as a test should meet it.
FORMS = [
    {"name": "counts"},
    {"name": "counts", "clip": 2},
    {"name": "last_event"},
    {"name": "stacked_histogram", "bins": 3},
    {"name": "stacked_histogram", "bins": 3, "clip": 2, "span": "events"},
    {"name": "micro_bins", "bins": 3},
    {"name": "micro_bins", "bins": 3, "span": "events"},
    {"name": "voxel_cube"},
    {"name": "voxel_cube", "tbin": 3},
    {"name": "voxel_grid", "bins": 3},
    {"name": "voxel_grid", "bins": 1},
    {"name": "voxel_grid", "bins": 4, "normalize": True},
    {"name": "event_volume", "bins": 3},
    {"name": "sbt"},
    {"name": "sbt", "polarity": "signed"},
    {"name": "sbt", "polarity": "signed", "value": "binary"},
    {"name": "sbn"},
    {"name": "sbn", "value": "binary"},
    {"name": "sbn", "polarity": "signed"},
    {"name": "time_surface", "tau_us": 7},
    {"name": "time_surface", "tau_us": 7, "history_us": 10},
    {"name": "mixed_density", "bins": 4, "clip": 2},
    {"name": "mixed_density", "bins": 3, "focus": "last"},
    {"name": "taf", "depth": 2, "bin_us": 3},
    {"name": "taf", "depth": 3, "bin_us": 2, "history_us": 10},
]


def events_of(rows):
    t, x, y, p = zip(*rows, strict=True) if rows else ([], [], [], [])
    return Events(np.array(t, np.int64), np.array(x, np.uint16), np.array(y, np.uint16), np.array(p, np.uint8))


@dataclass
class Step:
    """Step k of T of the window (t0, t1]; end: its last whole microsecond."""

    t0: int
    t1: int
    T: int
    k: int

    def __contains__(self, row):
        return self.t0 < row[0] <= self.t1 and self.slice(row[0], 1) == 0

    @property
    def end(self):
        return max(t for t in range(self.t0 + 1, self.t1 + 1) if (t,) in self)

    def slice(self, t, bins):
        """Which of `bins` equal slices of the step."""
        return (t - self.t0 - 1) * self.T * bins // (self.t1 - self.t0) - self.k * bins


def slow(name, options, rows, t0, t1, T, H, W):
    window = [r for r in rows if t0 < r[0] <= t1]
    known = [r for r in rows if t0 - options.get("history_us", 0) < r[0] <= t1]
    frames = []
    for k in range(T):
        step = Step(t0, t1, T, k)
        mine = [r for r in window if r in step]
        if name == "sbn":
            mine = window[k * len(window) // T : (k + 1) * len(window) // T]
        elif name in ("time_surface", "taf"):
            mine = [r for r in known if r[0] <= step.end]
        frames.append(_FORMS[name](mine, step, H, W, **options))
    return np.stack(frames)


def _counts(rows, step, H, W, clip=255):
    out = np.zeros((2, H, W))
    for _t, x, y, p in rows:
        out[p, y, x] = min(out[p, y, x] + 1, clip)
    return out


def _last_event(rows, step, H, W):
    out = np.full((3, H, W), 127.0)
    for _t, x, y, p in rows:
        out[:, y, x] = 255 * p
    return out


def _length(rows):
    return max(rows[-1][0] - rows[0][0], 1)


def _stacked_histogram(rows, step, H, W, bins=10, clip=10, span="window"):
    out = np.zeros((2, bins, H, W))
    for t, x, y, p in rows:
        b = step.slice(t, bins)
        if span == "events":
            b = min((t - rows[0][0]) * bins // _length(rows), bins - 1)
        out[p, b, y, x] = min(out[p, b, y, x] + 1, clip)
    return out.reshape(2 * bins, H, W)


def _micro_bins(rows, step, H, W, bins=4, span="window"):
    out = np.zeros((bins, 2, H, W))
    for t, x, y, p in rows:
        b = step.slice(t, bins)
        if span == "events":
            b = (t - rows[0][0]) // max((rows[-1][0] - rows[0][0]) // bins, 1)
        if b < bins:
            out[b, p, y, x] += 1
    return out


def _voxel_cube(rows, step, H, W, tbin=2):
    out = np.zeros((2 * tbin, H, W))
    for t, x, y, p in rows:
        out[p * tbin + step.slice(t, tbin), y, x] = 1
    return out


def _volume(rows, H, W, bins):
    out = np.zeros((2, bins, H, W))
    for t, x, y, p in rows:
        star = (bins - 1) * (t - rows[0][0]) / _length(rows)
        for b in range(bins):
            out[p, b, y, x] += max(0, 1 - abs(b - star))
    return out


def _event_volume(rows, step, H, W, bins=5):
    return _volume(rows, H, W, bins).reshape(2 * bins, H, W)


def _voxel_grid(rows, step, H, W, bins=5, normalize=False):
    off, on = _volume(rows, H, W, bins)
    out = (on - off).round(12)
    values = out[out != 0].tolist()
    if not normalize or len(set(values)) < 2:
        return out
    mean = math.fsum(values) / len(values)
    deviation = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / len(values))
    return np.where(out != 0, (out - mean) / deviation, 0)


def _stack(rows, step, H, W, polarity="separate", value="sum"):
    off, on = _counts(rows, step, H, W, clip=10**9)
    out = np.stack([off, on]) if polarity == "separate" else (on - off)[None]
    return np.sign(out) if value == "binary" else out.clip(-127 if polarity == "signed" else 0, 255)


def _time_surface(rows, step, H, W, tau_us=50_000, history_us=0):
    out = np.zeros((2, H, W))
    for t, x, y, p in rows:
        out[p, y, x] = math.exp(-(step.end - t) / tau_us)
    return out


def _mixed_density(rows, step, H, W, bins=10, clip=32, focus="first"):
    out = np.zeros((bins, H, W))
    for t, x, y, p in rows:
        n = (t - rows[0][0] if focus == "first" else rows[-1][0] - t) / _length(rows)
        b = min(max(math.floor(bins + math.log2(n)), 0), bins - 1) if n else 0
        out[b:, y, x] += 2 * p - 1
    return out.clip(-clip, clip)


def _taf(rows, step, H, W, depth=8, bin_us=10_000, history_us=0):
    """As queues: bin after bin of time, the values of a bin get into the front of their pixels' queues."""
    queues = {}
    oldest = max([(step.end - t) // bin_us for t, *_ in rows], default=-1)
    for bin_ in range(oldest, -1, -1):
        for queue in queues.values():
            queue[:] = [age + 1 for age in queue]
        ages = {}
        for t, *pixel in rows:
            if (step.end - t) // bin_us == bin_:
                ages.setdefault(tuple(pixel), []).append((step.end - t) / bin_us - bin_)
        for pixel, found in ages.items():
            queues[pixel] = [sum(found) / len(found), *queues.get(pixel, [])][:depth]
    out = np.zeros((2, depth, H, W))
    for (x, y, p), queue in queues.items():
        for i, age in enumerate(queue):
            out[p, i, y, x] = 255 * max(0, 1 - math.log1p(age) / 8.7)
    return out.reshape(2 * depth, H, W)


_FORMS = {
    "counts": _counts,
    "last_event": _last_event,
    "stacked_histogram": _stacked_histogram,
    "micro_bins": _micro_bins,
    "voxel_cube": _voxel_cube,
    "voxel_grid": _voxel_grid,
    "event_volume": _event_volume,
    "sbt": _stack,
    "sbn": _stack,
    "time_surface": _time_surface,
    "mixed_density": _mixed_density,
    "taf": _taf,
}
