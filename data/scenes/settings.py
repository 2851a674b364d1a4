"""Options of the synthetic scenes (`Settings`), with defaults and checks; they are saved in the manifest."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from registry import UserError, none_of

from ..recordings.invalid_events import MAX_SIDE
from .scene import MIN_SIDE
from .shapes import CLASSES

SPLITS = ("train", "val", "test")
VERSION = 2  # raised when the same settings would give other scenes
FIRST_LABEL_US = 249_999  # the first whole window of 250 ms
MANIFEST = "manifest.json"

_AT_LEAST = {"train": 0, "val": 0, "test": 0, "seed": 0, "seconds": 0.25, "width": 32, "height": 32, "max_objects": 1}
_AT_LEAST |= dict.fromkeys(("max_pan", "arrivals", "sigma", "refractory_us", "noise_hz", "leak_hz", "hot_pixels"), 0)
_AT_LEAST |= {"min_side": 1, "dt_ms": 0.001}
_ABOVE_0 = ("label_hz", "train_label_hz", "threshold", "speed", "hot_pixel_hz")
_AT_MOST = {"hot_pixels": 1, "max_objects": 10_000, "width": MAX_SIDE, "height": MAX_SIDE}
_REASON = {"seconds": ": a clip needs one whole window", "hot_pixels": ": it is a share of all pixels"}


@dataclass(frozen=True)
class Settings:
    """All options of the generator. Two folders with equal settings have identical files.

    UserError for an invalid option.
    """

    train: int = 32
    val: int = 8
    test: int = 16
    seconds: float = 2.0
    seed: int = 0
    label_hz: float = 4.0
    train_label_hz: float = 20.0
    width: int = 304
    height: int = 240
    max_objects: int = 4
    max_pan: float = 30.0
    dt_ms: float = 8.0
    threshold: float = 0.2
    noise_hz: float = 0.2
    version: int = VERSION
    classes: tuple[str, ...] = CLASSES[:2]
    speed: float = 1.0
    arrivals: float = 0.0
    min_side: int = MIN_SIDE
    sigma: float = 0.03
    refractory_us: int = 500
    leak_hz: float = 0.0
    hot_pixels: float = 0.0
    hot_pixel_hz: float = 100.0
    pictures: bool = True

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "classes":
                object.__setattr__(self, "classes", _checked_classes(value))
                continue
            flag, whole = field.type == "bool", field.type == "int"
            if isinstance(value, bool) != flag or not isinstance(value, int if whole or flag else int | float):
                kind = "true or false" if flag else "a whole number" if whole else "a number"
                raise UserError(f"{field.name} = {value!r}: give {kind}")
            if not math.isfinite(value):
                raise UserError(f"{field.name} = {value}: give a finite number")
            if field.type == "float":
                object.__setattr__(self, field.name, float(value))
        for name, low in _AT_LEAST.items():
            if getattr(self, name) < low:
                raise UserError(f"{name} = {getattr(self, name)}: give at least {low}{_REASON.get(name, '')}")
        for name, high in _AT_MOST.items():
            if getattr(self, name) > high:
                raise UserError(f"{name} = {getattr(self, name)}: give at most {high}{_REASON.get(name, '')}")
        for name in _ABOVE_0:
            if getattr(self, name) <= 0:
                raise UserError(f"{name} = {getattr(self, name)}: give more than 0")
        if (objects := self.arrivals * self.seconds) > _AT_MOST["max_objects"]:
            raise UserError(
                f"arrivals = {self.arrivals}: makes {objects:.0f} objects a clip. Make 10000 in all at most"
            )

    def label_times(self, split: str) -> list[int]:
        """Label times [us]: multiples of the label period minus 1, as in Gen1, from the first whole window on."""
        hz = self.train_label_hz if split == "train" else self.label_hz
        times = [round(k * 1e6 / hz) - 1 for k in range(1, int(self.seconds * hz + 1e-6) + 1)]
        return [t for t in times if t >= FIRST_LABEL_US]

    def clips(self) -> list[tuple[str, int]]:
        """(split, index) of every clip."""
        return [(split, index) for split in SPLITS for index in range(getattr(self, split))]

    def as_dict(self) -> dict:
        """The settings as json values."""
        return asdict(self) | {"classes": list(self.classes)}


def read_settings(root: str | Path) -> Settings:
    """The settings of a folder of scenes. Options that an older manifest lacks have their defaults.

    FileNotFoundError without a manifest, UserError for one that `make_scenes` did not write.
    """
    manifest = Path(root) / MANIFEST
    text = manifest.read_text()
    try:
        return Settings(**json.loads(text)["settings"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{manifest}: was not written by make_scenes. Name another folder") from error


def _checked_classes(names: object) -> tuple[str, ...]:
    if not isinstance(names, list | tuple) or not names or len(set(names)) < len(names):
        raise UserError(f"classes = {names!r}: give a list of different names of {', '.join(CLASSES)}")
    for name in names:
        if name not in CLASSES:
            raise UserError(none_of(f"classes: there is no {name!r}", name, CLASSES))
    return tuple(names)
