"""Decode image files to uint8 [H, W, 3] RGB (`read_image`), and read size and EXIF orientation (`image_header`)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torchvision.io import ImageReadMode, decode_jpeg

from registry import UserError

from ..files import regular_only
from .truncation import is_complete

_ORIENTATION = 0x0112  # EXIF tag; 1: as stored, 2 to 8: mirrored or rotated, 5 to 8 exchange width and height
ENDINGS = (".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".avif", ".jp2", ".ppm", ".pgm")
# PIL also opens unsafe formats: some start an interpreter (EPS), load other files, or are documents.
FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF", "AVIF", "JPEG2000", "PPM")
LIMIT = 2**29  # bytes of one decoded image, which for 3 channels of 8 bits is PIL's own limit of 179 million pixels
_THREE_BYTES = ("1", "L", "P", "RGB", "YCbCr", "LAB", "HSV", "I;16", "I;16B", "I;16L", "I;16N")  # at most, in RGB
_JPEG = ("JPEG", "MPO")  # MPO: a JPEG of several images, as phones write them
_BAND = 2**24  # pixels converted at once, which bounds the temporary memory


class UnreadableImage(UserError):
    """An image file cannot be used; the message names the file."""


def read_image(path: str | Path, upright: bool = False) -> np.ndarray:
    """Decode a file to uint8 [H, W, 3] RGB.

    Gray is repeated, alpha dropped, 16 bits are scaled to 8, and animations give their first frame. upright: rotate by
    the EXIF orientation. `UnreadableImage` where it is no regular file of `FORMATS`, decodes to more than `LIMIT` bytes
    or is damaged."""
    with _opened(path) as (file, image):
        turn = _turn(file, image) if upright else 1
        return np.ascontiguousarray(turned(_decode(file, image), turn))


def image_header(path: str | Path) -> tuple[tuple[int, int], int]:
    """((width, height) as stored, EXIF orientation 1..8). Same errors as `read_image`. The pixels are decoded only
    where `is_complete` cannot tell whether the file is truncated."""
    with _opened(path) as (file, image):
        size, turn = image.size, _turn(file, image)
        if not is_complete(file, os.fstat(file.fileno()).st_size, image):
            _decode(file, image)
        return size, turn


def image_headers(paths: Iterable[str]) -> Iterator[tuple[tuple[int, int], int] | ValueError]:
    """`image_header` of each path, or its error; files are read in parallel."""

    def header(path: str) -> tuple[tuple[int, int], int] | ValueError:
        try:
            return image_header(path)
        except ValueError as error:
            return error

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(header, paths)


def upright_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """(width, height) of an image of stored `size` after rotation by its EXIF `orientation`."""
    return size[::-1] if orientation >= 5 else size


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """[H, W, 3] as stored -> view rotated by the EXIF `orientation`."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels[:, ::-1] if orientation in (2, 3, 6, 7) else pixels


@contextmanager
def _opened(path: str | Path) -> Iterator[tuple[BinaryIO, Image.Image]]:
    """Open a file: (file, PIL image with its header read). `UnreadableImage` where it would decode to over `LIMIT`."""
    remedy = "Copy or export the image again"
    try:
        with open(path, "rb", opener=regular_only) as file:
            length = os.fstat(file.fileno()).st_size
            with Image.open(file, formats=FORMATS) as image:
                decoded = image.width * image.height * (3 if image.mode in _THREE_BYTES else 4)
                if max(decoded, length) > LIMIT:
                    remedy = "Scale it down, cut it into tiles, or save it with 8 bits a channel"
                    raise UserError(
                        f"{image.width}x{image.height} of mode {image.mode} are {decoded / 2**20:.0f} MiB decoded, "
                        f"{length / 2**20:.0f} MiB on disk, and {LIMIT / 2**20:.0f} MiB are the limit"
                    )
                yield file, image
    except Image.DecompressionBombError as error:
        raise UnreadableImage(f"{path}: cannot be decoded: {error} Scale it down or cut it into tiles") from error
    except UnidentifiedImageError as error:
        what = f"its content is none of {', '.join(FORMATS)}, or damaged from the start"
        raise UnreadableImage(f"{path}: cannot be decoded: {what}. {remedy}") from error
    except Exception as error:  # PIL raises any type on damaged files: KeyError, RuntimeError, MemoryError
        raise UnreadableImage(f"{path}: cannot be decoded: {str(error) or type(error).__name__}. {remedy}") from error


def _decode(file: BinaryIO, image: Image.Image) -> np.ndarray:
    """Pixels [H, W, 3] as stored."""
    if image.format in _JPEG:
        try:
            file.seek(0)
            content = torch.from_numpy(np.fromfile(file, np.uint8))
            return decode_jpeg(content, ImageReadMode.RGB).movedim(0, -1).numpy()  # half of PIL's time
        except RuntimeError:
            pass  # PIL gives a clearer message
    # torchvision's PNG decoder aborts the process where there is less data than the header announces.
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    rows = max(1, _BAND // image.width)
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        pixels[top:bottom] = _rgb(image.crop((0, top, image.width, bottom)))
    return pixels


def _rgb(image: Image.Image) -> np.ndarray:
    """uint8 [H, W, 3], or [H, W, 1] of gray."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _eight_bits(np.asarray(image)[..., None])
    if "transparency" in image.info and image.mode == "P":
        image = image.convert("RGBA")  # PIL warns of anything else
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _eight_bits(pixels: np.ndarray) -> np.ndarray:
    """0..65535 -> 0..255, rounded."""
    if pixels.min() < 0 or pixels.max() > 65535 or pixels.dtype.kind == "f":
        raise UserError(f"values {pixels.min()} to {pixels.max()} are neither of 8 nor of 16 bits")
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _turn(file: BinaryIO, image: Image.Image) -> int:
    """EXIF orientation 1..8; 1 where there is none or the EXIF data are damaged, which is common."""
    if image.format == "TIFF":
        return 1  # PIL rotates TIFF while decoding, and gives the rotated size
    try:
        if image.format == "PNG" and "exif" not in image.info:
            image.info["exif"] = _late_exif(file)
        turn = Image.Image.getexif(image).get(_ORIENTATION, 1)  # PngImageFile.getexif decodes all pixels
    except Exception:
        return 1
    return turn if turn in range(1, 9) else 1


def _late_exif(file: BinaryIO) -> bytes:
    """The eXIf chunk of a PNG, which may come after the pixels."""
    place = file.tell()
    file.seek(8)
    content = b""
    while len(head := file.read(8)) == 8 and head[4:] != b"IEND":
        length = int.from_bytes(head[:4], "big")
        if head[4:] == b"eXIf":
            content = file.read(min(length, 2**16))
            break
        file.seek(length + 4, os.SEEK_CUR)
    file.seek(place)
    return content
