"""Helper: the pages of README and docs, their blocks and commands, and a folder with what they take for granted."""

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from data.recordings import write_dat

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))
TINY = "{train: 1, val: 1, test: 1, seconds: 1.0, width: 96, height: 64, arrivals: 4.0, train_label_hz: 4, workers: 1}"


def blocks(page: Path, language: str) -> list[str]:
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.S | re.M)  # in pairs, whatever their language
    return [block for found, block in fenced if found == language]


STARTS = re.compile(r"(?:\.venv/bin/)?(?:python|torchrun|make|pip|tensorboard|sbatch|source) \S")
SCRIPT = re.compile(r"(?:train|check|evaluate|predict|convert|export)\.py (?!-)")  # in the text also without python


def commands(page: Path) -> list[list[str]]:
    """Each command of a page as its words: those in blocks, and those in the text."""
    found = []
    for block in blocks(page, ""):
        found += re.sub(r"\\\n", " ", block).splitlines()
    inline = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.S | re.M)
    spans = [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", inline)]
    found += [f"python {span}" if SCRIPT.match(span) else span for span in spans]
    lines = [re.split(" {2,}", line)[0] if line.startswith("make ") else line for line in found]  # what it does behind
    return [shlex.split(line, comments=True) for line in lines if STARTS.match(line)]


def commands_above(config: Path) -> list[list[str]]:
    """Those in the comments of a config."""
    found = re.findall(r"^# +((?:python|torchrun|sbatch) .*)", config.read_text(), re.M)
    return [shlex.split(line) for line in found if " -c " not in line]


COMMANDS = [(page, words) for page in PAGES for words in commands(page)]
COMMANDS += [(config, words) for config in CONFIGS for words in commands_above(config)]


def configs_shown() -> dict[str, str]:
    """The config files that pages show whole: blocks that begin with `# configs/NAME.yaml`."""
    shown = [block for page in PAGES for block in blocks(page, "yaml") if block.startswith("# configs/")]
    return {block.split("\n", 1)[0].removeprefix("# "): block for block in shown}


def make_files(folder: Path) -> None:
    """Photographs in VOC's layout in `BCCD_Dataset`, one of them as `photo.jpg`, and `recording_td.dat`."""
    rng = np.random.default_rng(0)
    voc = folder / "BCCD_Dataset" / "BCCD"
    for part in ("ImageSets/Main", "Annotations", "JPEGImages"):
        (voc / part).mkdir(parents=True)
    for split, count in {"train": 4, "val": 1, "test": 1}.items():
        names = [f"{split}_{k}" for k in range(count)]
        (voc / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(names) + "\n")
        for name in names:
            Image.fromarray(rng.integers(0, 255, (480, 640, 3), np.uint8)).save(voc / "JPEGImages" / f"{name}.jpg")
            corners = "<xmin>10</xmin><ymin>20</ymin><xmax>200</xmax><ymax>180</ymax>"
            kinds = ("RBC", "WBC", "Platelets")
            objects = "".join(f"<object><name>{kind}</name><bndbox>{corners}</bndbox></object>" for kind in kinds)
            size = "<size><width>640</width><height>480</height><depth>3</depth></size>"
            (voc / "Annotations" / f"{name}.xml").write_text(f"<annotation>{size}{objects}</annotation>")
    shutil.copy(voc / "JPEGImages" / "train_0.jpg", folder / "photo.jpg")
    t = np.sort(rng.integers(0, 1_500_000, 30_000))
    columns = (rng.integers(0, n, len(t)) for n in (304, 240, 2))
    write_dat(folder / "recording_td.dat", t, *columns, 304, 240)
