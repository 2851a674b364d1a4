"""Random splits by shares: exact, by name alone, with groups that stay together; invalid options."""

import pytest

from data import create_dataset
from data.dataset import MissingSplit
from data.images.dataset import ImageDataset
from data.split_shares import split_shares
from engine.config import dataset_kwargs, load_config

SHARES = {"train": 0.8, "val": 0.1, "test": 0.1}


def parts(names, splits=SHARES, **options):
    shares = split_shares(splits, **options)
    return {split: shares.choose(split, names) for split in splits}


@pytest.mark.parametrize(("count", "sizes"), [(10, [8, 1, 1]), (100, [80, 10, 10]), (3, [1, 1, 1]), (4, [2, 1, 1])])
def test_shares_are_exact_and_no_split_is_empty(count, sizes):
    names = [f"{k}.jpg" for k in range(count)]
    found = parts(names)
    assert [len(part) for part in found.values()] == sizes
    assert sorted(name for part in found.values() for name in part) == sorted(names)
    assert parts(names[::-1]) == found and all(part == sorted(part) for part in found.values())
    assert count == 3 or parts(names, seed=1) != found


def test_few_names_move_when_others_are_added():
    before = parts([f"{k}.jpg" for k in range(1000)])
    after = parts([f"{k}.jpg" for k in range(1100)])
    moved = sum(name not in after[split] for split, names in before.items() for name in names)
    assert moved <= 30


def test_groups_stay_together():
    names = [f"film{film}/{frame:03d}.jpg" for film in range(20) for frame in range(film + 1)]
    flat = [name.replace("/", "_") for name in names]
    for found in (parts(names, group="folder"), parts(flat, group=r"film\d+"), parts(flat, group=r"^(film\d+)_")):
        films = [{name[:6].rstrip("/_") for name in part} for part in found.values()]
        assert not (films[0] & films[1] or films[1] & films[2] or films[0] & films[2])
        assert sum(map(len, found.values())) == len(names) and all(found.values())
        assert 0.65 < len(found["train"]) / len(names) < 0.95


@pytest.mark.parametrize(
    ("splits", "options", "says"),
    [
        ({"train": 0.8, "val": 0.3}, {}, "splits = .*sum up to 1"),
        ({"train": -0.5}, {}, "shares"),
        ({"train": True}, {}, "shares"),
        ({"train": float("nan")}, {}, "shares"),
        ({"train": "a.txt"}, {}, "shares"),
        ({}, {}, "shares"),
        ([0.8, 0.2], {}, "shares"),
        (SHARES, {"group": "("}, "split_group = '\\('.*no regular expression"),
        (SHARES, {"group": 5}, "split_group = 5"),
        (SHARES, {"group": "film"}, "split_group = 'film' does not fit 'a.jpg'"),
    ],
)
def test_bad_options_are_named(splits, options, says):
    with pytest.raises(ValueError, match=says):
        parts(["film.jpg", "a.jpg"], splits, **options)
    with pytest.raises(MissingSplit, match="no split 'trian', did you mean 'train'. There are train, val, test"):
        split_shares(SHARES).choose("trian", [])


def test_the_command_line_splits(yolo_folder, tmp_path):
    root = yolo_folder({"all": {str(k): "0 .5 .5 .5 .5" for k in range(10)}}, "names: [cat]\ntrain: images/all\n")
    config = tmp_path / "mine.yaml"
    config.write_text(f"data: {{name: yolo, root: {root}, size: 64}}\n")
    cfg = load_config(config, ["data.splits={train: .8, val: .1, test: .1}", "data.args={split_seed: 3}"])
    name, kwargs = dataset_kwargs(cfg)
    datasets = {split: create_dataset(name, split, **kwargs) for split in SHARES}
    assert [len(dataset) for dataset in datasets.values()] == [8, 1, 1]
    ids = [image["id"] for dataset in datasets.values() for image in dataset.ground_truth()["images"]]
    assert sorted(ids) == list(range(1, 11))  # unique over all splits
    with pytest.raises(ValueError, match=r"data.splits and data.args.splits are both set"):
        dataset_kwargs(load_config(config, ["data.splits={train: 1}", "data.args={splits: {train: 1}}"]))
    with pytest.raises(ValueError, match="split 'val': its share of the 10 labelled images below .* is none"):
        create_dataset(name, "val", **{**kwargs, "splits": {"train": 1.0, "val": 0.0}})
    with pytest.raises(ValueError, match="split_group belong to data.splits, which is not set"):
        create_dataset(name, "train", root=root, split_group="folder")


def test_datasets_with_splits_of_their_own_refuse(tmp_path):
    with pytest.raises(ValueError, match="ImageDataset has splits of its own"):
        ImageDataset.__init__(object.__new__(ImageDataset), "train", root=tmp_path, splits=SHARES)
