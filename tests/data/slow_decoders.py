"""Reference decoders: every event format, one record at a time, from its specification."""

import h5py
import numpy as np

from data import Problems
from data.recordings.dat_header import read_header
from data.recordings.raw_header import read_raw_header

__all__ = ["slow_decode"]

JITTER = 1000


def slow_decode(path):
    """(times, rows) of all records, rows of x, y, p, the times clamped. None where a time lies too far back, more than
    1 % are a little back, or the clock is not clear."""
    decode = DECODERS[path.suffix]
    rows = decode(path)
    if rows is None:
        return None
    latest, times, moved = None, [], 0
    for t, *_ in rows:
        latest = t if latest is None else max(t, latest)
        if t < latest - JITTER:
            return None
        moved += t < latest
        times.append(latest)
    if moved > max(len(rows) / 100, 10):
        return None
    return np.array(times, np.int64), np.array([row[1:] for row in rows], np.int64).reshape(-1, 3)


def dat(path):
    header = read_header(path, Problems())
    body = path.read_bytes()[header.offset :]
    rows, t, before, wraps, gaps = [], None, None, 0, 0
    for i in range(header.events):
        raw, place = (int.from_bytes(body[8 * i + k : 8 * i + k + 4], "little") for k in (0, 4))
        if t is None:
            t = before = raw
        step = raw - before
        if step < -(2**32) * 3 // 4:
            step, wraps = step + 2**32, wraps + 1
        elif step > 2**32 - JITTER:
            step -= 2**32
        elif step > 2**31:
            gaps += 1
        t, before = t + step, raw
        rows.append((t, place % 2**14, place >> 14 & 0x3FFF, place >> 28 & 1))
    return None if wraps and gaps else rows


def bin_(path):
    content, rows, added, clock = path.read_bytes(), [], 0, Clock(2**23, JITTER)
    for i in range(0, len(content) // 5 * 5, 5):
        x, y, a, b, c = content[i : i + 5]
        if y == 240:
            added += 8192
        else:
            rows.append((added + clock.at((a & 127) << 16 | b << 8 | c), x, y, a >> 7))
    return rows


def npz(path):
    with np.load(path) as file:
        return list(zip(*(file[name].tolist() for name in "txyp"), strict=True))


def hdf5(path):
    with h5py.File(path) as file:
        group = file.get("events", file)
        return list(zip(*(group[name][()].tolist() for name in "txyp"), strict=True))


def _words(path, size):
    offset = read_raw_header(path).offset
    body = path.read_bytes()[offset:]
    return [int.from_bytes(body[i : i + size], "little") for i in range(0, len(body) // size * size, size)]


def raw(path):
    header = read_raw_header(path)
    if header.encoding == "EVT3":
        return evt3(_words(path, 2))
    if header.encoding == "EVT2":
        return evt2(_words(path, 4))
    words, order = _words(path, 8), header.endianness
    if order == "legacy" or (order != "little" and words and words[0] >> 60 != 8):  # a recording begins with a time
        words = [w >> 32 | (w & 0xFFFFFFFF) << 32 for w in words]
    return evt21(words)


class Clock:
    """A clock that wraps where it falls by more than 3/4 of its range, but for a fall right after as large a leap. Once
    it has wrapped, a step ahead by all of its range but `jitter` is one back."""

    def __init__(self, span, jitter):
        self.span, self.jitter, self.now, self.rounds, self.leapt = span, jitter, None, 0, False

    def at(self, value):
        if self.now is None:
            self.now = value
        step, self.leapt, leapt = value - self.now % self.span, False, self.leapt
        if step >= self.span - self.jitter:
            step -= self.span * (self.rounds > 0)
        elif step > 3 * self.span // 4:
            self.leapt = True
        elif step < -(3 * self.span // 4) and not leapt:
            step, self.rounds = step + self.span, self.rounds + 1
        self.now += step
        return self.now


def evt2(words):
    high, rows, clock = None, [], Clock(2**28, 16)
    for word in words:
        kind = word >> 28
        if kind == 8:
            high = clock.at(word & 0xFFFFFFF)
        elif kind < 2 and high is not None:
            rows.append((high * 64 + (word >> 22 & 63), word >> 11 & 2047, word & 2047, kind))
    return rows


def evt21(words):
    high, rows, clock = None, [], Clock(2**28, 16)
    for word in words:
        kind = word >> 60
        if kind == 8:
            high = clock.at(word >> 32 & 0xFFFFFFF)
        elif kind < 2 and high is not None:
            t, x, y = high * 64 + (word >> 54 & 63), word >> 43 & 2047, word >> 32 & 2047
            rows += [(t, x + k, y, kind) for k in range(32) if word >> k & 1]
    return rows


def evt3(words):
    high = y = base = None
    low = polarity = 0
    rows, clock = [], Clock(2**12, 1)
    for word in words:
        kind, value = word >> 12, word & 4095
        if kind == 8:
            new = clock.at(value)
            high, low = new, low if new == high else 0
        elif kind == 6:
            low = value
        elif kind == 0:
            y = value & 2047
        elif kind == 3:
            base, polarity = value & 2047, value >> 11
        elif kind == 2 and None not in (high, y):
            rows.append((high * 4096 + low, value & 2047, y, value >> 11))
        elif kind in (4, 5):
            size = {4: 12, 5: 8}[kind]
            if None not in (high, y, base) and base < 2048:
                rows += [(high * 4096 + low, base + k, y, polarity) for k in range(size) if value >> k & 1]
            base = None if base is None else base + size
    return rows


DECODERS = {".dat": dat, ".bin": bin_, ".npz": npz, ".h5": hdf5, ".raw": raw}
