"""Make synthetic street scenes for an event camera: `python -m tools.make_scenes scenes --workers 2`.

The folder can be trained on as `gen1` (events) and as COCO images (images/, annotations/). A clip of 2 s takes about
half a second of one core. Run again with the same settings, it leaves the folder as it is. docs/scenes.md says more.
"""

from __future__ import annotations

import argparse
import inspect
import json
import logging
import os
from typing import Any

from data.scenes import CLASSES, generate_scenes
from registry import UserError

HELP = {
    "train": "clips to train on",
    "val": "clips to validate on",
    "test": "clips to test on",
    "seconds": "length of a clip",
    "seed": "of everything random",
    "label_hz": "label times per second in val and test",
    "train_label_hz": "label times per second in train",
    "width": "of the sensor, pixels",
    "height": "of the sensor, pixels",
    "classes": "that appear, of " + ", ".join(CLASSES) + "; their order gives the label ids",
    "max_objects": "in a scene; each has 1 or more",
    "arrivals": "objects that pass per second, in place of 1 to max_objects in the whole clip; for long clips",
    "speed": "factor on the speeds of the objects",
    "max_pan": "largest speed of the background, pixels/s",
    "min_side": "of a box that is a label, pixels",
    "dt_ms": "time between two drawn images",
    "threshold": "contrast that makes a pixel fire, in log intensity",
    "sigma": "deviation of the threshold from pixel to pixel",
    "refractory_us": "a pixel is silent for so long after an event",
    "noise_hz": "noise events per pixel and second, ON or OFF",
    "leak_hz": "ON events per pixel and second without any change",
    "hot_pixels": "share of the pixels that are hot",
    "hot_pixel_hz": "ON events of a hot pixel per second",
    "pictures": "write the images and their COCO labels",
    "workers": "processes",
}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.make_scenes",
        description=__doc__.split("\n\n")[1],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("root", help="folder to write")
    for name, option in inspect.signature(generate_scenes).parameters.items():
        if name == "root":
            continue
        default = os.cpu_count() or 1 if name == "workers" else option.default
        kind: dict[str, Any] = {"type": type(default)}
        if isinstance(default, bool):
            kind = {"action": argparse.BooleanOptionalAction}
        elif isinstance(default, tuple):
            kind = {"nargs": "+"}
        parser.add_argument("--" + name.replace("_", "-"), default=default, help=HELP[name], **kind)
    options = vars(parser.parse_args(arguments))
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        root = generate_scenes(**options)
    except UserError as error:
        parser.error(str(error))
    for split, total in json.loads((root / "manifest.json").read_text())["totals"].items():
        print(f"{root / split}: {total['images']} label times, {total['boxes']} boxes, {total['events']:,} events")


if __name__ == "__main__":
    main()
