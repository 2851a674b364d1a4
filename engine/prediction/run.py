"""A prediction of a run on a source (`Prediction`): read, detect, track, draw and write, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from data.events.input import EventInput, FrameInput
from data.images.input import ImageInput
from data.recordings.unpacking import MAX_UNPACKED_MB
from neurons import DynamicNeuron
from registry import UserError

from ..build import fixed_steps
from ..config import config_from_plain, evaluation_options
from ..evaluation_options import set_evaluation_options
from ..runs.open import Run
from .detect import Detect, detecting
from .frame import Found, Frame, Part
from .image_parts import Stills, Video
from .options import Options
from .output import Output
from .recording import Recording
from .source import Source
from .stopwatch import Stopwatch
from .tracks import LOW, Tracks, require_trackers
from .windows import Windows, windows_of

FEW = 64  # frames


class Prediction:
    """run: its model on `device`, in evaluation mode. Raises UserError for options that do not fit it."""

    def __init__(self, run: Run, source: Source, options: Options, device: torch.device):
        self.run, self.source, self.options, self.device = run, source, options, device
        self.input, self.cfg = run.input, config_from_plain(run.config)
        self.watch, self.failed, self.unit = Stopwatch(), list[str](), "frame"
        self.read = self.done = 0  # frames
        if isinstance(self.input, FrameInput):
            raise UserError(
                f"{run.checkpoint}: was trained on frames that another program made of its recordings "
                "(data.name=rvt), which SOURCE has not. Evaluate it with evaluate.py, or train on the recordings"
            )
        options.check()
        if options.track:
            require_trackers()
            if source.files.get("image"):
                raise UserError("--track: belongs to a video, camera or recording; still images have no order in time")
        self.windows = self._windows()
        self._set_options()
        self.precision = "fp32" if run.ann is not None else str(self.cfg.train.precision)

    def _windows(self) -> Windows | None:
        given = self.options.window_ms, self.options.stride_ms, self.options.carry
        if not isinstance(self.input, EventInput):
            if any(value is not None for value in given):
                raise UserError(
                    "--window-ms, --stride-ms and --carry belong to recordings; this checkpoint reads images"
                )
            return None
        windows = windows_of(self.run.config, self.input, *given)
        if windows.carry and self.run.ann is not None:
            raise UserError("--carry: a converted network is simulated from rest for each window. Leave it out")
        return windows

    def _set_options(self) -> None:
        """Thresholds and T of the model: those of evaluate.py, but for the score."""
        model = self.run.model
        steps = fixed_steps(model, self.input.num_steps)
        if self.options.steps is not None and steps is not None:
            raise UserError(
                f"--steps {self.options.steps}: events have the {steps} steps of their frames: leave it out"
            )
        score = self.options.score * (LOW if self.options.track else 1)
        options: dict[str, Any] = evaluation_options(self.cfg) | {"score_threshold": score}
        if self.options.steps is not None:
            options["T"] = self.options.steps
        set_evaluation_options(model, steps, **options)

    def _run_few_eagerly(self, part: Part) -> None:
        """Neurons on a CPU are not compiled for a few frames: it takes longer than they do."""
        files = self.source.files
        alone = set(files) == {"image"} or sum(map(len, files.values())) == 1  # so that `part` has all frames
        counts = [part.total if alone else None, self.options.limit]
        if self.device.type == "cpu" and min((n for n in counts if n is not None), default=FEW) < FEW:
            for neuron in self.run.model.modules():
                if isinstance(neuron, DynamicNeuron) and neuron.backend == "auto":
                    neuron.backend = "torch"

    def about(self) -> dict[str, Any]:
        """For images.json, plain values."""
        windows: dict[str, Any] = {} if self.windows is None else {"windows": self.windows.describe()}
        if self._shift_clock():
            windows["shift_clock"] = True
        root = {} if self.source.camera is not None else {"root": str(self.source.base.absolute())}
        return root | {"T": self.run.model.T, "precision": self.precision, **windows}

    def parts(self) -> Iterator[Part]:
        """One after the other; a part that cannot be opened is counted in `failed`."""
        source, input = self.source, self.input
        if isinstance(input, ImageInput):
            if source.camera is not None:
                yield Video(source.name, source.camera, input)
            if images := source.files.get("image", []):
                upright = (self.run.config["data"].get("args") or {}).get("orientation") != "stored"
                yield Stills(source.name, images, source.base, input, upright)
        for path in chain(*(source.files.get(kind, []) for kind in ("video", "recording"))):
            name = path.relative_to(source.base).as_posix()
            if self.limited:
                return
            try:
                yield Video(name, path, input) if isinstance(input, ImageInput) else self._recording(name, path)
            except (UserError, OSError) as error:
                self._fail(error)

    @property
    def limited(self) -> bool:
        """Whether --limit frames were read."""
        return self.options.limit is not None and self.read >= self.options.limit

    def _recording(self, name: str, path: Path) -> Recording:
        assert isinstance(self.input, EventInput) and self.windows is not None
        args = self.run.config["data"].get("args") or {}
        opened = args.get("max_unpacked_mb", MAX_UNPACKED_MB), self._shift_clock()
        return Recording(name, path, self.input, self.windows, *opened)

    def _shift_clock(self) -> bool:
        """`data.args.shift_clock` of the training: times from the first event of a recording."""
        return bool((self.run.config["data"].get("args") or {}).get("shift_clock", False))

    def _fail(self, error: UserError | OSError) -> None:
        self.failed.append(str(error))
        if self.source.camera is None and sum(map(len, self.source.files.values())) > 1:  # else it is the last line
            tqdm.write(f"not read: {error}")

    def write(self, output: Output) -> None:
        """All frames of all parts."""
        carry = self.windows is not None and self.windows.carry
        of_run = self.run.model, self.run.class_names, self.input.scale, self.device, self.precision
        with detecting(*of_run, carry) as detect:
            for part in self.parts():
                self._run_few_eagerly(part)
                self._write_part(part, detect, output)
                output.end_part()

    def _write_part(self, part: Part, detect: Detect, output: Output) -> None:
        options, self.unit = self.options, part.unit
        tracks = Tracks(part.rate, options.score) if options.track and part.rate is not None else None
        with tqdm(desc=part.name, total=part.total, unit=part.unit, leave=False, disable=None) as bar:
            for frames in self._batches(part):
                with self.watch.stage("model"):
                    found = detect(frames)
                    if tracks is not None:
                        for one in found:
                            one.tracks = tracks(one.boxes, one.scores, one.labels)
                with self.watch.stage("draw"):
                    for frame, one in zip(frames, found, strict=True):
                        output.add(part, frame, at_least(one, options.score))
                        self.done += 1
                self.watch.end_batch(len(frames))
                bar.update(len(frames))

    def _batches(self, part: Part) -> Iterator[list[Frame]]:
        """Consecutive frames of one shape, numbered."""
        size = self._batch_size()
        frames, batch = part.frames(), list[Frame]()
        while not self.limited:
            with self.watch.stage("read"):
                try:
                    frame = next(frames, None)
                except (UserError, OSError) as error:
                    self._fail(error)
                    break
            if frame is None:
                break
            if isinstance(frame, UserError):
                self._fail(frame)
                continue
            self.read += 1
            frame.sample.image_id = self.read
            if batch and frame.sample.x.shape != batch[0].sample.x.shape:
                yield batch
                batch = []
            batch.append(frame)
            if len(batch) == size:
                yield batch
                batch = []
        if batch:
            yield batch

    def _batch_size(self) -> int:
        """One where each frame waits for the one before, or for the camera."""
        if self.source.camera is not None or (self.windows is not None and self.windows.carry):
            return 1
        return self.options.batch or self.cfg.eval.batch_size


def at_least(found: Found, score: float) -> Found:
    keep = found.scores >= score
    tracks = None if found.tracks is None else found.tracks[keep]
    return Found(found.boxes[keep], found.scores[keep], found.labels[keep], tracks)
