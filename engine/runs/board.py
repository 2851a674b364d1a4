"""TensorBoard writer of a run folder, for resumed runs too, and for clocks that are set back."""

from __future__ import annotations

import io
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tensorboard.compat.proto.summary_pb2 import Summary
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from scoring.voc_ap import Curve

from .hyperparameters import METRICS

PREFIX = "events.out.tfevents."
THRESHOLDS = np.linspace(0, 1, 101)  # of scores; at the first one are the detections of the second, 0.01
CLASSES = 20  # of more only the curve of all together


class Board:
    """Writes scalars and images into a new event file of `folder`; points from `first_step` on in older files are
    hidden, since a resumed run writes them again.

    TensorBoard reads event files in the order of their names, which begin with a time in seconds, and hides what an
    earlier file has of later steps. Files named later than now are therefore renamed first, and times of events count
    on from the newest file by a clock that is never set back.
    """

    def __init__(self, folder: Path, first_step: int):
        older = sorted(folder.glob(f"{PREFIX}*"))
        self._start = max([time.time(), *(file.stat().st_mtime for file in older)])
        self._clock = time.monotonic()
        _date_before(older, int(time.time()))
        self._writer = SummaryWriter(str(folder), purge_step=first_step)

    def write(self, method: str, *arguments: Any) -> None:
        """`method` of `SummaryWriter` that takes a walltime: add_scalar, add_text ..."""
        getattr(self._writer, method)(*arguments, walltime=self._now())

    def _now(self) -> float:
        return self._start + time.monotonic() - self._clock

    def precision_recall(self, curves: Mapping[str, Curve], step: int) -> None:
        """Points of each class at `THRESHOLDS`, and of all classes together."""
        found = {name: curve.counts(THRESHOLDS) for name, curve in curves.items() if curve.positives}
        positives = {name: curves[name].positives for name in found}
        shown = dict(found) if len(found) <= CLASSES else {}
        if found:
            all_classes = [np.sum([counts[i] for counts in found.values()], 0) for i in range(2)]
            shown["all classes"], positives["all classes"] = (all_classes[0], all_classes[1]), sum(positives.values())
        for name, (true, false) in shown.items():
            missed = positives[name] - true
            precision, recall = true / np.maximum(true + false, 1), true / positives[name]
            rows = (true, false, np.zeros_like(true), missed, precision, recall)
            self.write("add_pr_curve_raw", f"val_precision_recall/{name}", *rows, step, len(THRESHOLDS), None)

    def hyperparameters(self, values: Mapping[str, str | float]) -> None:
        """Differs from `SummaryWriter.add_hparams`, which makes a run of its own for them: they are of this one."""
        for summary in hparams(dict(values), dict.fromkeys(METRICS, 0.0))[:2]:  # the third says that it ended well
            self._writer._get_file_writer().add_summary(summary, walltime=self._now())

    def image(self, tag: str, image: Tensor, step: int) -> None:
        """uint8 [3, H, W], in 256 colours: a third of the file that `SummaryWriter.add_image` writes."""
        file = io.BytesIO()
        colours = Image.fromarray(image.permute(1, 2, 0).contiguous().cpu().numpy())
        colours.quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(file, "PNG")
        encoded = Summary.Image(height=colours.height, width=colours.width, encoded_image_string=file.getvalue())
        summary = Summary(value=[Summary.Value(tag=tag, image=encoded)])
        self._writer._get_file_writer().add_summary(summary, step, self._now())

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


def _date_before(files: list[Path], now: int) -> None:
    """Rename event files, keeping their order, so that their names sort before a file of `now`."""
    if not files or files[-1].name < f"{PREFIX}{now:010d}":
        return
    for i, file in enumerate(files):
        rest = file.name.removeprefix(PREFIX).partition(".")[2]
        file.rename(file.with_name(f"{PREFIX}{now - len(files) + i:010d}.{rest}"))
