"""Run a checkpoint on images, videos, a camera or recordings of events: boxes drawn, and written as COCO json.

    python predict.py runs/cells photo.jpg                         an image, a folder, or a glob in quotes
    python predict.py runs/cells photos --save-json                also predictions.json and images.json
    python predict.py runs/cells street.mp4                        a video: the same with boxes
    python predict.py runs/cells 0                                 camera 0, until Ctrl-C or --limit frames
    python predict.py runs/demo recording.raw                      events: a video of its windows, with a time bar
    python predict.py runs/demo recordings --stride-ms 50          boxes every 50 ms, in each recording of a folder

The preprocessing is that of the training. Results go into predict/NAME beside the checkpoint, or --out, a new folder.
Files that cannot be read are named, the others go on, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from engine.command import run_command
from engine.prediction.options import Options
from engine.prediction.predict import predict
from engine.runs.provenance import command_line
from registry import UserError


def main(argv: list[str] | None = None) -> Path:
    """Returns the folder of the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", help="a checkpoint, or the folder of a run: its best one")
    parser.add_argument(
        "source", help="image, folder, 'glob', video, recording (.dat .raw .h5 .npz .bin), camera index"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="a new folder; default: predict/NAME by the checkpoint")
    parser.add_argument("--save-json", action="store_true", help="predictions.json, COCO results, and images.json")
    parser.add_argument(
        "--video", action=argparse.BooleanOptionalAction, default=None,
        help="one video, or an image for each frame; default: a video, but of still images",
    )  # fmt: skip
    parser.add_argument("--fps", type=float, default=10.0, help="of the --video of still images (10)")
    parser.add_argument("--draw", action=argparse.BooleanOptionalAction, default=True, help="draw boxes (yes)")
    parser.add_argument("--score", type=float, default=0.3, help="leave out detections of a lower score (0.3)")
    parser.add_argument("--track", action="store_true", help="number objects over time; needs the package trackers")
    parser.add_argument("--steps", type=int, metavar="T", help="time steps of images; default: as trained or converted")
    parser.add_argument("--window-ms", type=float, help="of recordings; default: the training's")
    parser.add_argument("--stride-ms", type=float, help="between the ends of windows; default: the window")
    parser.add_argument(
        "--carry", action=argparse.BooleanOptionalAction, default=None,
        help="membranes from window to window, or each from rest; default: as in the training",
    )  # fmt: skip
    parser.add_argument("--batch", type=int, help="frames at once; default: the config's eval.batch_size")
    parser.add_argument("--limit", type=int, help="stop after this many frames")
    parser.add_argument("--weights", choices=["ema", "model"], default="ema", help="averaged or last weights")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N")
    args = parser.parse_args(argv)
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise UserError("predict.py runs in one process: start it with python, not torchrun")
    options = Options(**{name: getattr(args, name) for name in Options.names()})
    command = command_line("predict.py", argv)
    return predict(args.checkpoint, args.source, options, args.out, args.weights, args.device, command)


if __name__ == "__main__":
    run_command(main)
