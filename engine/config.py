"""Load configs: an experiment's YAML file over `configs/base.yaml`, `key=value` overrides on top, every key checked.

`dataset_kwargs` and `model_kwargs` turn a config into the plain arguments of datasets and models, which never see a
config object.
"""

from __future__ import annotations

import copy
import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from data import dataset_arguments
from models import has_sampler, model_defaults
from models.checkpoints.plain import check_plain, is_plain
from registry import UserError, did_you_mean

from .keys import from_model, naming_keys
from .ranges import check_values, leaves

BASE = Path(__file__).parent.parent / "configs" / "base.yaml"

PATHS = ("out", "data.root", "data.cache_dir", "train.init_from", "train.distill")
OWN = ("T", "neuron", "head")  # keys of `model` where null means the model's default

# The schema holds types only; configs/base.yaml has the defaults and descriptions, ranges.py the ranges.


@dataclass
class ModelConfig:
    name: str
    T: int | None
    neuron: Any
    head: Any
    args: dict[str, Any]


@dataclass
class DataConfig:
    name: str
    root: str
    size: Any
    augment: dict[str, Any]
    args: dict[str, Any]
    splits: Any
    train_split: str
    val_split: str
    test_split: str
    workers: int
    cache: str
    cache_dir: str | None
    strict: bool
    allow_missing: bool


@dataclass
class OptimConfig:
    name: str
    lr: float
    final_lr_factor: float
    decay: str
    momentum: float
    weight_decay: float
    warmup_epochs: float
    warmup_bias_lr: float
    warmup_momentum: float
    groups: dict[str, Any]


@dataclass
class TrainConfig:
    epochs: int
    batch_size: Any
    accumulate: int
    bptt: int
    precision: str
    channels_last: bool
    clip_norm: float | None
    ema_decay: float
    ema_ramp: float
    fit_anchors: bool
    fit_neurons: int
    fit_target: Any
    freeze: list[str]
    multi_scale: Any
    sync_batchnorm: bool
    checkpoint: Any
    pack_spikes: bool
    compile: bool
    eval_every: int
    eval_both: bool
    patience: int | None
    keep_every: int | None
    save_minutes: float | None
    max_hours: float | None
    log_every: int
    profile: int | None
    init_from: str | None
    anneal: dict[str, Any]
    anneal_until: float
    distill: str | None
    distill_weight: float


@dataclass
class EvalConfig:
    protocol: str
    batch_size: int
    rectangular: bool
    T: int | None
    score_threshold: float | None
    nms_iou: float | None
    max_detections: int | None


@dataclass
class Config:
    name: str | None
    out: str
    overwrite: bool
    seed: int
    device: str
    threads: int | None
    timeout_minutes: float
    model: ModelConfig
    data: DataConfig
    optim: OptimConfig
    train: TrainConfig
    eval: EvalConfig


def load_config(path: str | Path, overrides: list[str] | None = None) -> DictConfig:
    """The config file `path` over configs/base.yaml, then `overrides` ("train.epochs=3"), validated and complete."""
    path = Path(path).expanduser()
    if not path.is_file():
        near = did_you_mean(path, (str(p.relative_to(BASE.parent.parent)) for p in BASE.parent.rglob("*.yaml")))
        raise UserError(f"{path}: no such config file{near}")
    cfg = _merge(OmegaConf.structured(Config), _read(BASE), str(BASE))
    if path.resolve() != BASE:
        cfg = _merge(cfg, _read(path), str(path))
    cfg = apply_overrides(cfg, overrides or [])
    if cfg.name is None:
        cfg.name = path.stem
    return cfg


def config_from_plain(plain: dict[str, Any], overrides: list[str] | None = None) -> DictConfig:
    """A config from the plain values in a checkpoint. Keys that it lacks (of later versions) get their defaults."""
    check_plain(plain, "config of a checkpoint")
    if not isinstance(plain, dict):
        raise UserError(f"config of a checkpoint: expected a mapping of keys, got {type(plain).__name__}")
    base = _merge(OmegaConf.structured(Config), _read(BASE), str(BASE))
    return apply_overrides(_merge(base, plain, "config of a checkpoint"), overrides or [])


def config_to_plain(cfg: DictConfig) -> dict[str, Any]:
    """Dicts, lists and scalars only, interpolations resolved."""
    return OmegaConf.to_container(cfg, resolve=True)  # type: ignore[return-value]


def apply_overrides(cfg: DictConfig, overrides: list[str]) -> DictConfig:
    cfg = copy.deepcopy(cfg)
    for override in overrides:
        if "=" not in override:
            raise UserError(f"command line: {override!r} is not of the form key=value")
        source, key = f"command line, {override!r}", override.split("=", 1)[0]
        if "[" in key:
            raise UserError(
                f"{source}: one element of a list cannot be set alone; give the whole list, as in a.b=[1, 2]"
            )
        try:
            plain = OmegaConf.to_container(OmegaConf.from_dotlist([override]))
        except (YAMLError, OmegaConfBaseException) as error:
            raise UserError(f"{source}: the value is not YAML: {error}") from error
        _check_keys(plain, Config, source)  # type: ignore[arg-type]
        value: Any = plain
        for part in key.split("."):  # as it was written: `${model.T}` is resolved in the whole config
            value = value[part]
        try:
            # A mapping replaces what stood there (data.args={}), but for a whole section (train={epochs: 3}).
            OmegaConf.update(cfg, key, value, merge=key in get_type_hints(Config))
        except OmegaConfBaseException as error:
            raise UserError(f"{source}: {str(error).splitlines()[0]}") from error
    return _checked(cfg)


def _checked(cfg: DictConfig) -> DictConfig:
    """Replace null by the model's defaults and `~` by the home folder, and check the range of every value."""
    try:
        if missing := [key for key in OWN if cfg.model[key] is None]:
            own = own_values(cfg.model.name, config_to_plain(cfg.model.args))
            cfg.model.update({key: own[key] for key in missing if key in own})
        plain = config_to_plain(cfg)
    except OmegaConfBaseException as error:
        raise UserError(f"{error.full_key}: {str(error).splitlines()[0]}") from error
    check_values(plain)
    for key, value in leaves(plain):
        if isinstance(value, str) and value.startswith("~") and (key in PATHS or key.startswith("data.args.")):
            try:
                OmegaConf.update(cfg, key, str(Path(value).expanduser()))
            except RuntimeError as error:  # ~nobody
                raise UserError(f"{key} = {value}: there is no such home folder") from error
    return cfg


def config_changes(before: DictConfig, after: DictConfig) -> dict[str, list[Any]]:
    """{dotted key: [value before, value after]} where they differ; None stands for a key that is not there."""
    old, new = (flat(config_to_plain(cfg)) for cfg in (before, after))
    keys = [*old, *(key for key in new if key not in old)]
    return {key: [old.get(key), new.get(key)] for key in keys if old.get(key) != new.get(key)}


def own_values(name: str, args: dict[str, Any]) -> dict[str, Any]:
    """Default T, neuron and head of the model `name` with `model.args`, without those that are not plain values."""
    try:
        defaults = model_defaults(name, args)
    except ValueError as error:
        raise UserError(f"model.name: {error}") from error
    return {key: value for key, value in defaults.items() if key in OWN and is_plain(value)}


def dataset_kwargs(cfg: DictConfig, augment: bool = False) -> tuple[str, dict[str, Any]]:
    """Dataset name and arguments of `create_dataset` except the split, with `data.augment` if `augment` is set.

    Options that only some datasets have are included if they are set, and arguments that the model decides
    (`from_model`) if the dataset has them. A model with a sampler has one window of micro-bins, unless they are set.
    """
    if OmegaConf.is_missing(cfg.data, "root"):
        raise UserError("data.root is not set: add data.root=/path/to/the/dataset to the command or the config")
    plain = config_to_plain(cfg.data)
    # Absolute, so that messages about files show the whole path.
    kwargs = {"root": os.path.abspath(plain["root"]), "allow_missing": plain["allow_missing"], **plain["args"]}
    with naming_keys(config_to_plain(cfg)):
        takes = dataset_arguments(plain["name"])
    for name, key in from_model(cfg.model.name).items():
        decided = OmegaConf.select(cfg, key)
        if name in takes and (given := kwargs.setdefault(name, decided)) != decided:
            raise UserError(
                f"data.args.{name} = {given!r}, but {key} = {decided!r} decides it: leave "
                f"data.args.{name} out, or set {key}"
            )
    if has_sampler(cfg.model.name) and "num_steps" in takes:
        kwargs.setdefault("num_steps", 1)
        if "window_ms" in takes:  # events; precomputed frames have the representation that they were made with
            kwargs.setdefault("representation", "micro_bins")
    for name in plain.keys() & plain["args"].keys():
        if plain[name] or name == "augment":  # which applies to the training split only
            raise UserError(f"data.{name} and data.args.{name} are both set: leave one of them out")
    if plain["splits"] is not None:
        kwargs["splits"] = plain["splits"]
    if plain["size"] is not None:
        size = plain["size"]
        kwargs["size"] = (size, size) if isinstance(size, int) else size
    if augment and plain["augment"]:
        kwargs["augment"] = plain["augment"]
    if plain["cache"] != "none":
        kwargs["cache"] = plain["cache"]
    if plain["cache_dir"] is not None:
        kwargs["cache_dir"] = plain["cache_dir"]
    if cfg.eval.rectangular and not augment:
        kwargs["rectangular"] = True
    return plain["name"], kwargs


def model_kwargs(cfg: DictConfig, num_classes: int, in_channels: int) -> dict[str, Any]:
    """Arguments of `create_model` as plain values. The checkpoint holds them, to rebuild the model."""
    plain = config_to_plain(cfg.model)
    args = plain.pop("args")
    fixed = {**plain, "num_classes": num_classes, "in_channels": in_channels}
    for name in fixed.keys() & args.keys():
        remedy = f"set model.{name} instead" if name in plain else "the dataset decides it, leave it out"
        raise UserError(f"model.args.{name} = {args[name]!r}: {remedy}")
    # None is left where the model's default is not a plain value: omitted, so that the default applies.
    return {**{name: value for name, value in fixed.items() if value is not None}, **args}


def evaluation_options(cfg: DictConfig) -> dict[str, Any]:
    """Arguments of `set_evaluation_options`: changes to the trained detector for evaluation."""
    return {key: cfg.eval[key] for key in ("T", "score_threshold", "nms_iou", "max_detections")}


def _read(path: Path) -> dict[str, Any]:
    try:
        # OmegaConf reads with a safe YAML loader
        content = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except Exception as error:
        raise UserError(f"{path}: not a readable YAML file: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a mapping of keys at the top, got {type(content).__name__}")
    return content  # type: ignore[return-value]


def _merge(cfg: DictConfig, plain: dict[str, Any], source: str) -> DictConfig:
    _check_keys(plain, Config, source)
    try:
        return OmegaConf.merge(cfg, plain)  # type: ignore[return-value]
    except OmegaConfBaseException as error:
        raise UserError(f"{source}: {str(error).splitlines()[0]} (key {error.full_key!r})") from error


def _check_keys(plain: dict[str, Any], schema: type, source: str, prefix: str = "") -> None:
    types = get_type_hints(schema)
    for key, value in plain.items():
        if key not in types:
            sibling = did_you_mean(key, types).replace("'", f"'{prefix}", 1)
            near = sibling or did_you_mean(f"{prefix}{key}", _all_keys(Config))
            raise UserError(f"{source}: unknown key '{prefix}{key}'{near or '; configs/base.yaml has all keys'}")
        if dataclasses.is_dataclass(types[key]):
            if not isinstance(value, dict):
                raise UserError(f"{source}: '{prefix}{key}' holds keys of its own, got {value!r}")
            _check_keys(value, types[key], source, f"{prefix}{key}.")  # type: ignore[arg-type]


def flat(plain: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{dotted key: value}, lists whole."""
    found: dict[str, Any] = {}
    for key, value in plain.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def _all_keys(schema: type, prefix: str = "") -> list[str]:
    keys = []
    for key, kind in get_type_hints(schema).items():
        keys += _all_keys(kind, f"{prefix}{key}.") if dataclasses.is_dataclass(kind) else [f"{prefix}{key}"]  # type: ignore[arg-type]
    return keys
