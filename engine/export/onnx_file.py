"""--format onnx: a file of plain operators, with all that a reader needs in its metadata, checked before it is kept."""

from __future__ import annotations

import importlib.util
import json
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data import DetectionDataset
from data.atomic_file import write_atomically
from data.loader import calibration_loader
from models import Detector
from registry import UserError

from ..runs.open import Run
from .description import describe
from .options import ExportOptions
from .samples import dataset_for, detector_of, samples_of
from .score import require_independent, score

KEY = "spikesight"  # of the metadata: JSON
REPEATS = 5


def write_onnx(run: Run, out: Path, options: ExportOptions) -> None:
    """UserError, and no file, if onnxruntime computes something else than the detector."""
    options.refuse("onnx", "upto")
    if not options.int8:
        options.refuse("onnx without --int8", "images")
    if not (options.int8 or options.score):
        options.refuse("onnx without --score", "split")
    if options.images < 1:
        raise UserError(f"--images {options.images}: give a number of training images, at least 1")
    if missing := [name for name in ("onnx", "onnxruntime") if importlib.util.find_spec(name) is None]:
        raise UserError(f'{" and ".join(missing)} not installed: pip install -e ".[export]"')
    from models.deploy.onnx_graph.check import check
    from models.deploy.onnx_graph.detector import to_onnx
    from models.deploy.onnx_graph.session import OnnxDetector, Session

    if options.cfg.threads:
        torch.set_num_threads(options.cfg.threads)
    data = _datasets(options)
    samples = samples_of(run, options)
    model = detector_of(run, options, samples)
    graph, neurons = to_onnx(model, samples.x, options.raw, options.batch)
    agreement = check(graph, model, neurons, samples.x)
    print(f"onnxruntime on {samples.source}: {agreement.text()}")
    about = {
        **describe(run, model, options.weights),
        "input": samples.input,
        "binary": options.binary,
        "outputs": [output.name for output in graph.graph.output],
        "nodes": len(graph.graph.node),
        "check": {"on": samples.source, **vars(agreement)},
    }
    if options.int8:
        graph, about["int8"] = _quantised(graph, data[options.cfg.data.train_split], options)
    entry = graph.metadata_props.add()
    entry.key, entry.value = KEY, json.dumps(about)
    write_atomically(out, lambda partial: partial.write_bytes(graph.SerializeToString()))
    session = Session(out)
    about |= {"bytes": out.stat().st_size, "ms": _times(model, session, samples.x), "threads": torch.get_num_threads()}
    print(f"one call: {about['ms']['onnxruntime']:.1f} ms in onnxruntime, {about['ms']['torch']:.1f} ms in PyTorch")
    if options.score or options.int8:
        about["score"] = _scores(run, OnnxDetector(session, model.head), data, options)
    write_atomically(described(out), json.dumps(about, indent=1) + "\n")


def described(out: Path) -> Path:
    """The json beside an exported file."""
    return out.with_name(f"{out.name}.json")


def _datasets(options: ExportOptions) -> dict[str, DetectionDataset]:
    """{split: the data that --int8 is calibrated on, and those that are scored}. UserError where they are not there."""
    names = [options.cfg.data.train_split] if options.int8 else []
    found = {name: dataset_for(options, name) for name in names}
    if options.int8 or options.score:
        split = _scored_split(options)
        found[split] = found[split] if split in found else dataset_for(options, split)
        require_independent(found[split])
    return found


def _scored_split(options: ExportOptions) -> str:
    return options.split or options.cfg.data.val_split


def _quantised(graph: Any, dataset: DetectionDataset, options: ExportOptions) -> tuple[Any, dict[str, Any]]:
    from models.deploy.onnx_graph.int8 import to_int8

    loader = calibration_loader(dataset, options.batch or 1, options.images, options.cfg.seed)
    whole = (batch for batch in loader if len(batch.image_ids) == (options.batch or 1))
    graph, counts = to_int8(graph, (batch.to("cpu")[0] for batch in whole))
    print(
        f"int8: {counts['int8']} convolutions, {counts['exact']} of them with inputs that 8 bits hold exactly; "
        f"{counts['float']} first and last ones in float32"
    )
    return graph, {"convolutions": counts, "images": min(options.images, len(dataset))}


def _scores(
    run: Run, exported: torch.nn.Module, data: dict[str, DetectionDataset], options: ExportOptions
) -> dict[str, Any]:
    """AP of the checkpoint and of the file."""
    split, protocol = _scored_split(options), options.cfg.eval.protocol
    found: dict[str, Any] = {"split": split, "protocol": protocol}
    for name, detector in (("checkpoint", run.model), ("file", exported)):
        scores = score(detector, data[split], protocol, options.batch or 1)
        found[name] = {key: scores.get(key) for key in ("AP", "AP50", "images")}
        shown = ", ".join(f"{key} {value:.4f}" for key, value in found[name].items() if isinstance(value, float))
        print(f"{name}: {shown} ({protocol}, {scores['images']} images of split {split})", flush=True)
    return found


@torch.inference_mode()
def _times(model: Detector, session: Any, x: Tensor) -> dict[str, float]:
    """Milliseconds of one call, with one input if the file takes any number: the least of several, in turn."""
    axis = 1 if x.dim() == 5 else 0
    x = x.narrow(axis, 0, 1) if isinstance(session.shape[axis], str) else x
    taken: dict[str, list[float]] = {"onnxruntime": [], "torch": []}
    for _ in range(REPEATS):
        for name, call in (("onnxruntime", session), ("torch", lambda x: model.logits(model.encode(x)))):
            start = time.perf_counter()
            call(x)
            taken[name].append(1e3 * (time.perf_counter() - start))
    return {name: min(times) for name, times in taken.items()}
