"""Hostile image and label files (no regular files, decompression bombs) are refused with a message."""

import multiprocessing
import os
import resource
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from data import create_dataset
from data.images import image_file
from data.images.image_file import ENDINGS, FORMATS, LIMIT, image_header, read_image

REPOSITORY = Path(__file__).parents[3]


@pytest.mark.parametrize("format", ["EPS", "PDF", "PCX", "ICO", "SGI", "TGA", "IM", "DDS", "ICNS"])
def test_formats_that_are_not_meant_are_refused_under_any_name(tmp_path, format):
    path = tmp_path / "a.png"
    Image.new("RGB", (32, 32), "red").save(path, format)
    for read in (read_image, image_header):
        with pytest.raises(ValueError, match=rf"a\.png: cannot be decoded: .* none of {', '.join(FORMATS)}"):
            read(path)


def test_postscript_starts_no_interpreter(tmp_path, monkeypatch):
    """An EPS under the name of a PNG, where an interpreter is installed."""
    ran = tmp_path / "ran"
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {ran}\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png", "EPS")
    with pytest.raises(ValueError, match=r"a\.png: cannot be decoded"):
        read_image(tmp_path / "a.png")
    assert not ran.exists()


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_ending_that_is_looked_for_can_be_read(tmp_path, ending):
    if ending == ".avif" and not features.check("avif"):
        pytest.skip("need a Pillow that reads AVIF")
    path = tmp_path / f"a{ending}"
    image = Image.new("L" if ending == ".pgm" else "RGB", (32, 24), "white")
    image.save(path, "JPEG" if ending == ".jfif" else None)
    assert read_image(path).shape == (24, 32, 3) and image_header(path) == ((32, 24), 1)


def zeros_tiff(side: int, bits: int, sample_format: int) -> bytes:
    """A deflated TIFF of `side` x `side` zeros of one channel: a thousandth of its decoded size."""
    strip = zlib.compress(bytes(side * side * bits // 8), 9)
    entries = [(256, 4, side), (257, 4, side), (258, 3, bits), (259, 3, 8), (262, 3, 1), (273, 4, 0), (277, 3, 1)]
    entries += [(278, 4, side), (279, 4, len(strip)), (339, 3, sample_format)]
    start = 8 + 2 + 12 * len(entries) + 4
    entries[5] = (273, 4, start)
    table = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + table + struct.pack("<I", 0) + strip


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(("bits", "sample_format"), [(32, 2), (32, 3)])
def test_decoded_size_is_checked_before_decoding(tmp_path, bits, sample_format):
    """PIL's limit counts pixels: 13000 x 13000 values of 4 bytes pass it."""
    path = tmp_path / "a.tif"
    header = zeros_tiff(16, bits, sample_format)
    path.write_bytes(header)
    assert read_image(path).shape == (16, 16, 3) if sample_format == 2 else image_header(path)
    path.write_bytes(header.replace(struct.pack("<I", 16), struct.pack("<I", 13000)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for read in (read_image, image_header):
        with pytest.raises(ValueError, match=r"a\.tif: .*13000x13000 .* 645 MiB decoded.* 512 MiB .*[Ss]cale it down"):
            read(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


def test_conversion_in_bands_gives_the_same(tmp_path, monkeypatch):
    deep = np.arange(60_000).reshape(200, 300)
    Image.fromarray(deep.astype(np.int32)).save(tmp_path / "a.tif")
    colour = np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)
    Image.fromarray(colour).save(tmp_path / "a.png")
    Image.fromarray(colour).quantize(16).save(tmp_path / "palette.png", transparency=3)
    whole = read_image(tmp_path / "palette.png")
    monkeypatch.setattr(image_file, "_BAND", 3100)
    assert (read_image(tmp_path / "a.tif") == ((deep + 128) // 257)[..., None]).all()
    assert (read_image(tmp_path / "a.png") == colour).all()
    assert (read_image(tmp_path / "palette.png") == whole).all()


def test_a_file_longer_than_any_decoded_image_is_refused(tmp_path):
    """A sparse file takes no disk, but reading it would take all memory."""
    path = tmp_path / "a.jpg"
    Image.new("RGB", (32, 32)).save(path)
    os.truncate(path, LIMIT + 1)
    with pytest.raises(ValueError, match=r"a\.jpg: cannot be decoded: .*512 MiB are the limit"):
        read_image(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="need named pipes")
def test_what_is_no_regular_file_is_refused_at_once(tmp_path):
    """In a process of its own with a limit: it must not wait for a writer."""
    os.mkfifo(tmp_path / "a.png")
    (tmp_path / "b.png").mkdir()
    (tmp_path / "c.png").symlink_to("/dev/zero")
    (tmp_path / "d.png").symlink_to(tmp_path / "a.png")
    paths = [str(tmp_path / f"{name}.png") for name in "abcd"]

    def read_all():
        for path in paths:
            for read in (image_header, read_image):
                try:
                    read(path)
                except ValueError as error:
                    with open(tmp_path / "said", "a") as said:
                        said.write(f"{error}\n")

    process = multiprocessing.get_context("fork").Process(target=read_all)
    process.start()
    process.join(120)
    process.kill()
    kinds = ["a named pipe", "a folder", "a device", "a named pipe"]
    lines = (tmp_path / "said").read_text().splitlines()
    assert len(lines) == 8
    for path, kind, line in zip(np.repeat(paths, 2), np.repeat(kinds, 2), lines, strict=True):
        assert line.startswith(f"{path}: cannot be decoded: {kind}, not a regular file")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="need named pipes")
def test_label_files_that_are_pipes(voc_folder, yolo_folder):
    root = voc_folder({"train": {"a": []}})
    (root / "Annotations" / "a.xml").unlink()
    os.mkfifo(root / "Annotations" / "a.xml")
    with pytest.raises(ValueError, match=r"a\.xml: unreadable label file: a named pipe"):
        create_dataset("voc", "train", root=root)
    root = yolo_folder({"train": {"a": None}})
    os.mkfifo(root / "labels" / "train" / "a.txt")
    with pytest.raises(ValueError, match=r"labels/train/a\.txt: cannot be read: a named pipe"):
        create_dataset("yolo", "train", root=root)
    os.mkfifo(root / "list.txt")
    (root / "data.yaml").write_text("train: list.txt\nnames: [cat]\n")
    with pytest.raises(ValueError, match=r"list\.txt: .*a named pipe"):
        create_dataset("yolo", "train", root=root)


def test_deeply_nested_tags(voc_folder):
    root = voc_folder({"train": {"a": [("cell", (1, 1, 9, 9), 0)]}})
    label = root / "Annotations" / "a.xml"
    deep = "<a>" * 200_000 + "</a>" * 200_000
    text = label.read_text()
    for inside in ("annotation", "object", "bndbox"):
        text = text.replace(f"<{inside}>", f"<{inside}>{deep}", 1)
    label.write_text(text)
    dataset = create_dataset("voc", "train", root=root, size=80)
    assert [a["bbox"] for a in dataset.ground_truth()["annotations"]] == [[0, 0, 9, 9]]
    label.write_text(text.replace(deep, "").replace("<xmin>1</xmin>", deep))
    with pytest.raises(ValueError, match=r"a\.xml: object 0 \(cell\): bad bndbox: <bndbox>.*It needs xmin"):
        create_dataset("voc", "train", root=root, size=80)


def test_xml_entities_are_not_expanded(voc_folder, tmp_path):
    (tmp_path / "secret").write_text("cell")
    root = voc_folder({"train": {"a": [("cell", (1, 1, 9, 9), 0)]}})
    label = root / "Annotations" / "a.xml"
    text = label.read_text()
    external = f'<!DOCTYPE a [<!ENTITY x SYSTEM "file://{tmp_path}/secret">]>' + text.replace(">cell<", ">&x;<")
    bomb = "".join(f'<!ENTITY x{k} "{f"&x{k - 1};" * 10 if k else "cell"}">' for k in range(12))
    for content in (external, f"<!DOCTYPE a [{bomb}]>" + text.replace(">cell<", ">&x11;<")):
        label.write_text(content)
        with pytest.raises(ValueError, match=r"a\.xml: unreadable label file|a\.xml: object 0: unknown class: ''"):
            create_dataset("voc", "train", root=root, class_names=["cell"])


@pytest.mark.parametrize(
    "text",
    ["[" * 200_000, '{"a":' * 200_000, '{"images": [{"id": ' + "9" * 6000 + "}]}"],
    ids=["lists", "dicts", "int"],
)
def test_json_depth_and_huge_integers(coco_folder, text):
    root = coco_folder()
    (root / "annotations" / "instances_train.json").write_text(text)
    with pytest.raises(ValueError, match=r"instances_train\.json: not a json file: .*Export or copy the labels again"):
        create_dataset("coco", "train", root=root)
