"""Does an image file end as its format says? What a copy that was cut short shows, without decoding."""

from __future__ import annotations

from typing import BinaryIO

from PIL import Image

from registry import UserError

_TAIL = 64  # bytes; so many zeros at the end of compressed data are a copy that was never finished
_PNG_END = b"IEND\xaeB\x60\x82"
_BOXES = ("AVIF", "JPEG2000")
_RAW = ("BMP", "TIFF", "PPM")  # where zeros may be black pixels


def is_complete(file: BinaryIO, length: int, image: Image.Image) -> bool:
    """True where the end of `file`, of `length` bytes and with the header `image`, is there. False where it is not
    found, so only decoding tells. ValueError where the end holds zeros only."""
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
        whole = any(tail) and (image.format not in _BOXES or _box_end(file) == length)  # PIL holds WebP to its length
    if not whole and not any(tail):
        raise UserError(f"its last {_TAIL} bytes and perhaps more are zeros: it was not copied to its end")
    return whole


def _jpeg_end(file: BinaryIO) -> bool:
    """Is there an end mark behind the first scan? Cameras append data of their own, and a preview has an end, too."""
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
    """Where the last of the boxes (length, type, content) ends that such a file is made of; None: it says not where."""
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
    """Do the header's offsets and lengths lie within the file?"""
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
