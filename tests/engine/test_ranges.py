"""Every number of configs/base.yaml has a range, and a message that names key, value and range."""

from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from engine.config import PATHS, Config, config_from_plain, config_to_plain, dataset_kwargs, load_config
from engine.ranges import ALLOWED, Range
from models.checkpoints.plain import check_plain


def typed(schema, prefix=""):
    for key, kind in get_type_hints(schema).items():
        if hasattr(kind, "__dataclass_fields__"):
            yield from typed(kind, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", {kind, *get_args(kind)}


def test_every_number_has_a_range():
    numbers = {key for key, kinds in typed(Config) if kinds & {int, float}}
    numbers |= {key for key, allowed in ALLOWED.items() if isinstance(allowed, Range) and allowed.word}  # or a word
    assert numbers == {key for key, allowed in ALLOWED.items() if isinstance(allowed, Range)}


@pytest.mark.parametrize(
    ("override", "allowed"),
    [
        ("train.clip_norm=-1", "more than 0, or null for no clipping"),
        ("train.clip_norm=0", "more than 0"),
        ("train.clip_norm=.inf", "more than 0"),
        ("train.ema_decay=1.5", "0 or more and below 1"),
        ("train.ema_decay=1", "0 or more and below 1"),
        ("train.ema_decay=.nan", "0 or more and below 1"),
        ("train.ema_ramp=0", "more than 0"),
        ("optim.momentum=1.5", "0 or more and below 1"),
        ("optim.momentum=-0.1", "0 or more and below 1"),
        ("optim.warmup_momentum=1", "0 or more and below 1"),
        ("optim.warmup_bias_lr=-1", "0 or more"),
        ("optim.lr=.inf", "0 or more"),
        ("optim.lr=-0.01", "0 or more"),
        ("optim.final_lr_factor=-.inf", "0 or more"),
        ("optim.warmup_epochs=3", "less than train.epochs = 3"),
        ("seed=18446744073709551616", "0 or more and at most 18446744073709551615"),
        ("seed=-1", "0 or more"),
        ("threads=0", "at least 1 and at most 1024, or null"),
        ("threads=100000", "at most 1024"),
        ("data.workers=-1", "0 or more"),
        ("train.epochs=0", "at least 1"),
        ("train.batch_size=0", "at least 1"),
        ("eval.batch_size=-2", "at least 1"),
        ("model.T=0", "at least 1"),
        ("device=mps", "auto, cpu, cuda or cuda:N, as in cuda:1"),
        ("device=cuda:-1", "auto, cpu, cuda or cuda:N"),
        ("device='cpu '", "auto, cpu, cuda or cuda:N"),
        ("train.precision=fp8", "fp32, bf16, fp16"),
        ("optim.groups={backbone: 0}", "a factor of the learning rate, more than 0"),
        ("optim.groups={backbone: x}", "a factor of the learning rate, more than 0"),
        ("model.args={width: .nan}", "a finite number"),
        ("data.augment={scale: [0.5, .inf]}", "a finite number"),
    ],
)
def test_a_value_out_of_range_is_named_with_its_range(override, allowed):
    with pytest.raises(ValueError) as error:
        load_config("configs/demo.yaml", ["train.epochs=3", override])
    key = override.partition("=")[0]
    assert str(error.value).startswith(key) and allowed in str(error.value)


@pytest.mark.parametrize(
    "override",
    ["train.clip_norm=null", "train.clip_norm=1e-3", "train.ema_decay=0", "seed=18446744073709551615", "device=cuda:7"]
    + ["optim.warmup_epochs=0", "optim.warmup_epochs=2.9", "optim.momentum=0", "threads=null", "data.workers=0"],
)
def test_the_ends_of_ranges(override):
    load_config("configs/demo.yaml", [override])


def test_an_interpolation_that_leads_nowhere():
    with pytest.raises(ValueError, match="num_steps.*'model.time'"):
        load_config("configs/demo.yaml", ["data.args.num_steps=${model.time}"])


@pytest.mark.parametrize("key", [*PATHS, "data.args.annotations.train", "data.args.folders[1]"])
def test_home_in_every_path(key, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    override = "data.args={folders: [a, ~/x]}" if "[" in key else f"{key}=~/x"
    plain = config_to_plain(load_config("configs/demo.yaml", [override]))
    values = {key: plain for key in [key]}
    for part in key.replace("[1]", ".1").split("."):
        values[key] = values[key][int(part) if part == "1" else part]
    assert values[key] == str(tmp_path / "x")


def test_home_of_the_config_file_and_of_nobody(monkeypatch, tmp_path):
    (tmp_path / "mine.yaml").write_text("data: {root: x}")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_config("~/mine.yaml").name == "mine"
    with pytest.raises(ValueError, match="data.root = ~nobody_of_that_name/x: there is no such home"):
        load_config("configs/demo.yaml", ["data.root=~nobody_of_that_name/x"])


def test_a_relative_root_is_named_whole(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    cfg = load_config(Path(__file__).parents[2] / "configs/demo.yaml", ["data.root=data/mine"])
    assert dataset_kwargs(cfg)[1]["root"] == str(tmp_path / "data/mine")


def shared_lists(levels=40):
    node = ["x"]
    for _ in range(levels):
        node = [node] * 10
    return node


def own_element():
    node: list = []
    node.append(node)
    return node


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (shared_lists(), "damaged or hostile"),
        (shared_lists(8), "damaged or hostile"),
        (own_element(), "damaged or hostile"),
        ({"a": {1: 2}}, "keys that are no text"),
        ("${oc.env:HOME}", "interpolation, which is not resolved there"),
        (["${.x}"], "interpolation, which is not resolved there"),
        ({"a": {1, 2}}, "holds a set"),
    ],
    ids=["deep", "wide", "own element", "number as key", "environment", "node", "set"],
)
def test_a_config_from_a_checkpoint_is_plain_and_literal(value, message):
    plain = config_to_plain(load_config("configs/demo.yaml"))
    plain["data"]["args"] = {"x": value}
    with pytest.raises(ValueError, match=f"config of a checkpoint: .*{message}"):
        config_from_plain(plain)


def test_plain_values_pass():
    check_plain({"a": [1, 2.5, None, True, ("x", {"b": []})]}, "here")
