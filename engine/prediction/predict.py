"""The work of predict.py (`predict`): open checkpoint and source, say what is done, write it, say what was found."""

from __future__ import annotations

from pathlib import Path

import torch
from tqdm import tqdm

from data.images.input import ImageInput
from registry import UserError

from .. import distributed
from ..runs.open import open_run
from ..runs.provenance import provenance
from .options import Options
from .output import Output, free_folder
from .run import Prediction
from .source import Source, find_source


def predict(
    checkpoint: str | Path,
    source: str,
    options: Options,
    out: Path | None = None,
    weights: str = "ema",
    device: str = "auto",
    command: list[str] | None = None,
) -> Path:
    """Returns the folder of the results: `out`, a new one, or one beside the checkpoint.

    command: for the record in images.json. UserError for a source that the checkpoint does not read, and, at the end,
    where some of its files could not be read; an interrupt closes the files first.
    """
    run = open_run(checkpoint, weights)
    on = distributed.start(device)
    kind = "image" if isinstance(run.input, ImageInput) else "events"
    found = find_source(source, kind, run.checkpoint)
    prediction = Prediction(run, found, options, on)
    folder = free_folder(out, run.checkpoint, found.name)
    if prediction.cfg.threads:
        torch.set_num_threads(prediction.cfg.threads)
    run.model.to(on)
    for line in _opening(prediction, found):
        print(line)
    about = {"checkpoint": str(run.checkpoint), "source": source, "score": options.score, **prediction.about()}
    about |= provenance(command or ["predict"], on)
    output = Output(folder, run.class_names, about, options)
    incomplete: str | None = "an error ended it"
    try:
        prediction.write(output)
        incomplete = f"--limit {options.limit}" if prediction.limited else None
        incomplete = f"{len(prediction.failed)} could not be read" if prediction.failed else incomplete
    except KeyboardInterrupt:
        incomplete = f"stopped after {_frames(prediction)}"
        if found.camera is None:
            raise
    finally:
        output.close(incomplete)
        for line in _closing(prediction, output):
            tqdm.write(line)
    if prediction.failed:
        raise UserError(_unread(prediction))
    return folder


def _opening(prediction: Prediction, source: Source) -> list[str]:
    run, windows = prediction.run, prediction.windows
    lines = [f"model       {run.content['model_kwargs']['name']}, T = {run.model.T}, of {run.checkpoint}"]
    counts = [f"{len(paths)} {kind}{'' if len(paths) == 1 else 's'}" for kind, paths in source.files.items()]
    lines.append(f"source      {source.name}: {', '.join(counts) or 'camera'}")
    if source.left_out:
        names = ", ".join(path.name + "/" * path.is_dir() for path in source.left_out[:3])
        names += " ..." if len(source.left_out) > 3 else ""
        lines.append(f"            {len(source.left_out)} of other kinds left out: {names}")
    if windows is not None:
        lines.append(f"windows     {windows.describe()}")
    return lines


def _closing(prediction: Prediction, output: Output) -> list[str]:
    if not prediction.done:
        return [f"written     {output.written()}"] if output.folder.exists() else []
    boxes = ", ".join(f"{count} {name}" for name, count in output.boxes.most_common())
    total, score = sum(output.boxes.values()), prediction.options.score
    lines = [f"found       {total} boxes of score {score:g} or more on {_frames(prediction)}"]
    lines[0] += f": {boxes}" if boxes else ""
    return [*lines, *prediction.watch.lines(prediction.unit, str(prediction.device)), f"written     {output.written()}"]


def _unread(prediction: Prediction) -> str:
    failed = prediction.failed
    if not prediction.done and len(failed) == 1:
        return failed[0]
    names = "\n".join(f"  {error}" for error in failed[:10]) + ("\n  ..." if len(failed) > 10 else "")
    return f"{len(failed)} could not be read; {_frames(prediction)} predicted on:\n{names}"


def _frames(prediction: Prediction) -> str:
    return f"{prediction.done} {prediction.unit}{'' if prediction.done == 1 else 's'}"
