"""Truncated image files are detected from their headers and last bytes, without decoding."""

import io

import numpy as np
import pytest
from PIL import Image

from data.images import image_file
from data.images.image_file import image_header, read_image

FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF", "AVIF", "JPEG2000", "PPM")


def encoded(kind, **options):
    """Noise, so that no row is a mere repetition."""
    pixels = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, kind, **options)
    return content.getvalue()


@pytest.fixture
def header(tmp_path):
    def read(content):
        file = tmp_path / "a.jpg"
        file.write_bytes(content)
        return image_header(file)

    return read


@pytest.mark.parametrize("kind", FORMATS)
def test_whole_files_are_not_decoded(header, monkeypatch, kind):
    content = encoded(kind)
    monkeypatch.setattr(image_file, "_decode", lambda *_: pytest.fail("decoded"))
    assert header(content) == ((160, 120), 1)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize("left", [20, 0.3, 0.7, -20])
@pytest.mark.parametrize("kind", FORMATS)
def test_files_that_are_cut_short(header, kind, left):
    content = encoded(kind)
    content = content[: int(left * len(content)) if 0 < left < 1 else left]
    if kind == "PNG" and left == -20:
        return  # only the end mark and a checksum lack, all pixels are there
    with pytest.raises(ValueError, match=r"a\.jpg: cannot be decoded: .*Copy or export"):
        header(content)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "AVIF", "JPEG2000"])
def test_files_that_end_in_zeros(header, kind):
    """A copy that took its room on the disk first and was never finished."""
    content = encoded(kind)
    half = len(content) // 2
    with pytest.raises(ValueError, match=r"a\.jpg: cannot be decoded: "):
        header(content[:half] + bytes(len(content) - half))


def test_what_cameras_append_is_no_damage(header, monkeypatch):
    preview = encoded("JPEG")
    whole = encoded("JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0" + preview)
    with pytest.raises(ValueError, match="truncated"):  # the end of the preview is not that of the image
        header(whole[: len(preview) + 5000])
    monkeypatch.setattr(image_file, "_decode", lambda *_: pytest.fail("decoded"))
    for content in (whole + b"SEFT" * 40, encoded("PNG") + b"more" * 40, encoded("GIF") + bytes(9)):
        assert header(content) == ((160, 120), 1)


def test_a_file_without_its_end_mark_is_read_where_it_can_be(header, tmp_path):
    assert header(encoded("PNG")[:-12]) == ((160, 120), 1)
    assert header(encoded("GIF")[:-1]) == ((160, 120), 1)
    assert read_image(tmp_path / "a.jpg").any()


@pytest.mark.parametrize("content", [b"", b"<!doctype html><title>404</title>" * 9, b"\xff\xd8\xff", bytes(5000)])
def test_files_that_are_no_images(header, content):
    with pytest.raises(ValueError, match=r"a\.jpg: cannot be decoded"):
        header(content)
