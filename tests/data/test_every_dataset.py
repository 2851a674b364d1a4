"""Contract of `DetectionDataset`, for every registered dataset.

A new dataset needs one entry in `examples`: arguments of a tiny folder of its kind. Until then its tests are skipped.
"""

import inspect
import json
import pickle

import numpy as np
import pytest
import torch
from recording_files import some_events, write_bin
from rvt_folder import write_sequence

from data import create_dataset, eval_loader, list_datasets
from data.scenes import generate_scenes

TINY = {"train": 3, "val": 1, "test": 1, "seconds": 1.0, "width": 160, "height": 128, "workers": 1}


@pytest.fixture(scope="session")
def scenes(tmp_path_factory):
    return generate_scenes(tmp_path_factory.mktemp("scenes") / "tiny", **TINY)


@pytest.fixture
def examples(scenes, tmp_path, request):
    """name -> () -> arguments of `create_dataset(name, "train", ...)`."""

    def coco():
        return {"root": request.getfixturevalue("coco_folder")(), "size": 64}

    def voc():
        boxes = {"a": [("cat", [3, 4, 20, 25], 0), ("dog", [1, 1, 9, 9], 1)], "b": []}
        return {"root": request.getfixturevalue("voc_folder")({"train": boxes}), "size": (32, 64)}

    def yolo():
        labels = {"a": "1 0.5 0.5 0.25 0.4\n0 0.1 0.1 0.2 0.2\n", "b": ""}
        return {"root": request.getfixturevalue("yolo_folder")({"train": labels}), "size": 64}

    def ncaltech101():
        for number in (1, 2, 3):
            for kind in ("Caltech101", "Caltech101_annotations"):
                (tmp_path / kind / "anchor").mkdir(parents=True, exist_ok=True)
            events = some_events(width=240, height=180, seed=number)
            write_bin(tmp_path / "Caltech101" / "anchor" / f"image_000{number}.bin", *events)
            corners = np.array([2, 3, 10, 20, 10, 150, 99 + number, 150], "<i2")
            corners.tofile(tmp_path / "Caltech101_annotations" / "anchor" / f"annotation_000{number}.bin")
        return {"root": tmp_path, "num_steps": 2, "splits": {"train": 1.0}}

    def rvt():
        labels = {2: [(4, 6, 10, 8, 1), (0, 0, 30, 20, 0)], 7: [(20, 1, 9, 9, 0)]}
        write_sequence(tmp_path / "train" / "clip", labels, count=8)
        return {"root": tmp_path, "num_steps": 5}

    return {
        "coco": coco,
        "voc": voc,
        "yolo": yolo,
        "gen1": lambda: {"root": scenes, "num_steps": 3},
        "one_mpx": lambda: {"root": scenes, "size": (64, 96), "num_steps": 2},
        "ncaltech101": ncaltech101,
        "rvt": rvt,
        "scenes": lambda: {"root": scenes, "scenes": TINY, "num_steps": 2, "size": (128, 160)},
        "scene_images": lambda: {"root": scenes, "scenes": TINY, "size": (128, 160)},
    }


@pytest.mark.parametrize("name", list_datasets())
class TestEveryDataset:
    @pytest.fixture
    def arguments(self, name, examples):
        if name not in examples:
            pytest.skip(
                f"dataset {name!r} has no entry in `examples` of tests/data/test_every_dataset.py: add one that "
                "returns the arguments of a tiny folder of its kind, and these tests run on it"
            )
        return examples[name]()

    @pytest.fixture
    def dataset(self, name, arguments):
        return create_dataset(name, "train", **arguments)

    def test_samples(self, dataset):
        assert 0 < len(dataset) <= dataset.expected_images
        for i in range(len(dataset)):
            s = dataset[i]
            steps = [] if dataset.num_steps is None else [dataset.num_steps]
            assert s.x.dtype == torch.uint8 and list(s.x.shape[:-2]) == [*steps, dataset.channels]
            n = len(s.labels)
            assert s.boxes.shape == (n, 4) and s.boxes.dtype == torch.float32 and s.labels.dtype == torch.int64
            height, width = s.x.shape[-2:]
            assert (s.boxes[:, :2] < s.boxes[:, 2:]).all() and (s.boxes >= 0).all()
            assert (s.boxes[:, [0, 2]] <= width).all() and (s.boxes[:, [1, 3]] <= height).all()
            assert ((0 <= s.labels) & (s.labels < len(dataset.class_names))).all()
        with pytest.raises(IndexError):
            dataset[len(dataset)]

    def test_ground_truth_is_coco_json_in_original_pixels(self, dataset):
        truth = json.loads(json.dumps(dataset.ground_truth()))
        assert [c["name"] for c in truth["categories"]] == dataset.class_names
        assert len({a["id"] for a in truth["annotations"]} - {0}) == len(truth["annotations"]) > 0
        images = {image["id"]: image for image in truth["images"]}
        label_of = {c["id"]: k for k, c in enumerate(truth["categories"])}
        for i in range(len(dataset)):
            s = dataset[i]
            assert s.original_size == (images[s.image_id]["height"], images[s.image_id]["width"])
            kept = [a for a in truth["annotations"] if a["image_id"] == s.image_id]
            kept = [a for a in kept if not (a["iscrowd"] or a.get("difficult"))]
            assert s.labels.tolist() == [label_of[a["category_id"]] for a in kept]
            expected = np.array([[x, y, x + w, y + h] for x, y, w, h in (a["bbox"] for a in kept)]).reshape(-1, 4)
            np.testing.assert_allclose(s.placement.to_original(s.boxes), expected, atol=0.05)

    def test_box_sizes_are_those_of_the_samples(self, dataset):
        boxes = torch.cat([dataset[i].boxes for i in range(len(dataset))])
        sizes = dataset.box_sizes()
        assert sizes.dtype == np.float32 and sizes.shape == (len(boxes), 2)
        np.testing.assert_allclose(sizes, boxes[:, 2:] - boxes[:, :2], atol=0.05)

    def test_pickles_and_loads_in_workers(self, dataset):
        copy = pickle.loads(pickle.dumps(dataset))
        assert torch.equal(copy[0].x, dataset[0].x)
        plain, parallel = (list(eval_loader(dataset, 2, workers)) for workers in (0, 2))
        assert [b.image_ids for b in plain] == [b.image_ids for b in parallel]
        assert all(torch.equal(a.x, b.x) for a, b in zip(plain, parallel, strict=True))
        x, targets = plain[0].to("cpu")
        assert x.dtype == torch.float32 and x.dim() == (4 if dataset.num_steps is None else 5)
        assert len(targets) == (x.shape[0] if x.dim() == 4 else x.shape[1])

    def test_wrong_arguments_and_options_are_named(self, name, arguments):
        with pytest.raises(ValueError, match=f"dataset '{name}' has no argument 'rooot', did you mean 'root'"):
            create_dataset(name, "train", rooot=1, **arguments)
        with pytest.raises(ValueError, match="'hfilp', did you mean 'hflip'"):
            create_dataset(name, "train", augment={"hfilp": 0.5}, **arguments)
        with pytest.raises(ValueError, match="nowhere"):
            create_dataset(name, "nowhere", **arguments)


def test_scenes_name_a_wrong_option(tmp_path):
    known = list(inspect.signature(generate_scenes).parameters)
    with pytest.raises(ValueError, match="no argument 'trian', did you mean 'train'.*" + known[2]):
        create_dataset("scenes", "train", root=tmp_path, scenes={"trian": 3})


def test_unknown_dataset_names_the_nearest():
    with pytest.raises(ValueError, match="unknown dataset 'coko', did you mean 'coco'"):
        create_dataset("coko", "train")
