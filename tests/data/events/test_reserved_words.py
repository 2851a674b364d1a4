"""Reserved words in .raw files, used as padding by some cameras: ignored everywhere, and reported once."""

import logging

import numpy as np
import pytest
from recording_files import assert_same, some_events, write_evt2, write_evt3, write_evt21

from data import Problems
from data.recordings import audit_events, open_events

EVER = 1 << 60
RESERVED = {
    "evt2.raw": (2, 3, 4, 5, 6, 7, 9, 0xB, 0xC, 0xD),
    "evt21.raw": (2, 3, 4, 5, 6, 7, 9, 0xB, 0xC, 0xD),
    "legacy.raw": (2, 3, 4, 5, 6, 7, 9, 0xB, 0xC, 0xD),
    "unnamed.raw": (2, 3, 4, 5, 6, 7, 9, 0xB, 0xC, 0xD),
    "evt3.raw": (1, 9, 0xB, 0xC, 0xD),
}
EACH = pytest.mark.parametrize(("name", "kind"), [(name, kind) for name, kinds in RESERVED.items() for kind in kinds])


def padded(folder, name, kind, nibble=None, count=2000):
    """3000 events, and `count` words of a type between them, filled with `nibble` (as padding is: the type itself)."""
    columns, path = some_events(), folder / name
    size = {"evt2.raw": 4, "evt3.raw": 2}.get(name, 8)
    if size == 8:
        write_evt21(path, *columns, order="little" if name == "evt21.raw" else "legacy")
    else:
        (write_evt2 if size == 4 else write_evt3)(path, *columns)
    header, end, body = path.read_bytes().partition(b"% end\n")
    if name == "unnamed.raw":
        header = header.replace(b";endianness=legacy", b"")
    words = np.frombuffer(body, f"<u{size}").tolist()
    word = int(f"{kind:x}" + f"{kind if nibble is None else nibble:x}" * (2 * size - 1), 16)
    if name in ("legacy.raw", "unnamed.raw"):
        word = word >> 32 | (word & 0xFFFFFFFF) << 32
    at = np.sort(np.random.default_rng(kind).integers(0, len(words) + 1, count))
    path.write_bytes(header + end + np.insert(np.array(words, f"<u{size}"), at, word).tobytes())
    return path, columns, len(words) + count


@EACH
def test_they_are_ignored_and_said_once(tmp_path, name, kind, caplog):
    path, columns, total = padded(tmp_path, name, kind)
    with caplog.at_level(logging.WARNING):
        reader = open_events(path)
        assert_same(reader.read(-1, EVER), columns)
        assert_same(reader.read(100_000, EVER), [c[columns[0] > 100_000] for c in columns])
    assert (len(reader), reader.dropped) == (3000, 0)
    assert len(caplog.records) == 1
    assert f"reserved words: 2000 of {total} words: 2000 of type 0x{kind:X}" in caplog.text


@pytest.mark.parametrize("name", RESERVED)
@pytest.mark.parametrize("nibble", [0, 0xF])
def test_whatever_is_in_them(tmp_path, name, nibble):
    path, columns, _ = padded(tmp_path, name, 9, nibble)
    problems = Problems()
    assert audit_events(path, problems).events == 3000
    assert problems.counts() == {"reserved words": 1}
    assert_same(open_events(path).read(-1, EVER), columns)


@pytest.mark.parametrize("name", ["evt2.raw", "evt21.raw", "legacy.raw", "evt3.raw"])
def test_a_file_of_nothing_else_is_no_recording(tmp_path, name):
    path, _, _ = padded(tmp_path, name, 9)
    header, end, body = path.read_bytes().partition(b"% end\n")
    path.write_bytes(header + end + b"\x99" * len(body))
    with pytest.raises(ValueError, match="words without meaning: .* have no known type: .* of type 0x9"):
        open_events(path)
