"""Configs: complete, typed, and every mistake named."""

from dataclasses import is_dataclass
from pathlib import Path
from typing import get_type_hints

import pytest
import torch
import yaml

from data import list_datasets
from data.type_checks import height_width
from engine.build import build_model
from engine.config import BASE, Config, config_from_plain, config_to_plain, dataset_kwargs, load_config, model_kwargs
from models import create_model, list_models, model_defaults
from models.registry import MODELS
from scoring.protocols import get_protocol

CONFIGS = sorted(p for p in BASE.parent.rglob("*.yaml") if p != BASE)


def keys(schema, prefix=""):
    for key, kind in get_type_hints(schema).items():
        yield from keys(kind, f"{prefix}{key}.") if is_dataclass(kind) else [f"{prefix}{key}"]


def test_base_names_every_key_of_the_schema():
    def flat(node, prefix=""):
        for key, value in node.items():
            nested = isinstance(value, dict) and value
            yield from flat(value, f"{prefix}{key}.") if nested else [f"{prefix}{key}"]

    assert set(flat(yaml.safe_load(BASE.read_text()))) == set(keys(Config))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: str(p.relative_to(BASE.parent)))
def test_every_config_describes_a_run(path):
    cfg = load_config(path, ["data.root=somewhere"])
    assert cfg.model.name in list_models() and cfg.data.name in list_datasets()
    get_protocol(cfg.eval.protocol)
    kwargs = model_kwargs(cfg, num_classes=3, in_channels=3)
    assert create_model(**kwargs | {"width": 0.125}).T == cfg.model.T
    name, train = dataset_kwargs(cfg, augment=True)
    assert dataset_kwargs(cfg)[1] == {k: v for k, v in train.items() if k != "augment"}
    assert config_to_plain(config_from_plain(config_to_plain(cfg))) == config_to_plain(cfg)


def test_recipes_of_one_dataset_differ_in_the_model_and_its_start():
    one, other = (
        config_to_plain(load_config(f"configs/voc/bccd_{m}.yaml")) for m in ("ems_resnet10_ee", "spikeyolo_n")
    )
    assert {key for key in one if one[key] != other[key]} == {"name", "model", "train"}
    train = one["train"], other["train"]
    assert {key for key in train[0] if train[0][key] != train[1][key]} == {"epochs"}


def test_overrides_win_and_are_typed():
    cfg = load_config("configs/demo.yaml", ["train.epochs=7", "model.neuron={name: lif, tau: 2.0}", "data.size=64"])
    assert cfg.train.epochs == 7 and cfg.name == "demo"
    assert model_kwargs(cfg, 2, 2)["neuron"] == {"name": "lif", "tau": 2.0}
    assert dataset_kwargs(cfg)[1]["size"] == (64, 64)


@pytest.mark.parametrize(("name", "remedy"), [("in_channels", "the dataset decides it"), ("T", "set model.T instead")])
def test_model_args_cannot_set_other_keys_or_what_the_dataset_decides(name, remedy):
    cfg = load_config("configs/demo.yaml", [f"model.args={{{name}: 2}}"])
    with pytest.raises(ValueError, match=f"model.args.{name} = 2: {remedy}"):
        model_kwargs(cfg, 2, 20)


@pytest.mark.parametrize("size", ["abc", "320.5", "[a, b]", "[320]", "true", "{a: 1}"])
def test_bad_sizes_are_refused_as_they_were_given(size):
    cfg = load_config("configs/demo.yaml", [f"data.size={size}"])
    with pytest.raises(ValueError, match="size = .*(abc|320|a|True).*: give one number of pixels"):
        height_width(dataset_kwargs(cfg)[1]["size"])


def test_an_older_checkpoint_lacks_keys_and_gets_their_defaults():
    plain = config_to_plain(load_config("configs/demo.yaml"))
    del plain["train"]["clip_norm"], plain["overwrite"]
    cfg = config_from_plain(plain)
    assert cfg.train.clip_norm is None and cfg.overwrite is False and cfg.train.epochs == plain["train"]["epochs"]


def test_an_override_may_point_to_another_key():
    cfg = load_config("configs/demo.yaml", ["data.args.window_ms=${model.T}", "model.T=7"])
    assert dataset_kwargs(cfg)[1]["window_ms"] == 7


@pytest.mark.parametrize("name", list_models())
def test_a_config_that_names_a_model_alone_builds_the_model_itself(name, tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text(f"model: {{name: {name}}}\ndata: {{root: x}}")
    cfg = load_config(path)
    kwargs, own = model_kwargs(cfg, 3, 2), model_defaults(name)
    assert {key: kwargs[key] for key in ("T", "neuron", "head")} == {key: own[key] for key in ("T", "neuron", "head")}
    assert config_to_plain(cfg)["model"] == {key: kwargs[key] for key in ("name", "T", "neuron", "head")} | {"args": {}}
    small = {"num_classes": 3, "in_channels": 2} | ({"width": 0.125} if "width" in own else {})
    built = []
    for arguments in (kwargs | small, {"name": name, **small}):
        torch.manual_seed(0)
        built.append(create_model(**arguments))
    (one, other), (a, b) = built, (model.state_dict() for model in built)
    assert repr(one) == repr(other) and one.T == other.T
    assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_a_default_that_depends_on_arguments_of_the_model_is_written_out(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("model: {name: spiking_yolox_s, args: {spike_stages: deep}}\ndata: {root: x}")
    cfg = load_config(path)
    assert (
        cfg.model.neuron == {"name": "ternary_if"} and config_to_plain(cfg)["model"]["neuron"]["name"] == "ternary_if"
    )
    assert load_config(path, ["model.args.spike_stages=released"]).model.neuron["name"] == "if"
    assert load_config(path, ["model.neuron=relu"]).model.neuron == "relu"
    wrong = load_config(path, ["model.args.spike_stages=fully"])
    with pytest.raises(ValueError, match=r"model.args.spike_stages = 'fully'.*'full'"):
        build_model(wrong, 3, 2)


def test_what_a_recipe_sets_stays_with_another_model_and_null_takes_its_own(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("model: {name: ems_resnet10_ee, T: 5}\ndata: {root: x}")
    cfg = load_config(path, ["model.name=spikeyolo_n"])
    assert (cfg.model.T, cfg.model.head, cfg.model.neuron) == (5, "dfl", {"name": "ilif", "D": 4})
    assert load_config(path, ["model.name=spikeyolo_n", "model.T=null"]).model.T == 1
    with pytest.raises(ValueError, match="unknown model 'spikeyolo_x', did you mean 'spikeyolo_"):
        load_config(path, ["model.name=spikeyolo_x"])


def test_a_model_of_ones_own_without_plain_defaults(monkeypatch, tmp_path):
    """A factory among its defaults is left to its function; T has to come from somewhere."""

    def mine(num_classes=2, T=3, neuron=torch.nn.ReLU, head="anchor", in_channels=3): ...

    def timeless(num_classes=2, *, T, neuron="lif", head="anchor", in_channels=3): ...

    monkeypatch.setattr(MODELS, "_parts", MODELS._parts | {"mine": mine, "timeless": timeless})
    path = tmp_path / "x.yaml"
    path.write_text("model: {name: mine}\ndata: {root: x}")
    kwargs = model_kwargs(load_config(path), 2, 3)
    assert kwargs == {"name": "mine", "T": 3, "head": "anchor", "num_classes": 2, "in_channels": 3}
    with pytest.raises(ValueError, match="model.T = None: give at least 1"):
        load_config(path, ["model.name=timeless"])
    assert load_config(path, ["model.name=timeless", "model.T=2"]).model.T == 2


def test_the_model_decides_the_steps_of_events():
    assert dataset_kwargs(load_config("configs/demo.yaml", ["model.T=7"]))[1]["num_steps"] == 7
    assert "num_steps" not in dataset_kwargs(load_config("configs/demo_images.yaml"))[1]
    for given in ("7", "${model.T}"):
        cfg = load_config("configs/demo.yaml", [f"data.args.num_steps={given}", "model.T=7"])
        assert dataset_kwargs(cfg)[1]["num_steps"] == 7
    cfg = load_config("configs/demo.yaml", ["data.args.num_steps=3"])
    with pytest.raises(ValueError, match=r"data.args.num_steps = 3, but model.T = 4 .*leave data.args.num_steps out"):
        dataset_kwargs(cfg)


def test_a_config_written_before_the_model_could_decide():
    """As runs and recipes had it: every value written out, the steps twice."""
    plain = config_to_plain(load_config("configs/demo.yaml"))
    plain["model"] |= {"T": 5, "neuron": "relu", "head": "dfl"}
    plain["data"]["args"]["num_steps"] = 5
    cfg = config_from_plain(plain)
    assert config_to_plain(cfg) == plain and dataset_kwargs(cfg)[1]["num_steps"] == 5


def test_a_mapping_on_the_command_line_replaces_and_a_key_below_it_adds():
    args = dataset_kwargs(load_config("configs/demo.yaml", ["data.args={sampling: random}"]))[1]
    assert args["sampling"] == "random" and "window_ms" not in args
    args = dataset_kwargs(load_config("configs/demo.yaml", ["data.args.scenes.train=3"]))[1]
    assert args["scenes"]["train"] == 3 and args["scenes"]["test"] == 16 and args["window_ms"] == 250
    cfg = load_config("configs/demo.yaml", ["train={epochs: 2}"])
    assert cfg.train.epochs == 2 and cfg.train.batch_size == 8


def test_a_neuron_with_arguments_gives_way_to_a_name(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("model: {neuron: {name: lif, tau: 3.0}}\ndata: {root: x}")
    assert model_kwargs(load_config(path, ["model.neuron=relu"]), 2, 2)["neuron"] == "relu"


@pytest.mark.parametrize(
    "text, message",
    [
        ("train: {epoch: 3}", "unknown key 'train.epoch', did you mean 'train.epochs'"),
        ("modle: {T: 3}", "unknown key 'modle', did you mean 'model'"),
        ("train: {epochs: many}", "epochs"),
        ("train: 3", "'train' holds keys of its own, got 3"),
        ("- 1", "expected a mapping"),
        ("a: [", "not a readable YAML file"),
    ],
)
def test_mistakes_name_file_key_and_remedy(tmp_path, text, message):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"bad\.yaml") as error:
        load_config(path)
    assert message in str(error.value)


def test_mistakes_on_the_command_line():
    for override in ("optim.weight_decay=-1", "optim.lr=.nan", "optim.warmup_epochs=-0.5"):
        with pytest.raises(ValueError, match=override.partition("=")[0] + " = .*give 0 or more"):
            load_config("configs/demo.yaml", [override])
    with pytest.raises(ValueError, match="data.root is not set"):
        dataset_kwargs(load_config("configs/coco/ems_resnet18.yaml"))
    with pytest.raises(ValueError, match="command line.*'train.batchsize', did you mean 'train.batch_size'"):
        load_config("configs/demo.yaml", ["train.batchsize=3"])
    with pytest.raises(ValueError, match="give the whole list"):
        load_config("configs/demo.yaml", ["data.size[0]=3"])
    with pytest.raises(ValueError, match="not of the form key=value"):
        load_config("configs/demo.yaml", ["train.epochs"])
    with pytest.raises(ValueError, match="command line.*data.args.*not YAML"):
        load_config("configs/demo.yaml", ["data.args={a: "])
    with pytest.raises(ValueError, match=r"no such config file, did you mean 'configs/demo\.yaml'"):
        load_config("configs/dmeo.yaml")


def test_yaml_cannot_run_code(tmp_path):
    path, marker = tmp_path / "evil.yaml", tmp_path / "ran"
    path.write_text(f"name: !!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path [{marker}]]")
    with pytest.raises(ValueError):
        load_config(path)
    assert not Path(marker).exists()


def test_yaml_aliases_do_not_expand_without_bound(tmp_path):
    path = tmp_path / "bomb.yaml"
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]" for k in range(1, 10)]
    path.write_text("\n".join(lines))
    with pytest.raises(ValueError, match=r"bomb\.yaml: not a readable YAML file: .*limit"):
        load_config(path)
    with pytest.raises(ValueError, match="the value is not YAML"):
        load_config("configs/demo.yaml", ["data.args={" + ", ".join(lines) + "}"])
