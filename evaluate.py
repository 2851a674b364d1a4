"""Score a checkpoint on a split, or detections in a file: AP with its protocol, detections, drawings.

    python evaluate.py runs/demo/checkpoint_best.pt                              test split, the config's protocol
    python evaluate.py runs/demo/checkpoint_last.pt --protocol coco --split val
    python evaluate.py CHECKPOINT data.root=/elsewhere --report --spikes         one page of it all: report.html
    python evaluate.py CHECKPOINT --plots                                        also precision_recall.png and others
    torchrun --nproc-per-node=8 evaluate.py CHECKPOINT                           on eight GPUs, the same numbers
    python evaluate.py CHECKPOINT eval.score_threshold=0.3 eval.nms_iou=0.5      of images also eval.T=1
    python evaluate.py CHECKPOINT --energy [--energy-memory qualia]              estimate of energy: energy.json
    python evaluate.py CHECKPOINT --binary                                       run it on spikes of 0 and 1 only
    python evaluate.py CHECKPOINT --steps 16,32,64 [--early-exit]                AP against T: curve.json, curve.png
    python evaluate.py CHECKPOINT --noise 0.1,0.2,0.3                            AP under noise: robustness.json, .png
    python evaluate.py CHECKPOINT --history 1,2,4,8,all                          AP against windows seen: history.json
    python evaluate.py CHECKPOINT --windows 50,100                               AP with shorter windows: windows.json
    python evaluate.py --detections FILE --truth annotations.json --protocol voc07      no model, no drawings
    python evaluate.py CONFIG data.root=/elsewhere --detections FILE --split val        truth: the config's dataset
    python evaluate.py CHECKPOINT --detections FILE --protocol raw                      truth: that of its run

Each evaluation has a folder of its own beside the checkpoint, eval/SPLIT_PROTOCOL_CHECKPOINT and what else differs from
the run (eval/test_coco_best, eval/test_coco_best_weights=model), or --out: metrics.json (AP beside its protocol, data,
settings, commit and machine), detections.json (COCO results in original pixels), annotations.json (their truth) and
pictures/. The same evaluation again replaces it. Refuses, with a non-zero exit, when images that the labels list are
missing, unless --allow-missing. With --detections FILE.json the folder is FILE_SPLIT_PROTOCOL beside it.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from analysis.energy.constants import MEMORIES
from engine.command import run_command
from engine.evaluations.checkpoint import score_checkpoint
from engine.evaluations.detections_file import score_file
from engine.evaluations.options import Options
from engine.runs.provenance import command_line
from registry import UserError
from scoring.protocols import PROTOCOLS, get_protocol


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", nargs="?", help="with --detections also a config, or nothing where --truth is")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="changes to the run's config")
    parser.add_argument("--detections", type=Path, metavar="FILE", help="score these COCO results, run no model")
    parser.add_argument("--truth", type=Path, metavar="FILE", help="COCO annotations to score them against")
    parser.add_argument("--protocol", help=f"{', '.join(PROTOCOLS)}; default: the config's eval.protocol, else coco")
    parser.add_argument("--split", help="default: the config's data.test_split")
    parser.add_argument("--weights", choices=["ema", "model"], default="ema", help="averaged or last weights")
    parser.add_argument("--allow-missing", action="store_true", help="score although listed images are missing")
    parser.add_argument("--spikes", action="store_true", help="firing rate of every layer, operations")
    parser.add_argument(
        "--energy", action="store_true", help="estimate energy per image, by several rules: energy.json"
    )
    parser.add_argument(
        "--energy-memory", metavar="RULE", help=f"of --energy: {', '.join(MEMORIES)}; default: the first"
    )
    parser.add_argument(
        "--joules", action="store_true", help="measure joules per image on an NVIDIA GPU, batches 1, 64"
    )
    parser.add_argument(
        "--binary", action="store_true", help="integer outputs 0..D as D binary slots; SpikeYOLO family"
    )
    parser.add_argument("--steps", metavar="T,T,...", help="AP after each T; converted: default 16,32,64 .. 2048")
    parser.add_argument(
        "--early-exit", type=float, nargs="?", const=0.3, metavar="SCORE",
        help="keep an image's detections once those above SCORE (default 0.3) have not changed",
    )  # fmt: skip
    parser.add_argument("--noise", metavar="D,D,...", help="also AP under salt-and-pepper noise of these densities")
    parser.add_argument("--history", metavar="N,..,all", help="AP of recordings N windows after a reset of the state")
    parser.add_argument("--windows", metavar="MS,MS,...", help="also AP of recordings with windows of these lengths")
    parser.add_argument("--report", action="store_true", help="report.html: scores broken down, rates, energy")
    parser.add_argument("--plots", action="store_true", help="the report, and its plots as png; when frames close")
    parser.add_argument("--pictures", type=int, default=8, help="how many to draw, truth left, prediction right")
    parser.add_argument("--out", type=Path, help="default: eval/ beside the checkpoint, see above")
    args = parser.parse_intermixed_args(argv)
    if args.checkpoint and "=" in args.checkpoint and not Path(args.checkpoint).exists():
        args.checkpoint, args.overrides = None, [args.checkpoint, *args.overrides]
    asked = Options(**vars(args), command=command_line("evaluate.py", argv))
    if asked.protocol:
        get_protocol(asked.protocol)  # an unknown name fails before any work
    if asked.detections:
        return score_file(asked)
    if asked.truth:
        raise UserError("--truth belongs to --detections FILE; a checkpoint is scored against its dataset")
    if not asked.checkpoint:
        raise UserError("nothing to score: name a checkpoint, or --detections FILE with --truth FILE")
    return score_checkpoint(asked)


if __name__ == "__main__":
    run_command(main, "the results of this evaluation were not written")
