"""Resuming: which run is chosen, which keys may change, and what is printed."""

import os
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from engine.config import config_to_plain, load_config
from engine.ranges import leaves
from engine.runs.checkpoint import save_checkpoint
from engine.runs.folder import new_run_folder
from engine.runs.identity import MAY_CHANGE, changed_config, compare, data_facts, judged_by, same_judge
from engine.runs.lock import RunLock
from engine.runs.resume import own_config, plan_start

BEGINNING = "configs/demo.yaml"


@pytest.fixture
def world(tmp_path, monkeypatch):
    """Runs with checkpoints as they lie in a folder, and `train.py CONFIG ... --resume` up to its start."""
    return World(tmp_path)


class World:
    def __init__(self, folder: Path):
        self.out, self.clock = folder / "runs", 1_000_000_000

    def run(self, name: str, trained: int | None, epochs: int = 3, which: str = "last", **content) -> Path:
        """A run of that name, later than the ones before; trained = None: no checkpoint was written."""
        folder = new_run_folder(str(self.out), name)
        if trained is not None:
            config = config_to_plain(load_config(BEGINNING, [f"name={name}", f"train.epochs={epochs}"]))
            content = {"epoch": trained, "best": 0.5, "config": config, **content}
            save_checkpoint(folder / f"checkpoint_{which}.pt", content)
        self.clock += 1000
        for path in folder.iterdir():
            os.utime(path, (self.clock, self.clock))
        return folder

    def start(self, *overrides: str, resume: str = "", name: str | None = "dd"):
        overrides = (f"out={self.out}", *([f"name={name}"] if name else []), *overrides)
        return plan_start(load_config(BEGINNING, list(overrides)), list(overrides), resume, BEGINNING)


def test_an_interrupted_run_before_a_finished_one(world):
    world.run("dd", 3)
    second = world.run("dd", 1)
    assert world.start().folder == second and second.name == "dd-2"
    third = world.run("dd", 3)
    assert third.name == "dd-3" and world.start().folder == second
    assert world.run("dd", 2) == world.start().folder  # the newest of those with epochs left


def test_a_run_without_checkpoint_is_not_passed_over(world):
    world.run("dd", 3)
    world.run("dd", None)
    with pytest.raises(ValueError, match="dd-2, the newest run named dd: .*before its first checkpoint.*dd .3 of 3"):
        world.start()
    start = world.start(resume=str(world.out / "dd-2"))  # named, it starts over
    assert start.folder.name == "dd-2" and start.checkpoint is None
    assert start.say == [f"{start.folder}: ended before its first checkpoint, starts over"]
    with pytest.raises(ValueError, match="runs: not a run's folder, there is no checkpoint_last.pt"):
        world.start(resume=str(world.out))


def test_only_runs_of_exactly_this_name(world):
    world.run("exp", 1)
    world.run("exp-2", 2)
    assert world.start(name="exp").folder.name == "exp"
    assert world.start(name="exp-2").folder.name == "exp-2"
    assert world.run("exp", 1).name == "exp-3"
    assert world.start(name="exp").folder.name == "exp-3"
    with pytest.raises(ValueError, match="no run named expp to resume, did you mean 'exp'"):
        world.start(name="expp")


@pytest.mark.parametrize("name", ["a[1]", "a*", "a?b", "x.y"])
def test_names_with_marks_are_found(world, name):
    world.run("a1", 1)
    folder = world.run(name, 1)
    assert world.start(name=name).folder == folder == world.start(name=name, resume="auto").folder


def test_a_run_without_marker_has_the_name_in_its_config(world):
    folder = world.run("dd", 1)
    (folder / ".spikesight_run").unlink()
    (folder / "config.yaml").write_text(
        str(config_to_plain(load_config(BEGINNING, ["name=dd"]))).replace("None", "null")
    )
    assert world.start().folder == folder


def test_a_finished_run_says_what_it_is_and_how_it_goes_on(world):
    folder = world.run("dd", 3)
    start = world.start()
    assert start.finished and start.folder == folder
    assert f"{folder} is finished: 3 of 3 epochs trained, best score 0.500 (prophesee, val)" in start.say[-1]
    assert f"train.epochs=6 --resume {folder}" in start.say[-1]
    longer = world.start("train.epochs=5")
    assert not longer.finished and longer.epochs == 3 and longer.cfg.train.epochs == 5
    with pytest.raises(ValueError, match="train.epochs = 2: .* has trained 3 epochs already"):
        world.start("train.epochs=2")


def test_a_last_epoch_without_a_score_is_not_finished(world):
    world.run("dd", 3, scored=False)
    assert not world.start().finished


def test_auto_continues_or_starts(world):
    assert world.start(resume="auto").folder is None
    abandoned = world.run("dd", None)
    start = world.start(resume="auto")
    assert start.folder == abandoned and start.checkpoint is None and "starts over" in start.say[0]
    world.run("dd-2", 1)  # of another name
    assert world.start(resume="auto").folder == abandoned
    interrupted = world.run("dd", 1)
    start = world.start(resume="auto")
    assert start.folder == interrupted and start.checkpoint == interrupted / "checkpoint_last.pt"
    world.run("dd", None)
    assert world.start(resume="auto").folder == interrupted


def test_auto_does_not_train_a_finished_run_again(world):
    folder = world.run("dd", 3)
    start = world.start(resume="auto")
    assert start.finished and start.folder == folder
    assert not world.start("train.epochs=4", resume="auto").finished


def test_a_best_checkpoint_alone_is_resumed(world):
    """A crash after it was written, before the last one was."""
    folder = world.run("dd", 1, which="best")
    for resume in ("", "auto", str(folder), str(folder / "checkpoint_best.pt")):
        start = world.start(resume=resume)
        assert start.checkpoint == folder / "checkpoint_best.pt" and "has no checkpoint_last.pt" in start.say[0]
    world.run("ee", 1)
    save_checkpoint(world.out / "ee" / "checkpoint_best.pt", {})
    with pytest.raises(ValueError, match="checkpoint_best.pt: a run resumes from its checkpoint_last.pt"):
        world.start(resume=str(world.out / "ee" / "checkpoint_best.pt"), name=None)


def test_a_run_that_is_trained_is_not_resumed(world):
    folder = world.run("dd", 1)
    with RunLock(folder):
        # A lock of this process does not stop this process, so ask another one.
        pid = os.fork()
        if pid == 0:
            refused = 0
            for resume in ("", "auto", str(folder)):
                try:
                    world.start(resume=resume)
                except ValueError as error:
                    refused += "being trained" in str(error)
            os._exit(refused)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3


def test_a_damaged_checkpoint_is_named(world):
    folder = world.run("dd", 1)
    (folder / "checkpoint_last.pt").write_bytes(b"damaged")
    for resume in ("", "auto", str(folder)):
        with pytest.raises(ValueError, match="checkpoint_last.pt: "):
            world.start(resume=resume)


def test_a_name_beside_a_run_is_an_error_unless_it_is_its_own(world):
    folder = world.run("dd", 1)
    assert world.start(resume=str(folder), name="dd").folder == folder
    with pytest.raises(ValueError, match="name=other: .*dd is named dd"):
        world.start(resume=str(folder), name="other")
    with pytest.raises(ValueError, match="no run named other"):
        world.start(name="other")
    with pytest.raises(ValueError, match="overwrite=.* is for a new run"):
        world.start("overwrite=true")


CHANGED = ["seed=1", "model.T=2", "model.neuron=relu", "model.args={width: 0.5}", "data.size=[120, 152]"]
CHANGED += ["data.augment={hflip: 0.1}", "data.args.window_ms=200", "data.train_split=val", "data.name=gen1"]
CHANGED += ["optim.name=sgd", "optim.lr=0.1", "optim.weight_decay=0.25", "optim.decay=linear", "optim.warmup_epochs=1"]
CHANGED += ["train.clip_norm=1", "train.ema_decay=0.9", "train.precision=bf16", "train.sync_batchnorm=true"]
CHANGED += [
    "train.distill_weight=2",
    "train.init_from=x.pt",
    "train.fit_anchors=false",
    "optim.momentum=0.8",
    "model.head=dfl",
]
CHANGED += ["train.fit_neurons=1", "train.fit_target=[0.5, 0.5]"]


@pytest.mark.parametrize("override", CHANGED)
def test_what_makes_another_run_is_refused(world, override):
    folder = world.run("dd", 1)
    key = override.partition("=")[0]
    with pytest.raises(ValueError, match=rf"{folder}: cannot resume: {key}\S* changed from .* to .*train.init_from"):
        world.start(override)


@pytest.mark.parametrize(
    "override",
    ["data.workers=3", "threads=2", "device=cuda", "data.root=/x", "train.log_every=7", "data.val_split=test"]
    + ["eval.protocol=coco", "train.epochs=9", "data.cache=disk", "train.eval_every=2", "train.batch_size=4"]
    + ["train.distill=/elsewhere/checkpoint_best.pt"],
)
def test_what_may_change_is_said(world, override):
    world.run("dd", 1)
    key, _, value = override.partition("=")
    start = world.start(override)
    assert str(dict(leaves(config_to_plain(start.cfg)))[key]) == value
    assert any(line.startswith(f"{key} changed from ") for line in start.say)


def test_every_key_that_may_change_is_one():
    plain = config_to_plain(load_config(BEGINNING))
    assert set(MAY_CHANGE) <= set(dict(leaves(plain)))
    docs = (Path(__file__).parents[3] / "docs" / "runs.md").read_text()
    assert all(f"`{key}`" in docs for key in MAY_CHANGE if key not in ("name", "overwrite"))


def test_a_config_file_that_has_changed_since_is_said(world):
    world.run("dd", 1)
    start = world.start()
    assert not start.say[0:1] or "differs" not in start.say[0]
    overrides = [f"out={world.out}", "name=dd"]
    asked = load_config(BEGINNING, [*overrides, "optim.lr=0.5", "data.workers=7"])  # as if it stood in the file
    (line,) = plan_start(asked, overrides, "", BEGINNING).say
    assert (
        "optim.lr (0.5, here 0.003)" in line and "data.workers (7, here 1)" in line and "keeps its own config" in line
    )


def test_configs_older_than_a_key(world):
    config = config_to_plain(load_config(BEGINNING, ["name=dd"]))
    del config["train"]["ema_ramp"]
    folder = world.run("dd", 1, config=config)
    assert world.start().folder == folder


class Split:
    """A labelled split of two images, with a box of each of these classes."""

    def __init__(self, *labels: int):
        self.labels = labels

    def __len__(self):
        return 2

    def ground_truth(self):
        images = [{"id": i, "file_name": f"{i}.png", "width": 9, "height": 9} for i in (1, 2)]
        boxes = [{"image_id": 1, "category_id": k, "bbox": [0, 0, 2, 3], "area": 6, "iscrowd": 0} for k in self.labels]
        return {"images": images, "annotations": boxes, "categories": [{"id": i, "name": f"c{i}"} for i in (1, 2)]}


def test_labels_of_as_many_boxes_differ():
    one, other = data_facts(Split(1, 2)), data_facts(Split(1, 1))
    assert one["boxes"] == other["boxes"] == 2 and one["samples"] == 2 and one["fingerprint"] != other["fingerprint"]
    assert data_facts(Split(1, 2)) == one and data_facts(Split())["boxes"] == 0


def test_entries_that_differ_are_named():
    saved = {"class_names": ["a", "b"], "data": {"samples": 5, "boxes": 9}, "steps_per_epoch": 2}
    assert compare(saved, saved) == []
    now = {"class_names": ["b", "a"], "data": {"samples": 6, "boxes": 9}, "steps_per_epoch": 2, "new": 1}
    lines = ["class_names changed from ['a', 'b'] to ['b', 'a']", "data samples changed from 5 to 6"]
    assert compare(saved, now) == lines


def test_best_scores_are_compared_by_one_rule_on_one_split():
    config = config_to_plain(load_config(BEGINNING))
    judge = judged_by(config, {"samples": 4, "boxes": 9, "fingerprint": "x"})
    assert same_judge({"config": config, "judged_by": judge}, judge) == []
    assert same_judge({"config": config}, judge) == []  # an older checkpoint
    for key, value in (
        ("protocol", "coco"),
        ("split", "test"),
        ("samples", 5),
        ("fingerprint", "y"),
        ("rectangular", True),
    ):
        (line,) = same_judge({"config": config, "judged_by": judge}, judge | {key: value})
        assert line.startswith(f"the best score starts anew: {key} changed from ")


def test_no_change_no_line():
    plain = config_to_plain(load_config(BEGINNING))
    assert changed_config(plain, plain) == []


def test_a_run_has_its_own_config(world):
    folder = world.run("dd", None)
    with pytest.raises(
        ValueError, match="dd/config.yaml: no such file, so .*dd is not a run to continue without a config"
    ):
        own_config(str(folder))
    overrides = ["name=dd", f"out={world.out}", "seed=7"]
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(load_config(BEGINNING, overrides)))
    assert own_config(str(folder)) == str(folder / "config.yaml")
    start = world.start(resume=str(folder), name=None)  # it has no checkpoint: starts over, as it was
    assert start.folder == folder and start.checkpoint is None and start.cfg.seed == 7
    for nothing in (None, "", "auto"):
        with pytest.raises(ValueError, match="train.py needs a config, as configs/demo.yaml, or a run to continue"):
            own_config(nothing)
