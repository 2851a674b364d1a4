"""Damaged images: detected before a training from headers and last bytes; with allow_missing left out and counted, in
training and evaluation; never replaced by a black image."""

import numpy as np
import pytest
import torch
from PIL import Image

from data import Problems, create_dataset, eval_loader, train_loader
from data.check import check_dataset
from scoring.evaluator import Evaluator

BOX = "0 0.5 0.5 0.5 0.4\n"


@pytest.fixture
def root(yolo_folder):
    return yolo_folder({"train": {stem: BOX for stem in "abcdef"}})


def spoil(root, stem):
    """Pixels that no end gives away: a checksum fails in the middle of the file."""
    path = root / "images" / "train" / f"{stem}.png"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    return path


def cut(root, stem):
    path = root / "images" / "train" / f"{stem}.png"
    path.write_bytes(path.read_bytes()[:-40])
    return path


def yolo(root, **options):
    return create_dataset("yolo", "train", root=root, size=64, **options)


def test_a_file_cut_short_is_refused_or_left_out_at_the_start(root):
    cut(root, "b")
    with pytest.raises(ValueError, match=r"b\.png: unreadable image: .*data\.allow_missing=true: such images are left"):
        yolo(root)
    problems = Problems()
    dataset = yolo(root, allow_missing=True, problems=problems)
    assert (len(dataset), dataset.expected_images) == (5, 6)
    assert problems.counts() == {"unreadable image": 1}
    assert [p.fatal for p in check_dataset("yolo", ["train"], root=root).problems.items if "unread" in p.kind] == [True]
    report = check_dataset("yolo", ["train"], root=root, allow_missing=True)
    assert not report.fatal and report.problems.counts()["unreadable image"] == 1


def test_damage_inside_is_named_when_it_is_met(root):
    dataset = yolo(root)
    spoil(root, "c")
    with pytest.raises(ValueError, match=r"c\.png: cannot be decoded: .*, or set data\.allow_missing=true") as error:
        for _ in train_loader(dataset, 2, seed=0, workers=1, epochs=1):
            pass
    assert "DataLoader worker" in str(error.value)  # what the scripts print is its last line
    assert [p.kind for p in check_dataset("yolo", ["train"], root=root).fatal] == ["unreadable image"]
    report = check_dataset("yolo", ["train"], root=root, allow_missing=True)
    assert not report.fatal and "It is left out" in str(report)


@pytest.mark.parametrize("augment", [None, {"mosaic": 1.0, "mixup": 1.0}])
def test_a_training_leaves_it_out(root, caplog, augment):
    dataset, again = (yolo(root, allow_missing=True, augment=augment) for _ in range(2))
    spoil(root, "c")
    loader = train_loader(dataset, 3, seed=0, epochs=2)
    batches = [batch for epoch in range(2) for batch in (loader.sampler.set_epoch(epoch), *loader)[1:]]
    assert sum(len(batch.image_ids) for batch in batches) == 12
    assert 3 not in {number for batch in batches for number in batch.image_ids}  # image 4 is seen in its place
    assert all(target is not None and len(target["boxes"]) for batch in batches for target in batch.targets)
    assert sum("c.png" in record.getMessage() for record in caplog.records) == 1
    assert torch.equal(again[2, 0, 0, 1].x, dataset[2, 0, 0, 1].x)


def test_an_evaluation_leaves_it_out(root):
    dataset = yolo(root, allow_missing=True)
    spoil(root, "c")
    evaluator = Evaluator(dataset.ground_truth(), dataset.expected_images, allow_missing=True)
    for batch in eval_loader(dataset, 4):
        found = [
            {"boxes": torch.tensor([[16.0, 18, 48, 38]]), "scores": torch.ones(1), "labels": torch.zeros(1).long()}
            for _ in batch.image_ids
        ]
        evaluator.add(found, batch)
    scores = evaluator.score("voc10")
    assert (scores["images"], scores["expected_images"]) == (5, 6)
    strict = Evaluator(dataset.ground_truth(), dataset.expected_images)
    strict._found = evaluator._found
    with pytest.raises(ValueError, match=r"seen 5 of 6 images.*c\.png"):
        strict.score("voc10")


def test_an_image_of_another_size_than_its_label_is_left_out_alike(coco_folder):
    root = coco_folder(images={f"{k}.png": [(1, [2, 3, 10, 12])] for k in "ab"})
    dataset = create_dataset("coco", "train", root=root, size=64, allow_missing=True)
    Image.fromarray(np.zeros((30, 41, 3), np.uint8)).save(root / "train" / "a.png")
    assert dataset[0, 0, 0, 1].image_id == 2 and not dataset[0].labelled


def test_nothing_readable(root):
    dataset = yolo(root, allow_missing=True)
    for stem in "abcdef":
        spoil(root, stem)
    with pytest.raises(ValueError, match="none of 6 images of split 'train' can be decoded"):
        dataset[0, 0, 0, 1]


@pytest.mark.parametrize("name", ["coco", "voc"])
def test_other_formats_look_at_their_files_alike(name, coco_folder, voc_folder):
    box = [("cat", [3, 4, 20, 25], 0)]
    root = coco_folder() if name == "coco" else voc_folder({"train": {"a": box, "b": box}})
    (image,) = [path for path in root.rglob("a.png")]
    image.write_bytes(image.read_bytes()[:20])
    with pytest.raises(ValueError, match=r"a\.png: unreadable image: cannot be decoded.*data\.allow_missing=true"):
        create_dataset(name, "train", root=root)
    dataset = create_dataset(name, "train", root=root, allow_missing=True)
    assert dataset.expected_images - len(dataset) == 1
