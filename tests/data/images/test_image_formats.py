"""Decoding of every image format, against expectations computed without the reader."""

import struct
import warnings
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from data.images.image_file import image_header, read_image

Y, X = np.mgrid[:20, :30]
RGB = np.stack([X * 8, Y * 12, (X + Y) * 5], -1).astype(np.uint8)  # smooth: JPEG keeps it within a few levels
IMAGE = Image.fromarray(RGB)
GRAY = RGB[..., 0]
ALPHA = np.full((20, 30), 7, np.uint8)
DEEP = np.random.default_rng(0).integers(0, 65536, (20, 30, 3)).astype(np.uint16)
OTHER = Image.new("RGB", (30, 20), "red")  # the second frame of an animation


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", DeprecationWarning)  # torchvision's, of its decoders
        yield


@pytest.mark.parametrize(
    ("name", "format"),
    [("a.png", "PNG"), ("a.bmp", "BMP"), ("a.tif", "TIFF"), ("a.webp", "WEBP"), ("wrong.jpg", "PNG"), ("none", "BMP")],
)
def test_lossless(tmp_path, name, format):
    """Found by what the file begins with, not by its ending."""
    IMAGE.save(tmp_path / name, format, **({"lossless": True} if format == "WEBP" else {}))
    assert (read_image(tmp_path / name) == RGB).all()
    assert image_header(tmp_path / name) == ((30, 20), 1)


def test_alpha_is_dropped(tmp_path):
    for name in ("a.png", "a.tif"):
        Image.fromarray(np.dstack([RGB, ALPHA])).save(tmp_path / name)
        assert (read_image(tmp_path / name) == RGB).all()
    Image.fromarray(np.dstack([GRAY, ALPHA])).save(tmp_path / "gray.png")
    assert (read_image(tmp_path / "gray.png") == GRAY[..., None]).all()


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif"])
def test_gray_is_repeated_and_one_bit_is_black_and_white(tmp_path, name):
    Image.fromarray(GRAY).save(tmp_path / name)
    assert (read_image(tmp_path / name) == GRAY[..., None]).all()
    Image.fromarray(GRAY > 99).save(tmp_path / name)
    assert (read_image(tmp_path / name) == np.where(GRAY > 99, 255, 0)[..., None]).all()


@pytest.mark.parametrize(
    ("name", "transparency"),
    [("a.png", None), ("a.png", 3), ("a.png", bytes([128] * 16)), ("a.gif", None), ("a.gif", 3)],
)
def test_palette(tmp_path, name, transparency):
    """A transparent entry has the colour that is stored for it."""
    image = IMAGE.quantize(16)
    palette = np.array(image.getpalette(), np.uint8).reshape(-1, 3)
    image.save(tmp_path / name, **({} if transparency is None else {"transparency": transparency}))
    assert (read_image(tmp_path / name) == palette[np.asarray(image)]).all()


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_sixteen_bits_are_scaled(tmp_path, name):
    """Within one level: 0 stays 0, 65535 becomes 255."""
    DEEP[0, 0], DEEP[0, 1] = 0, 65535
    kinds = {"gray": DEEP[..., 0], "rgb": DEEP[..., ::-1], "rgba": np.dstack([DEEP[..., ::-1], DEEP[..., 0]])}
    for kind, pixels in kinds.items():  # cv2 takes BGR
        cv2.imwrite(str(tmp_path / name), pixels)
        read = read_image(tmp_path / name)
        expected = DEEP[..., :1] if kind == "gray" else DEEP
        assert read.dtype == np.uint8 and np.abs(read - expected / 257).max() <= 1, kind
        assert (read[0, 0] == 0).all() and (read[0, 1] == 255).all(), kind


def test_float_tiff_is_refused(tmp_path):
    cv2.imwrite(str(tmp_path / "a.tif"), GRAY.astype(np.float32) / 255)
    with pytest.raises(ValueError, match=r"a\.tif: cannot be decoded: values 0\.0 to 0\.9.* neither of 8 nor of 16"):
        read_image(tmp_path / "a.tif")


def test_cmyk(tmp_path):
    for name in ("a.jpg", "a.tif"):
        IMAGE.convert("CMYK").save(tmp_path / name, **({"quality": 100} if name == "a.jpg" else {}))
        assert np.abs(read_image(tmp_path / name).astype(int) - RGB).max() <= 3


def test_adobe_ycck_jpeg(tmp_path):
    """Adobe's mark says that the four components are Y, Cb, Cr, K; all are stored inverted."""
    y, cb, cr, k = 150, 100, 170, 220  # as stored
    flat = np.broadcast_to(255 - np.uint8([y, cb, cr, k]), (16, 16, 4))  # PIL inverts what it writes
    Image.fromarray(flat, "CMYK").save(tmp_path / "a.jpg", quality=100)
    raw = (tmp_path / "a.jpg").read_bytes()
    mark = raw.index(b"Adobe") + 11
    (tmp_path / "a.jpg").write_bytes(raw[:mark] + b"\2" + raw[mark + 1 :])
    rgb = [y + 1.402 * (cr - 128), y - 0.344136 * (cb - 128) - 0.714136 * (cr - 128), y + 1.772 * (cb - 128)]
    # libjpeg: C = 255 - R and so on; inverted, C is R again and 255 - C the light that it lets pass.
    expected = (255 - np.array(rgb).clip(0, 255)) * k / 255
    assert np.abs(read_image(tmp_path / "a.jpg") - expected).max() <= 3


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.tif", "a.png"])
def test_first_frame_of_an_animation(tmp_path, name):
    extra = {"a.webp": {"lossless": True}}.get(name, {})
    IMAGE.save(tmp_path / name, save_all=True, append_images=[OTHER], **extra)
    assert np.abs(read_image(tmp_path / name).astype(int) - RGB).max() <= (16 if name == "a.gif" else 0)


def test_phone_jpeg_of_two_images(tmp_path):
    IMAGE.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[OTHER], quality=95)
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - RGB).max() <= 6


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.bmp", "a.tif", "a.gif", "a.webp"])
def test_broken_images(tmp_path, name):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    for content in (whole[: len(whole) // 2], whole[:-40], b"", b"hello"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=rf"{name}: cannot be decoded.*Copy or export the image again"):
            read_image(tmp_path / name)
    with pytest.raises(ValueError, match="absent.png: cannot be decoded: .*No such file"):
        read_image(tmp_path / "absent.png")


def png(width: int, height: int, pixels: bytes) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


def test_png_with_less_data_than_its_header_says(tmp_path):
    """Whole chunks with right sums, too few lines: torchvision's decoder ends the process here."""
    (tmp_path / "a.png").write_bytes(png(30, 20, b"\0" * 100))
    with pytest.raises(ValueError, match="a.png: cannot be decoded: image file is truncated"):
        read_image(tmp_path / "a.png")


def test_header_that_claims_too_much(tmp_path):
    """A few bytes that would fill the memory are refused before anything is allocated."""
    (tmp_path / "a.png").write_bytes(png(60000, 60000, b"\0" * 100))
    Image.new("L", (16, 16)).save(tmp_path / "a.jpg")
    raw = (tmp_path / "a.jpg").read_bytes()
    size = raw.index(b"\xff\xc0") + 5
    (tmp_path / "a.jpg").write_bytes(raw[:size] + struct.pack(">HH", 60000, 60000) + raw[size + 4 :])
    for name in ("a.png", "a.jpg"):
        for read in (read_image, image_header):
            with pytest.raises(ValueError, match=rf"{name}: cannot be decoded: Image size \(3600000000 pixels\)"):
                read(tmp_path / name)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp"])
@pytest.mark.parametrize("orientation", [*range(1, 9), 0, 9])
def test_orientation(tmp_path, name, orientation):
    write_turned(tmp_path / name, orientation)
    with Image.open(tmp_path / name) as image:
        stored, expected = np.array(image.convert("RGB")), np.array(ImageOps.exif_transpose(image).convert("RGB"))
    assert (expected.shape == (30, 20, 3)) == (orientation in (5, 6, 7, 8))
    assert (read_image(tmp_path / name) == stored).all()
    assert (read_image(tmp_path / name, upright=True) == expected).all()
    assert image_header(tmp_path / name) == ((30, 20), orientation if 1 <= orientation <= 8 else 1)


def test_orientation_behind_the_pixels_of_a_png(tmp_path):
    """The chunk may stand anywhere, and is found without decoding."""
    write_turned(tmp_path / "a.png", 6)
    raw = (tmp_path / "a.png").read_bytes()
    start = raw.index(b"eXIf") - 4
    chunk = raw[start : start + 12 + int.from_bytes(raw[start : start + 4], "big")]
    late = raw.replace(chunk, b"").replace(raw[-12:], chunk + raw[-12:])
    (tmp_path / "a.png").write_bytes(late)
    assert image_header(tmp_path / "a.png") == ((30, 20), 6)
    assert (read_image(tmp_path / "a.png", upright=True) == np.rot90(RGB, -1)).all()
    (tmp_path / "a.png").write_bytes(late.replace(late[late.index(b"IDAT") + 4 :][:20], bytes(20)))
    assert image_header(tmp_path / "a.png") == ((30, 20), 6)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp"])
def test_damaged_exif_data_count_as_none(tmp_path, name):
    IMAGE.save(tmp_path / name, exif=b"Exif\0\0" + bytes(range(40, 80)))
    for upright in (False, True):
        assert np.abs(read_image(tmp_path / name, upright).astype(int) - RGB).max() < 99
    assert image_header(tmp_path / name) == ((30, 20), 1)


def test_tiff_is_always_upright(tmp_path):
    """Its orientation is part of the format, and readers apply it."""
    write_turned(tmp_path / "a.tif", 6)
    for upright in (False, True):
        assert (read_image(tmp_path / "a.tif", upright) == np.rot90(RGB, -1)).all()
    assert image_header(tmp_path / "a.tif") == ((20, 30), 1)


def write_turned(path, orientation: int, pixels: np.ndarray = RGB) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, exif=exif, **({"lossless": True} if path.suffix == ".webp" else {}))
