"""ExportOptions: what a user may choose of an exported file."""

from __future__ import annotations

from dataclasses import dataclass, fields

from omegaconf import DictConfig

from registry import UserError


@dataclass(frozen=True)
class ExportOptions:
    """cfg: config of the run, with the overrides of the command; the others are the flags of export.py."""

    cfg: DictConfig
    weights: str = "ema"
    size: tuple[int, int] | None = None  # (height, width) of the input; None: that of the run's evaluation
    batch: int | None = None  # images in one call; None: any number
    raw: bool = False  # logits in place of boxes and scores
    binary: bool = False
    int8: bool = False
    images: int = 64  # of the training split, that int8 is calibrated on
    score: bool = False  # also AP, of the exported file beside that of the checkpoint
    split: str | None = None  # which is scored; None: data.val_split
    upto: str | None = None  # nir: the last module that is exported; None: the whole detector

    def refuse(self, format: str, *names: str) -> None:
        """UserError if one of these options is set, which the format does not have."""
        default = {f.name: f.default for f in fields(self)}
        for name in names:
            if getattr(self, name) != default[name]:
                raise UserError(f"--{name}: --format {format} does not have it: leave it out")
