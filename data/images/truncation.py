"""Detect truncated image files by their last bytes, without decoding (`is_complete`)."""

from __future__ import annotations

from typing import BinaryIO

from PIL import Image

from registry import UserError

_TAIL = 64  # bytes; that many zeros at the end of compressed data mean an incomplete copy
_PNG_END = b"IEND\xaeB\x60\x82"
_BOXES = ("AVIF", "JPEG2000")
_RAW = ("BMP", "TIFF", "PPM")  # where zeros may be black pixels


def is_complete(file: BinaryIO, length: int, image: Image.Image) -> bool:
    """True if the end mark of the format is found in `file` (`length` bytes, opened as `image`). False: unknown, decode
    the image to find out. ValueError where the last bytes are all zero."""
    if image.format in _RAW:
        return _raw_end(length, image)
    file.seek(max(0, length - _TAIL))
    tail = file.read(_TAIL)
    if image.format in ("JPEG", "MPO"):
        whole = tail.endswith(b"\xff\xd9") or _jpeg_end(file)
    elif image.format == "PNG":
        whole = tail.endswith(_PNG_END) or _contains(file, _PNG_END)
    elif image.format == "GIF":
        whole = tail.rstrip(b"\0").endswith(b"\x3b")
    else:
        whole = any(tail) and (image.format not in _BOXES or _box_end(file) == length)  # PIL checks the length of WebP
    if not whole and not any(tail):
        raise UserError(f"its last {_TAIL} bytes are zeros: it is an incomplete copy")
    return whole


def _jpeg_end(file: BinaryIO) -> bool:
    """Whether an end mark follows the first scan. It need not be last, and one before the scan is that of a preview."""
    file.seek(0)
    content = file.read()
    at = 2
    while content[at : at + 1] == b"\xff" and content[at + 1 : at + 2] != b"\xda":
        at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    return content.find(b"\xff\xd9", at) >= 0


def _contains(file: BinaryIO, mark: bytes) -> bool:
    file.seek(0)
    return mark in file.read()


def _box_end(file: BinaryIO) -> int | None:
    """End of the last box (length, type, content) of an ISO container; None where its length is not given."""
    at = 0
    while True:
        file.seek(at)
        head = file.read(16)
        if len(head) < 8:
            return at
        size = int.from_bytes(head[:4], "big")
        size = int.from_bytes(head[8:], "big") if size == 1 else size
        if size < 8:
            return None
        at += size


def _raw_end(length: int, image: Image.Image) -> bool:
    """Whether offsets and lengths in the header lie within the file."""
    if image.format == "TIFF":
        tags = image.tag_v2  # type: ignore[attr-defined]
        for offsets, counts in ((273, 279), (324, 325)):  # of strips, of tiles
            if offsets in tags and counts in tags:
                return max(map(sum, zip(tags[offsets], tags[counts], strict=True)), default=length + 1) <= length
        return False
    tile = next(iter(getattr(image, "tile", [])), None)  # decoder, place, offset, arguments
    if tile is None or tile[0] != "raw":
        return False
    bits = {"1": 1, "P": 8, "L": 8, "RGB": 24, "RGBA": 32}.get(image.mode, 0)
    args = tile[3][0] if isinstance(tile[3], tuple) else tile[3]
    bits = max(bits, 32 if "X" in args else 0)  # "BGRX"
    row = -(-image.width * bits // 8)
    return bits > 0 and tile[2] + image.height * row <= length
