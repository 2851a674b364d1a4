"""Check a dataset before training: statistics of each split, and every problem found.

    python check.py CONFIG [key=value ...] [--fast]      or: python -m data.check CONFIG ...

Exit code 1 if a problem would stop a training; with data.strict, for any problem. `--fast` reads labels and image
headers only, neither pixels nor recordings.
"""

from __future__ import annotations

import argparse
import logging
import sys
from functools import partial

from data.check import check_dataset
from engine.build import build_dataset
from engine.config import dataset_kwargs, load_config
from registry import UserError
from scoring.truth_check import check_truth


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="a YAML file under configs/")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--fast", action="store_true", help="labels only")
    args = parser.parse_intermixed_args(argv)
    cfg = load_config(args.config, args.overrides)
    splits = [cfg.data.train_split, cfg.data.val_split, cfg.data.test_split]
    dataset_kwargs(cfg)  # wrong arguments stop the command here: they are not a problem of one split
    create = partial(build_dataset, cfg, augment=True)  # so that the augmentation options are checked too
    judge = partial(check_truth, cfg.eval.protocol)
    report = check_dataset(cfg.data.name, splits, fast=args.fast, optional=splits[2:], judge=judge, create=create)
    print(report)
    return 1 if report.fatal or (cfg.data.strict and report.problems.items) else 0


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"error: {error}")
