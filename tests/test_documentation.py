"""README and docs as a user meets them: links lead somewhere, code runs, programs take the commands and configs."""

import contextlib
import functools
import io
import re
import runpy
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from elsewhere import elsewhere
from pages import COMMANDS, PAGES, ROOT, STARTS, TINY, blocks, configs_shown, make_files

from data import create_dataset
from data.events.input import EventInput
from data.images.input import ImageInput
from data.recordings import write_boxes, write_dat
from data.recordings.boxes import BOX_DTYPE
from engine.config import config_to_plain, load_config, model_kwargs
from engine.runs import open_run
from engine.runs.checkpoint import save_checkpoint
from models import create_model


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_a_file_or_a_heading(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.S | re.M)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("https://", "http://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists() and file.is_relative_to(ROOT), f"{page.name}: {target}"
        headings = (
            [re.sub(r"[^\w\- ]", "", h).strip().lower() for h in re.findall(r"^#+ (.*)", file.read_text(), re.M)]
            if anchor
            else []
        )
        assert not anchor or anchor in {h.replace(" ", "-") for h in headings}, f"{page.name}: {target}"


def test_files_that_pages_name_are_there():
    """But for extend.md's, which are new, and `tests/ROOM/test_IDEA.py`."""
    rooms = [path.parent.name for path in ROOT.glob("*/__init__.py")]
    file = re.compile(rf"`((?:{'|'.join([*rooms, 'configs', 'tests'])})/[\w/]+(?:\.\w+|/)?)`")
    named = {(page.name, name) for page in PAGES if page.name != "extend.md" for name in file.findall(page.read_text())}
    assert ("layout.md", "engine/wrap.py") in named
    assert sorted((page, name) for page, name in named if "ROOM" not in name and not (ROOT / name).exists()) == []


def test_every_page_is_linked_from_the_readme():
    readme = (ROOT / "README.md").read_text()
    assert [page.name for page in PAGES[1:] if f"({page.relative_to(ROOT)})" not in readme] == []


@functools.cache
def help_of(*command: str) -> str:
    """What `python COMMAND --help` prints."""
    out, argv = io.StringIO(), sys.argv
    where = command[1] if command[0] == "-m" else command[0]
    sys.argv = [where, *command[2 if command[0] == "-m" else 1 :], "--help"]
    try:
        with contextlib.redirect_stdout(out), pytest.raises(SystemExit), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # runpy's, of a module that is imported already
            if command[0] == "-m":
                runpy.run_module(where, run_name="__main__")
            else:
                runpy.run_path(str(ROOT / where), run_name="__main__")
    finally:
        sys.argv = argv
    return out.getvalue()


def name_of(value: object) -> str:
    return value.name if isinstance(value, Path) else ""


NOT_RUN = {" ".join(words): words for _, words in COMMANDS if elsewhere(words) and words[0] in ("python", "torchrun")}


@pytest.mark.parametrize("words", NOT_RUN.values(), ids=NOT_RUN)
def test_commands_that_are_not_run_are_what_the_programs_take(words, tmp_path):
    """Configs are loaded with their overrides, options are looked up in the help. The others are run by
    tests/test_commands_*.py."""
    if words[0] == "torchrun":
        words = ["python", *words[next(i for i, word in enumerate(words) if word.endswith(".py")) :]]
    size = {"-m": 2}.get(words[1], 1) + (words[1:3] == ["-m", "tools.benchmark"])
    program, rest = words[1 : 1 + size], words[1 + size :]
    if program[-1] in ("pytest", "pip", "venv", "mkdocs"):
        return
    for option in (word for word in rest if word.startswith("--")):
        assert re.search(rf"(?<![\w-]){option}(?![\w-])", help_of(*program)), option
    if program[-1] == "train.py" and rest and rest[0].endswith(".yaml"):
        overrides = [word for word in rest[1:] if "=" in word and not word.startswith("model.name=my_")]
        load_config(ROOT / rest[0], overrides)


def test_make_has_the_targets_and_pip_the_extras_that_are_shown():
    makefile, setup = (ROOT / "Makefile").read_text(), (ROOT / "setup.cfg").read_text()
    shown = "\n".join(page.read_text() for page in PAGES)
    lines = "\n".join(block for page in PAGES for block in blocks(page, ""))
    targets = {*re.findall(r"^make ([a-z]+)", lines, re.M), *re.findall(r"`make ([a-z]+)", shown)}
    assert {"demo", "test"} <= targets
    assert [target for target in targets if not re.search(rf"^{target}:", makefile, re.M)] == []
    extras = set(re.findall(r'pip install -e "\.\[(\w+)\]"', shown))
    assert "cuda" in extras and [extra for extra in extras if not re.search(rf"^{extra} =", setup, re.M)] == []


def test_a_block_of_commands_has_nothing_else():
    """But remarks: a program that STARTS does not know, and a line that is cut off, would not be run."""
    for page in PAGES:
        for block in blocks(page, ""):
            lines = [line for line in re.sub(r"\\\n", " ", block).splitlines() if line and not line.startswith("#")]
            known = [bool(STARTS.match(line)) for line in lines]
            assert all(known) or not any(known), f"{page.name}: {lines[known.index(False)]}"


YAML = [(page, block) for page in PAGES for block in blocks(page, "yaml") if not block.startswith(" ")]


@pytest.mark.parametrize("page, block", YAML, ids=name_of)
def test_configs_shown_are_read(page, block, tmp_path):
    file = tmp_path / "shown.yaml"
    file.write_text(block)
    load_config(file)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with what pages take for granted: photographs in VOC's layout, recordings, and trained detectors."""
    folder = tmp_path_factory.mktemp("place")
    make_files(folder)
    (folder / "docs").mkdir()
    (folder / "cells.yaml").write_text(configs_shown()["configs/cells.yaml"])
    demo = load_config(ROOT / "configs/demo.yaml", [f"data.args.scenes={TINY}"])
    cells = load_config(folder / "cells.yaml")
    representation, window_us = dict(demo.data.args.representation), round(1e3 * demo.data.args.window_ms)
    events = EventInput(representation, demo.model.T, window_us, (240, 304), list(demo.data.size))
    for name, cfg, classes, input in (
        ("demo", demo, ["car", "pedestrian"], events),
        ("cells", cells, ["RBC", "WBC", "Platelets"], ImageInput(cells.data.size)),
    ):
        kwargs = model_kwargs(cfg, len(classes), input.channels)
        content = {"model_kwargs": kwargs, "ema": create_model(**kwargs).state_dict(), "config": config_to_plain(cfg)}
        content["input"] = input.to_plain()
        for run in (name, "mine") if name == "cells" else (name,):
            (folder / "runs" / run).mkdir(parents=True)
            save_checkpoint(folder / "runs" / run / "checkpoint_best.pt", content | {"class_names": classes})
    return folder


CODE = [page for page in PAGES if any("from ." not in code for code in blocks(page, "python"))]


@pytest.mark.parametrize("page", CODE, ids=lambda page: page.name)
def test_the_code_of_a_page_runs_from_top_to_bottom(page, place, monkeypatch):
    """All but the new files that pages show, which tests/test_extend.py puts in their places."""
    monkeypatch.chdir(place)
    torch.manual_seed(0)
    names = {"__name__": "docs"}
    for code in blocks(page, "python"):
        if "from ." not in code:
            exec(compile(code, page.name, "exec"), names)


def test_the_page_on_python_feeds_a_detector_as_training_did(place, tmp_path, monkeypatch):
    """The input that its code makes of an image and of a window of events is that of the datasets."""
    monkeypatch.chdir(place)
    load, image, events, _ = blocks(ROOT / "docs" / "python.md", "python")
    names = {}
    for code in (load, image):
        exec(code, names)
    size = names["model"].input["size"]
    voc = create_dataset("voc", "train", root="BCCD_Dataset/BCCD", size=size)
    (index,) = (k for k, record in enumerate(voc.records) if Path(record.path).stem == "train_0")
    assert torch.equal(names["x"], voc[index].x) and names["input"].scale == 1 / 255

    exec(events, names)
    (tmp_path / "test").mkdir()
    e = names["events"]
    write_dat(tmp_path / "test" / "a_td.dat", e.t, e.x, e.y, e.p, 304, 240)
    write_boxes(tmp_path / "test" / "a_bbox.npy", np.array([(names["end"], 10, 12, 40, 30, 0, 1, 1.0)], BOX_DTYPE))
    config = open_run("runs/demo").config["data"]
    args = {key: value for key, value in config["args"].items() if key != "scenes"}
    args["num_steps"] = names["model"].T
    gen1 = create_dataset("gen1", "test", root=tmp_path, size=config["size"], **args)
    assert torch.equal(names["x"], gen1[0].x)
