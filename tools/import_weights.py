"""Import published weights of EMS-YOLO, SpikeYOLO, Spiking YOLOv3, EAS-SNN or SpikingYOLOX, without running their code.

    python -m tools.import_weights 23M.pt --model spikeyolo_s data.root=/path/to/coco data.size=640 data.test_split=val
    python -m tools.import_weights best.pt --config configs/coco/ems_resnet34.yaml data.root=/path/to/coco
    python -m tools.import_weights last.pt --model ems_resnet10_ee --T 5 --verbose
    python -m tools.import_weights best_ckpt.pth --model eas_snn_m model.args.spiking=backbone data.root=/path/to/gen1

Number of classes and input channels follow from the shapes of the weights, class names from the file; `key=value` sets
keys of configs/base.yaml, as in train.py. Rejected, with a non-zero exit and nothing written: a file whose pickle calls
functions that weights do not need, and weights that do not fit the model (missing, or of another shape).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.config import config_from_plain, config_to_plain, load_config, model_kwargs
from engine.runs.checkpoint import save_checkpoint
from models import Detector, LoadReport, create_model, load_published_weights
from models.published import published_names
from registry import UserError

from .published_network import PublishedNetwork, read_published


def main(argv: list[str] | None = None) -> Path:
    parser = argparse.ArgumentParser(
        prog="python -m tools.import_weights",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", type=Path, help="a published .pt file")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="changes to the config, such as data.root=..."
    )
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("--model", help="a registered model, with the neuron, T and head of its paper")
    model.add_argument("--config", help="a config file that names model and dataset")
    parser.add_argument("--T", type=int, help="time steps; default: the model's or the config's")
    parser.add_argument("--num-classes", type=int, help="default: read off the head's shapes")
    parser.add_argument("--class-names", help="a,b,c in the order of the labels; default: the file's")
    parser.add_argument("--which", help="a key of the file; default: ema (averaged), else model, else state_dict")
    parser.add_argument("--allow-missing", action="store_true", help="keep the initial value of what does not fit")
    parser.add_argument("--verbose", action="store_true", help="all names, not the first four")
    parser.add_argument("--out", type=Path, help="default: runs/<name of the file>/checkpoint_imported.pt")
    args = parser.parse_intermixed_args(argv)

    overrides = args.overrides + ([] if args.T is None else [f"model.T={args.T}"])
    named = {"model": {"name": args.model}}
    cfg = load_config(args.config, overrides) if args.config else config_from_plain(named, overrides)
    out = args.out or Path(cfg.out) / args.file.stem / "checkpoint_imported.pt"
    if out.exists():
        raise UserError(f"{out} exists already: remove it, or name another file with --out")

    if args.num_classes is not None and args.num_classes < 1:
        raise UserError(f"--num-classes {args.num_classes}: give at least 1")

    published = read_published(args.file, args.which)
    print(f"{args.file}: {published.origin}")
    kwargs = model_kwargs(cfg, args.num_classes or 1, in_channels=3)
    if args.num_classes is None:
        kwargs["num_classes"] = infer("num_classes", published.weights, kwargs)
        if kwargs["num_classes"] is None:
            raise UserError(
                f"{args.file}: no shape there tells the classes of {kwargs['name']}: choose another --model or "
                "model.args, or give --num-classes, which lists the names that differ"
            )
    kwargs["in_channels"] = infer("in_channels", published.weights, kwargs) or 3
    class_names = _class_names(args.class_names, published, kwargs["num_classes"])

    torch.manual_seed(cfg.seed)  # initial values, kept with --allow-missing
    detector = create_model(**kwargs)
    report = load_published_weights(detector, published.weights)
    print(
        f"{kwargs['name']}: {sum(p.numel() for p in detector.parameters()):,} parameters, T={detector.T}, neuron "
        f"{kwargs['neuron']}, {kwargs['num_classes']} classes"
        + (" (read off the head)" if args.num_classes is None else "")
        + f", {kwargs['in_channels']} input channels"
    )
    print(describe(report, detector, published.weights, args.verbose))
    if (report.missing or report.shape_differs) and not args.allow_missing:
        raise UserError(
            f"{args.file} does not hold the weights of {kwargs['name']} as built here: {report}. Nothing was written. "
            "Choose another --model or model.args, or keep initial values there with --allow-missing"
        )

    state = detector.state_dict()
    content = {
        "config": config_to_plain(cfg) | {"name": cfg.name or args.file.stem},
        "model_kwargs": kwargs,
        "class_names": class_names,
        "model": state,
        "ema": state,
        "epoch": published.epochs,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(out, content)
    print(f"wrote {out}; next: python evaluate.py {out}")
    return out


def infer(argument: str, weights: Mapping[str, Tensor], kwargs: Mapping[str, Any]) -> int | None:
    """The value of an argument of `create_model` that gives these shapes; None if no single value does.

    How each shape depends on the argument is measured with two models on the meta device, for the values 3 and 4.
    """
    shapes = []
    for value in (3, 4):
        with torch.device("meta"):
            model = create_model(**{**kwargs, argument: value})
        own = model.state_dict()
        shapes.append({theirs: own[ours].shape for ours, theirs in published_names(model).items()})
    values = set()
    for name in shapes[0].keys() & weights.keys():
        for at_3, at_4, published in zip(shapes[0][name], shapes[1][name], weights[name].shape, strict=False):
            if at_3 != at_4:
                values.add(3 + (published - at_3) / (at_4 - at_3))
    agreed = values.pop() if len(values) == 1 else 0.0
    return int(agreed) if agreed >= 1 and agreed.is_integer() else None


def _class_names(given: str | None, published: PublishedNetwork, num_classes: int) -> list[str]:
    names = given.split(",") if given else published.class_names
    if names is None:
        print("no class names in the file: give --class-names, which evaluate.py compares with the dataset's")
        return [str(k) for k in range(num_classes)]
    if len(names) != num_classes:
        raise UserError(
            f"{num_classes} classes, but {len(names)} names in {'it' if given else 'the file'}: --class-names"
        )
    return names


def describe(report: LoadReport, model: Detector, weights: Mapping[str, Tensor], verbose: bool) -> str:
    """The counts, and the first names of tensors that did not fit or are not finite; with `verbose` all names."""
    groups = {
        "missing": report.missing,
        "unexpected": report.unexpected,
        "of another shape": [f"{n} {list(theirs)}, here {list(ours)}" for n, theirs, ours in report.shape_differs],
        "holds inf or nan": [name for name, w in weights.items() if not w.isfinite().all()],
        "not part of the published network": sorted(set(model.state_dict()) - set(published_names(model))),
        **({"matched": report.matched} if verbose else {}),
    }
    lines = [str(report)]
    for title, names in groups.items():
        shown = names if verbose else names[:4]
        lines += [f"  {title}: {name}" for name in shown]
        if len(names) > len(shown):
            lines.append(f"  {title}: ... and {len(names) - len(shown)} more (--verbose)")
    if report.unexpected:
        lines.append("unexpected weights are not used; if the published network computes with them, model.args differ")
    return "\n".join(lines)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
