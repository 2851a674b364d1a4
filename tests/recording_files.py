"""Helper: minimal writers of every event format, word by word from its specification."""

import h5py
import numpy as np

__all__ = ["ENDINGS", "WRITERS", "assert_same", "some_events"]

HEIGHT, WIDTH = 240, 304


def some_events(n=3000, span=200_000, seed=0, width=250, height=200):
    """t, x, y, p in order of time, within the 8 bits of a .bin."""
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, span, n))
    return t, rng.integers(0, width, n), rng.integers(0, height, n), rng.integers(0, 2, n)


def assert_same(events, columns):
    for name, wanted in zip("txyp", columns, strict=True):
        np.testing.assert_array_equal(getattr(events, name), wanted, err_msg=name)


def write_raw_dat(
    path, t, x, y, p, header=b"% Data file containing CD events.\n% Version 2\n% Height 240\n% Width 304\n"
):
    """A .dat of any times and addresses, right or not."""
    t, x, y, p = (np.asarray(a, np.int64) for a in (t, x, y, p))
    records = np.stack([t % 2**32, x | y << 14 | p << 28], axis=1).astype("<u4")
    path.write_bytes(header + b"\x0c\x08" + records.tobytes())


def write_bin(path, t, x, y, p, marks=False):
    out, added = bytearray(), 0
    for ti, xi, yi, pi in zip(*(np.asarray(a).tolist() for a in (t, x, y, p)), strict=True):
        while marks and ti - added >= 8192:
            out += bytes((0, 240, 0, 0, 0))
            added += 8192
        ti -= added
        out += bytes((xi, yi, pi << 7 | ti >> 16, ti >> 8 & 255, ti & 255))
    path.write_bytes(out)


def write_npz(path, t, x, y, p, save=np.savez, **more):
    x, y, p = np.asarray(x, np.uint16), np.asarray(y, np.uint16), np.asarray(p, np.uint8)
    save(path, t=np.asarray(t), x=x, y=y, p=p, **({"height": HEIGHT, "width": WIDTH} | more))


def write_hdf5(path, t, x, y, p, group="events", sensor=True, t_offset=None, **how):
    with h5py.File(path, "w") as file:
        events = file.require_group(group) if group else file
        for name, column, kind in zip("txyp", (t, x, y, p), ("i8", "u2", "u2", "u1"), strict=True):
            events.create_dataset(name, data=np.asarray(column, kind), **how)
        if sensor:
            events["height"], events["width"] = HEIGHT, WIDTH
        if t_offset is not None:
            file["t_offset"] = t_offset


def _raw(path, name, dtype, words):
    header = f"% Date 2026-01-01 00:00:00\n% format {name};height={HEIGHT};width={WIDTH}\n% end\n"
    path.write_bytes(header.encode() + np.array(words, dtype).tobytes())


def write_evt2(path, t, x, y, p):
    words, high = [], -1
    for ti, xi, yi, pi in zip(*(np.asarray(a).tolist() for a in (t, x, y, p)), strict=True):
        if ti >> 6 != high:
            high = ti >> 6
            words.append(8 << 28 | high % 2**28)
        words.append(pi << 28 | (ti & 63) << 22 | xi << 11 | yi)
    _raw(path, "EVT2", "<u4", words)


def write_evt21(path, t, x, y, p, order="little"):
    """Events of one time, row, polarity and group of 32 pixels that follow each other by x share a word."""
    words, high, last = [], -1, None
    for ti, xi, yi, pi in zip(*(np.asarray(a).tolist() for a in (t, x, y, p)), strict=True):
        if ti >> 6 != high:
            high, last = ti >> 6, None
            words.append((8 << 28 | high % 2**28) << 32)
        key = pi << 28 | (ti & 63) << 22 | (xi & ~31) << 11 | yi
        if key == last and words[-1] & 0xFFFFFFFF < 1 << xi % 32:
            words[-1] |= 1 << xi % 32
        else:
            words.append(key << 32 | 1 << xi % 32)
        last = key
    if order == "legacy":
        words = [w >> 32 | (w & 0xFFFFFFFF) << 32 for w in words]
    _raw(path, f"EVT21;endianness={order}" if order else "EVT21", "<u8", words)


def write_evt3(path, t, x, y, p):
    """Events of one time, row and polarity with x rising are vectors of 12 or 8 pixels, others single ones."""
    columns = [np.asarray(a).tolist() for a in (t, x, y, p)]
    words, high, low, row, i = [], None, None, None, 0
    while i < len(columns[0]):
        ti, xi, yi, pi = (c[i] for c in columns)
        if ti >> 12 != high:
            high, low = ti >> 12, 0
            words.append(0x8000 | high % 4096)
        if ti & 4095 != low:
            low = ti & 4095
            words.append(0x6000 | low)
        if yi != row:
            row = yi
            words.append(yi)
        end = i + 1
        while end < len(columns[0]) and [c[end] for c in columns][0::2] == [ti, yi] and columns[3][end] == pi:
            if columns[1][end] <= columns[1][end - 1]:
                break
            end += 1
        if end - i == 1:
            words.append(0x2000 | pi << 11 | xi)
        else:
            words.append(0x3000 | pi << 11 | xi)
            rest, base = columns[1][i:end], xi
            while rest:
                size, kind = (12, 0x4000) if len(rest) > 2 else (8, 0x5000)
                words.append(kind | sum(1 << (v - base) for v in rest if v < base + size))
                base += size
                rest = [v for v in rest if v >= base]
        i = end
    _raw(path, "EVT3", "<u2", words)


def write_dat(path, t, x, y, p):
    from data.recordings import write_dat

    write_dat(path, t, x, y, p, WIDTH, HEIGHT)


def write_packed_npz(path, t, x, y, p):
    write_npz(path, t, x, y, p, np.savez_compressed)


def write_packed_hdf5(path, t, x, y, p):
    write_hdf5(path, t, x, y, p, chunks=(500,), maxshape=(None,), compression="gzip", fletcher32=True)


def write_legacy_evt21(path, t, x, y, p):
    write_evt21(path, t, x, y, p, "legacy")


WRITERS = {
    "a_td.dat": write_dat,
    "a.bin": write_bin,
    "a.npz": write_npz,
    "packed.npz": write_packed_npz,
    "a_td.dat.h5": write_hdf5,
    "packed.h5": write_packed_hdf5,
    "evt2.raw": write_evt2,
    "evt21.raw": write_evt21,
    "legacy.raw": write_legacy_evt21,
    "evt3.raw": write_evt3,
}
ENDINGS = {name[name.rindex(".") :] for name in WRITERS}
