"""The cache of decoded images: same samples as without it, and never wrong pixels."""

import gc
import json
import os
import pickle
import shutil

import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader

from data import create_dataset, eval_loader, train_loader
from data.images import cache as image_cache
from data.images import dataset as image_dataset

MIXED = {"mosaic": 0.7, "mixup": 0.5, "hflip": 0.5, "hsv": [0.1, 0.5, 0.4], "scale": 0.3, "cutout": 0.5}
FOLDER = ".spikesight_cache"


@pytest.fixture
def make(coco_folder):
    """make(cache, **kwargs): the same six images each time."""
    root = coco_folder(images={f"{k}.png": [(1, [2, 3, 10, 12])] for k in range(6)})

    def dataset(cache="none", **kwargs):
        return create_dataset("coco", "train", root=root, size=48, cache=cache, **kwargs)

    dataset.root = root
    return dataset


@pytest.fixture
def decoded(monkeypatch):
    """Paths that were decoded in this process, in order."""
    paths, read = [], image_dataset.read_record
    monkeypatch.setattr(image_dataset, "read_record", lambda record: (paths.append(record.path), read(record))[1])
    return paths


def samples(dataset):
    dataset.open_cache()
    return [dataset[i] for i in range(len(dataset))]


def equal(one, other):
    return all(torch.equal(a.x, b.x) and torch.equal(a.boxes, b.boxes) for a, b in zip(one, other, strict=True))


def batches(dataset, workers):
    loader = train_loader(dataset, 2, seed=3, workers=workers, epochs=3)
    for epoch in range(3):
        loader.sampler.set_epoch(epoch)
        yield from loader


@pytest.mark.parametrize("kind", ["ram", "disk"])
@pytest.mark.parametrize("workers", [0, 2])
def test_training_samples_are_bit_equal(make, kind, workers):
    plain, cached = make(augment=MIXED), make(kind, augment=MIXED)
    for _ in range(2):  # a second run finds a filled cache on disk
        for one, other in zip(batches(plain, 0), batches(cached, workers), strict=True):
            assert torch.equal(one.x, other.x) and one.image_ids == other.image_ids
            assert all(torch.equal(a["boxes"], b["boxes"]) for a, b in zip(one.targets, other.targets, strict=True))
        cached = make(kind, augment=MIXED)


@pytest.mark.parametrize("kind", ["ram", "disk"])
def test_each_image_is_decoded_once(make, decoded, kind):
    dataset = make(kind)
    first = samples(dataset)
    assert len(decoded) == 6
    assert equal(first, samples(dataset)) and len(decoded) == 6


@pytest.mark.parametrize("how", ["fork", "spawn"])
def test_what_workers_decode_is_there_for_all(make, decoded, how):
    """After a worker has read all images, this process has nothing left to decode."""
    plain = samples(make())
    decoded.clear()
    caches = [make("ram"), make("disk")]
    for dataset in caches:
        dataset.open_cache()
    loader = DataLoader(ConcatDataset(caches), None, num_workers=1, multiprocessing_context=how)
    assert equal(plain + plain, list(loader))
    assert all(equal(plain, samples(dataset)) for dataset in caches) and decoded == []


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="need /proc")
def test_memory_is_given_back_and_belongs_to_one_dataset(make, decoded):
    def open_files():
        return len(os.listdir("/proc/self/fd"))

    dataset, other = make("ram"), make("ram")
    before = open_files()
    samples(dataset)
    samples(other)
    assert len(decoded) == 12
    copy = pickle.loads(pickle.dumps(dataset))  # not sent to a worker: its own, empty
    assert equal(samples(copy), samples(dataset)) and len(decoded) == 18
    assert open_files() == before + 3
    del dataset, other, copy
    gc.collect()
    assert open_files() == before


def test_the_disk_cache_serves_the_next_run(make, decoded):
    first = samples(make("disk"))
    decoded.clear()
    assert equal(first, samples(make("disk"))) and decoded == []
    (manifest,) = (make.root / FOLDER).glob("*.json")
    content = json.loads(manifest.read_text())
    assert content["pictures"] == 6 and content["bytes"] == 6 * (3 * 40 * 30 + 8)
    assert (make.root / FOLDER / content["file"]).stat().st_size == content["bytes"]


def test_a_changed_image_makes_a_new_cache(make, decoded, write_image):
    samples(make("disk"))
    image, old = make.root / "train" / "2.png", list((make.root / FOLDER).glob("*.pixels"))
    written = image.stat()
    write_image(image, seed=99)
    os.utime(image, ns=(written.st_atime_ns, written.st_mtime_ns + 1))
    decoded.clear()
    assert equal(samples(make()), samples(make("disk"))) and len(decoded) == 12
    new = list((make.root / FOLDER).glob("*.pixels"))
    assert len(new) == 1 and new != old  # the old pixels are gone
    os.utime(image, ns=(0, 0))
    decoded.clear()
    samples(make("disk"))
    assert len(decoded) == 6


def test_another_length_or_labelled_size_or_list_makes_a_new_cache(tmp_path):
    shapes, path = [(4, 6), (5, 5)], tmp_path / "a.png"
    path.write_bytes(b"1234")
    os.utime(path, ns=(7, 7))

    def file(shapes=shapes, sources=((str(path), False), ("b", False)), name="train"):
        image_cache.disk_cache(tmp_path / "cache", name, shapes, sources)
        return {p.name for p in (tmp_path / "cache").glob("*.pixels")}

    one = file()
    assert file() == one and len(one) == 1
    assert file([(4, 6), (6, 5)]).isdisjoint(one)
    assert file(sources=((str(path), True), ("b", False))).isdisjoint(one)  # turned by its EXIF orientation
    assert file() == one
    assert len(file(sources=(("b", False), (str(path), False)))) == 2  # another list of images has its own
    assert len(file(name="val")) == 3
    path.write_bytes(b"12345")
    os.utime(path, ns=(7, 7))
    assert one.isdisjoint(file())


@pytest.mark.parametrize("damage", ["cut short", "emptied", "overwritten", "one bit", "mark without pixels"])
def test_a_damaged_file_never_gives_wrong_pixels(make, decoded, damage):
    plain = samples(make("disk"))
    (file,) = (make.root / FOLDER).glob("*.pixels")
    content = bytearray(file.read_bytes())
    place = 8 + 3 * 40 * 30
    if damage == "cut short":
        del content[2 * place + 100 :]
    elif damage == "emptied":
        content.clear()
    elif damage == "overwritten":
        content[:] = bytes(len(content))
    elif damage == "one bit":
        content[place + 1000] ^= 1
    else:
        content[place + 8 : 2 * place] = bytes(place - 8)
    file.write_bytes(content)
    decoded.clear()
    assert equal(plain, samples(make("disk")))
    assert len(decoded) == {"cut short": 4, "emptied": 6, "overwritten": 6}.get(damage, 1)
    decoded.clear()
    assert equal(plain, samples(make("disk"))) and decoded == []  # and it is mended


def test_two_processes_at_once(make, decoded):
    one, other = make("disk"), make("disk")
    one.open_cache()
    other.open_cache()
    plain = samples(make())
    decoded.clear()
    assert equal(plain[:3], [one[i] for i in range(3)]) and equal(plain, samples(other)) and len(decoded) == 6
    assert equal(plain, samples(one)) and len(decoded) == 6


def test_images_may_be_changed_by_the_caller():
    cache = image_cache.ImageCache([(2, 3)], None)
    assert cache.read(0) is None
    cache.write(0, np.full((2, 3, 3), 7, np.uint8))
    for _ in range(2):
        pixels = cache.read(0)
        assert (pixels == 7).all()
        pixels[:] = 0


def test_too_little_memory_or_disk_is_said_before_the_start(make, monkeypatch, tmp_path):
    dataset = make("ram")
    monkeypatch.setattr(image_cache, "free_memory", lambda: 100)
    with pytest.raises(ValueError, match=r"cache=ram: 6 decoded images take 0.00 GiB, 0.00 GiB .* Set data.cache="):
        train_loader(dataset, 2, seed=0)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 9, 0))
    with pytest.raises(ValueError, match="cache=disk: 6 decoded images take another .* data.cache_dir="):
        eval_loader(make("disk"), 2)


@pytest.mark.parametrize("kind", ["ram", "disk"])
def test_the_caches_of_all_splits_need_room_together(make, monkeypatch, tmp_path, kind):
    """None is filled when the next one is opened."""
    gc.collect()
    size = 6 * (3 * 40 * 30 + 8)
    monkeypatch.setattr(image_cache, "free_memory", lambda: 1.5 * size)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 9, 1.5 * size))
    first, twin = make(kind), make(kind)
    first.open_cache()
    if kind == "disk":
        twin.open_cache()  # the same file
    other = make(kind, **({"cache_dir": tmp_path / "other"} if kind == "disk" else {}))
    with pytest.raises(ValueError, match=f"cache={kind}: 6 decoded .* free beside the other caches"):
        other.open_cache()
    samples(first)  # now its room is taken, and what is free is less by it
    other.open_cache()


def test_a_filled_cache_needs_no_more_room(make, monkeypatch):
    samples(make("disk"))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 9, 0))
    samples(make("disk"))


def test_a_disk_that_fills_up_is_an_error_with_a_remedy(make, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    dataset = make("disk")
    dataset.open_cache()
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(ValueError, match=r"image cache in .*pixels: .*No space left.* set data.cache=none"):
        dataset[0]


def test_a_folder_that_cannot_be_written_is_named(make, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="file/x cannot be written: .*data.cache_dir="):
        make("disk", cache_dir=tmp_path / "file" / "x").open_cache()
    dataset = make("disk", cache_dir=tmp_path / "elsewhere")
    samples(dataset)
    assert list((tmp_path / "elsewhere").glob("*.pixels")) and not (make.root / FOLDER).exists()


@pytest.mark.skipif(not os.path.isfile("/proc/meminfo"), reason="need /proc")
def test_free_memory_is_that_of_this_machine():
    assert 1e7 < image_cache.free_memory() < 1e15


def test_wrong_options_are_named(make, tmp_path):
    with pytest.raises(ValueError, match="cache = 'rma', did you mean 'ram'"):
        make("rma")
    with pytest.raises(ValueError, match="cache_dir = x: only cache = disk has a folder, cache is ram"):
        make("ram", cache_dir="x")
    with pytest.raises(ValueError, match="no argument 'cahce', did you mean 'cache'"):
        make(cahce="ram")


def test_an_image_of_another_size_than_its_label_is_refused_and_not_kept(make, write_image):
    dataset = make("ram")
    dataset.open_cache()
    write_image(make.root / "train" / "0.png", width=9, height=8)
    for _ in range(2):
        with pytest.raises(ValueError, match="0.png: the image is 9x8, its label says 40x30"):
            dataset[0]
