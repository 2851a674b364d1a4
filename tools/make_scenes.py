"""Make synthetic street scenes for an event camera: `python -m tools.make_scenes scenes --workers 2`.

The folder can be trained on as `gen1` (events) and as COCO pictures (images/, annotations/). It takes about half a
second of one core per clip. Run again with the same settings, it leaves the folder as it is.
"""

from __future__ import annotations

import argparse
import inspect
import json
import logging
import os

from data.synthetic import generate_scenes

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
    "max_objects": "in a scene; each has 1 or more",
    "max_pan": "largest speed of the background, pixels/s",
    "dt_ms": "time between two drawn pictures",
    "threshold": "contrast that makes a pixel fire, in log intensity",
    "noise_hz": "noise events per pixel and second",
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
        if name != "root":
            default = os.cpu_count() or 1 if name == "workers" else option.default
            flag = "--" + name.replace("_", "-")
            parser.add_argument(flag, type=type(option.default), default=default, help=HELP[name])
    options = vars(parser.parse_args(arguments))
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        root = generate_scenes(**options)
    except ValueError as error:
        parser.error(str(error))
    for split, total in json.loads((root / "manifest.json").read_text())["totals"].items():
        print(f"{root / split}: {total['images']} label times, {total['boxes']} boxes, {total['events']:,} events")


if __name__ == "__main__":
    main()
