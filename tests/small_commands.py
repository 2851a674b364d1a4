"""Helper: the commands of pages at small size."""

import re
from collections.abc import Sequence
from pathlib import Path

from elsewhere import elsewhere
from pages import COMMANDS, CONFIGS, ROOT, TINY

from engine.config import load_config
from models.registry import model_defaults

FOLLOWED = [ROOT / page for page in ("README.md", "docs/quickstart.md", "docs/own_data.md")]
SMALL = {
    "data.size": "64", "train.epochs": "1", "train.batch_size": "2", "train.accumulate": "1", "eval.batch_size": "4",
    "data.workers": "0", "data.cache": "none", "optim.warmup_epochs": "0.5", "threads": "1", "device": "cpu",
    "seed": "0",
}  # fmt: skip
ROOTS = {"scenes": "scenes/demo", "scene_images": "scenes/demo", "gen1": "scenes/demo", "one_mpx": "one_mpx",
         "yolo": "cells", "coco": "coco", "ncaltech101": "ncaltech101", "rvt": "rvt"}  # fmt: skip
VALUES = {"CONFIG": "configs/demo_images.yaml", "RULE": "horowitz45", "P": "coco", "S": "test", "FOLDER": "made"}
STAND_INS = {  # runs by what a command needs of them, the first that fits
    r"--history": "sequence",
    r"--windows|--protocol prophesee|recording_td|recordings": "events",
    r"--binary": "integers",
    r"convert\.py|converted\.pt|CONVERTED|--noise|--early-exit|--steps \d\d": "ann",
    r"": "images",
}


def trains(words: Sequence[str]) -> bool:
    """Whether a command takes a config whose keys make it small."""
    return words[0] in ("train.py", "check.py") or "data.check" in words


def bare(words: list[str]) -> list[str]:
    """A command in one process, with all that it may have, without the keys that `small` sets."""
    start = next((k for k, word in enumerate(words) if word.endswith(".py")), 1) if words[0] == "torchrun" else 1
    kept = []
    for word in words[start:]:
        word = word.removeprefix("[") if word.startswith("[-") else word
        word = word.removesuffix("]") if "[" not in word else word
        if word not in ("key=value", "[key=value", "...", "OPTIONS") and not word.startswith("data.root="):
            kept.append(word.removesuffix(",..."))
    if trains(kept):
        kept = [word for word in kept if word.split("=")[0] not in (*SMALL, "model.args.width")]
        kept = [VALUES.get(word, word) for word in kept]
    return kept


def alone(words: list[str]) -> tuple[str, ...]:
    """A command that no other one prepares: names of runs are left out, and those it reads are `STAND_INS`."""
    kept = bare(words)
    if trains(kept):
        return tuple(word for word in kept if not word.startswith("name="))
    text = " ".join(kept)
    run = next(run for pattern, run in STAND_INS.items() if re.search(pattern, text))
    results = f"runs/{run}/eval/test_coco_best"
    if kept[0] in ("evaluate.py", "predict.py", "convert.py", "export.py") and not kept[1].startswith("--"):
        converted = run == "ann" and kept[0] != "convert.py"
        kept[1] = f"runs/{run}" + ("/config.yaml" if kept[1] == "CONFIG" else "/converted.pt" if converted else "")
    values = VALUES | {"FILE": f"{results}/detections.json", "annotations.json": f"{results}/annotations.json"}
    if "tools.convert_predictions" in kept:
        values["FOLDER"] = results
    return tuple(values.get(word, word) for word in kept)


def of_docs() -> list[tuple[str, ...]]:
    """The commands of docs that are run, each once; without those of the pages in FOLLOWED and of configs."""
    others = {alone(words) for page, words in COMMANDS if page in (*FOLLOWED, *CONFIGS)}
    found = [alone(words) for page, words in COMMANDS if page not in (*FOLLOWED, *CONFIGS) and not elsewhere(words)]
    return [words for words in dict.fromkeys(found) if words not in others]


def small(words: Sequence[str], place: Path) -> list[str]:
    """Arguments of the fixture `command`, from what `bare` or `alone` gives, at small size."""
    words = list(words)
    size = 2 if words[0] == "-m" else 1
    program, rest = words[:size], words[size:]
    if trains(words):
        cfg = load_config(place / rest[0], [word for word in rest[1:] if re.match(r"[\w.]+=", word)])
        root = ROOTS.get(cfg.data.name) or ("VOCdevkit" if "VOC2007" in cfg.data.train_split else "BCCD_Dataset/BCCD")
        rest += [f"{key}={value}" for key, value in SMALL.items()] + [f"data.root={root}"]
        if cfg.data.name.startswith("scene"):
            rest.append(f"data.args.scenes={TINY}")
        if "width" in model_defaults(cfg.model.name):
            rest.append("model.args.width=0.125")
    if "--steps" in rest:
        k = rest.index("--steps") + 1
        rest[k] = ",".join(str(int(T) // 8 or int(T)) for T in rest[k].split(","))
    if program[-1] == "tools.make_scenes":
        rest += "--train 1 --val 1 --test 1 --seconds 0.3 --width 96 --height 64 --workers 1".split()
    return [*program, *rest]
