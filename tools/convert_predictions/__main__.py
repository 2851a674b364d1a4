"""Convert predictions into files that other tools import.

    python -m tools.convert_predictions label-studio runs/mine/eval/test_coco_best
    python -m tools.convert_predictions cvat runs/mine/predict/photos --images photos
    python -m tools.convert_predictions fiftyone runs/demo/eval/test_prophesee_best data.root=/elsewhere

The folder is one of evaluate.py (detections.json, annotations.json) or of predict.py (predictions.json, images.json).
What is written lies in a folder of its own in it, label-studio/, cvat/ or fiftyone/, or in --out; of recordings and
videos also the image of each prediction, in data/. docs/tools.md has the steps in each tool.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from engine.command import run_command
from engine.prediction.output import require_free
from registry import UserError

from .cvat import write_cvat
from .fiftyone import write_fiftyone
from .label_studio import LOCAL_FILES, write_label_studio
from .media import find_images
from .source import read_source

# Format: what writes it, and the least score that it keeps by default.
FORMATS: dict[str, tuple[Callable[..., list[str]], float]] = {
    "label-studio": (write_label_studio, 0.3),
    "cvat": (write_cvat, 0.3),
    "fiftyone": (write_fiftyone, 0.0),  # computes AP, which needs all
}


def main(argv: list[str] | None = None) -> Path:
    parser = argparse.ArgumentParser(
        prog="python -m tools.convert_predictions", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("format", choices=list(FORMATS))
    parser.add_argument("folder", type=Path, help="of an evaluation or a prediction")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="of recordings: changes to the run's config")
    parser.add_argument("--out", type=Path, help="default: a folder of the format's name in FOLDER")
    parser.add_argument("--images", type=Path, metavar="DIR", help="where the images or recordings lie")
    parser.add_argument("--min-score", type=float, help="default: 0.3; fiftyone: all, since it computes AP")
    parser.add_argument("--url", default=LOCAL_FILES, help="label-studio: what stands before each image's path")
    args = parser.parse_intermixed_args(argv)
    write, least = FORMATS[args.format]
    if args.url != LOCAL_FILES and args.format != "label-studio":
        raise UserError("--url is for label-studio: leave it out")
    out = args.out or args.folder / args.format
    require_free(out)
    least = least if args.min_score is None else args.min_score
    source = read_source(args.folder).above(least)
    out.mkdir(parents=True, exist_ok=True)
    images = find_images(source, out, args.images, args.overrides)
    boxes = f"{len(source.detections)} boxes" + (f" with score ≥ {least:g}, {source.hidden} below" if least else "")
    print(f"{out}: {boxes}, in {len(source.images)} images")
    if source.incomplete:
        print(f"the prediction lacks frames: {source.incomplete}")
    for line in write(source, images, out, args.url):
        print(line)
    return out


if __name__ == "__main__":
    run_command(main)
