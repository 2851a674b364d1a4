"""A picture file as pixels: uint8 [H, W, 3] RGB, whatever it is; and as the header alone tells, its size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from torchvision.io import ImageReadMode, decode_jpeg, read_file

_ORIENTATION = 0x0112  # EXIF tag; 1: as stored, 2 to 8: to be mirrored or turned, 5 to 8 exchange width and height
ENDINGS = (".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".avif", ".jp2")
_JPEG = ("JPEG", "MPO")  # MPO: a JPEG of several pictures, as phones write them


def read_image(path: str | Path, upright: bool = False) -> np.ndarray:
    """Decode a file to uint8 [H, W, 3] RGB: gray is repeated, alpha dropped, 16 bits scaled to 8, of an animation the
    first frame taken. As it is stored, or `upright`: turned as its EXIF orientation says. ValueError naming the file
    where it cannot be decoded whole."""
    try:
        with Image.open(path) as image:  # refuses a header that claims more than 179 million pixels
            turn = _turn(image) if upright else 1
            return np.ascontiguousarray(turned(_decode(image, path), turn))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _unreadable(path, error) from error


def image_header(path: str | Path) -> tuple[tuple[int, int], int]:
    """((width, height) as stored, EXIF orientation 1..8), without decoding. ValueError naming the file."""
    try:
        with Image.open(path) as image:
            return image.size, _turn(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _unreadable(path, error) from error


def upright_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """(width, height) of a picture that is stored with `size`, once it is turned."""
    return size[::-1] if orientation >= 5 else size


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """[H, W, 3] as stored -> a view that is upright."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels[:, ::-1] if orientation in (2, 3, 6, 7) else pixels


def _decode(image: Image.Image, path: str | Path) -> np.ndarray:
    """Pixels [H, W, 3] as stored."""
    if image.format in _JPEG:
        try:
            return decode_jpeg(read_file(str(path)), ImageReadMode.RGB).movedim(0, -1).numpy()  # half of PIL's time
        except RuntimeError:
            pass  # PIL has clearer words on what is wrong
    # torchvision's decoder of PNG ends the process where the data are short of the header's size.
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _eight_bits(np.repeat(np.asarray(image)[..., None], 3, axis=2))
    if "transparency" in image.info and image.mode == "P":
        image = image.convert("RGBA")  # PIL warns of anything else
    return np.array(image.convert("RGB"))


def _eight_bits(pixels: np.ndarray) -> np.ndarray:
    """0..65535 -> 0..255, rounded."""
    if pixels.min() < 0 or pixels.max() > 65535 or pixels.dtype.kind == "f":
        raise ValueError(f"values {pixels.min()} to {pixels.max()} are neither of 8 nor of 16 bits")
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _turn(image: Image.Image) -> int:
    turn = image.getexif().get(_ORIENTATION, 1)
    # PIL turns a TIFF itself while it decodes one, and gives the size that it has then.
    return turn if turn in range(1, 9) and image.format != "TIFF" else 1


def _unreadable(path: str | Path, error: Exception) -> ValueError:
    return ValueError(f"{path}: cannot be decoded: {error}. Copy or export the picture again")
