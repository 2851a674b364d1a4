"""ScaleTable: the activation scale lam of every channel of every layer, as calibration measured it; saved as JSON."""

from __future__ import annotations

import json
import math
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from registry import UserError, none_of

FORMAT = "spikesight-scales-1"
REMEDY = "calibrate again, or correct the file"


class ScaleTable(Mapping[str, Tensor]):
    """{layer name: lam [C]}, ordered as the layers run; float64 on the CPU, finite and above 0.

    An activation of lam is a firing rate of 1: spike trains with rates activation / lam stand for the activations, and
    larger activations are clipped to lam. Functions that take a ScaleTable also take any mapping of 1-d tensors.

    Args:
        scales: {layer name: lam [C]}. UserError naming the layer for anything else.
        origin: how the scales were measured, plain values: images, statistic, percentile, granularity.
        clipped: {layer name: share of the measured values above their lam}, of the layers that were measured.
    """

    def __init__(
        self,
        scales: Mapping[str, Tensor],
        origin: Mapping[str, str | int | float] | None = None,
        clipped: Mapping[str, float] | None = None,
    ):
        self._scales = {name: _checked(name, lam) for name, lam in scales.items()}
        self.origin, self.clipped = dict(origin or {}), dict(clipped or {})

    def __getitem__(self, layer: str) -> Tensor:
        return self._scales[layer]

    def __iter__(self) -> Iterator[str]:
        return iter(self._scales)

    def __len__(self) -> int:
        return len(self._scales)

    def __repr__(self) -> str:
        origin = "".join(f", {key}={value}" for key, value in self.origin.items())
        return f"ScaleTable({len(self)} layers, {sum(map(len, self.values()))} channels{origin})"

    @classmethod
    def of_layers(cls, scales: Mapping[str, Tensor], channels: Mapping[str, int]) -> ScaleTable:
        """The scales of a network whose layers have these numbers of channels, in the order of `channels`.

        A lam [1] holds for all channels of its layer. UserError naming the first layer that is unknown, missing, or has
        another number of channels.
        """
        table = scales if isinstance(scales, cls) else cls(scales)
        for name in table:
            if name not in channels:
                raise UserError(none_of(f"scales of layer {name!r}, which the network does not have", name, channels))
        found = {}
        for name, number in channels.items():
            if name not in table:
                raise UserError(
                    f"no scales for layer {name!r}: give lam [{number}] of it, or calibrate this network; "
                    f"there are scales for {len(table)} layers"
                )
            lam = table[name]
            if len(lam) not in (1, number):
                raise UserError(
                    f"{name}: {len(lam)} scales for {number} channels: give one per channel, or one for the layer; "
                    "scales of a network of another width do not fit"
                )
            found[name] = lam.expand(number)
        return cls(found, table.origin, table.clipped)

    def save(self, path: str | Path) -> None:
        """Write JSON, one layer a line, every number exactly. The file is replaced as a whole, or stays as it was."""
        path = Path(path)
        rows = [f"    {json.dumps(name)}: {json.dumps(lam.tolist())}" for name, lam in self.items()]
        head = {"format": FORMAT, "origin": self.origin, "clipped": self.clipped}
        text = json.dumps(head, allow_nan=False, indent=1).removesuffix("\n}") + ',\n "scales": {\n'
        partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
        try:
            partial.write_text(text + ",\n".join(rows) + "\n }\n}\n", encoding="utf-8")
            os.replace(partial, path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise UserError(f"{path}: scales cannot be written: {error.strerror or error}") from error

    @classmethod
    def load(cls, path: str | Path) -> ScaleTable:
        """Read a file of `save`. UserError naming file, layer and value if it is damaged or not such a file."""
        try:
            content: Any = json.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise UserError(f"{path}: scales cannot be read: {error.strerror or error}") from error
        except (ValueError, RecursionError) as error:  # no JSON, or not UTF-8
            raise UserError(f"{path}: not a readable file of scales ({error}); {REMEDY}") from error
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise UserError(f"{path}: not a file of scales (no format {FORMAT!r}); name one that ScaleTable.save wrote")
        scales, origin, clipped = (content.get(key) for key in ("scales", "origin", "clipped"))
        for key, value in (("scales", scales), ("origin", origin), ("clipped", clipped)):
            if not isinstance(value, dict):
                raise UserError(f"{path}: {key} = {value!r:.80} is no mapping; {REMEDY}")
            for name, entry in value.items():
                if key != "scales" and not isinstance(entry, (int, float) if key == "clipped" else (str, int, float)):
                    raise UserError(f"{path}: {key} has {name!r:.80}: {entry!r:.80}, no plain value; {REMEDY}")
        assert isinstance(scales, dict) and isinstance(origin, dict) and isinstance(clipped, dict)
        try:
            return cls({name: _parsed(name, lam) for name, lam in scales.items()}, origin, clipped)
        except UserError as error:
            raise UserError(f"{path}: {error}") from error


def _parsed(name: str, lam: Any) -> Tensor:
    if not isinstance(lam, list):
        raise UserError(f"{name}: scales {lam!r:.80} are no list of numbers; {REMEDY}")
    for channel, value in enumerate(lam):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < math.inf:
            raise UserError(f"{name}, channel {channel}: scale {value!r:.80} is no finite number; {REMEDY}")
    try:
        return torch.tensor(lam, dtype=torch.float64)
    except (OverflowError, RuntimeError) as error:  # an integer beyond the range of float64
        raise UserError(f"{name}: a scale is beyond the range of numbers; {REMEDY}") from error


def _checked(name: str, lam: Tensor) -> Tensor:
    if not isinstance(name, str):
        raise UserError(f"scales are kept by layer name, got {name!r:.80} of type {type(name).__name__}")
    if not isinstance(lam, Tensor) or lam.ndim != 1 or not len(lam) or lam.is_complex() or lam.dtype == torch.bool:
        what = f"{lam.dtype} {list(lam.shape)}" if isinstance(lam, Tensor) else f"{lam!r:.80}"
        raise UserError(f"{name}: scales must be a tensor of one number per channel, [C], got {what}")
    lam = lam.detach().to("cpu", torch.float64)
    if not (good := lam.isfinite() & (lam > 0)).all():
        channel = int((~good).nonzero()[0])
        raise UserError(
            f"{name}, channel {channel}: scale {lam[channel].item():g}; scales must be finite and above 0. "
            "Give a channel that is never active a small share, such as 1e-3, of the layer's largest scale"
        )
    return lam.clone()
