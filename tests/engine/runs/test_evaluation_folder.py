"""Folders of evaluations: one for each, replaced as a whole, other files never overwritten."""

import json

import pytest

from engine.runs import evaluation_folder
from engine.runs.evaluation_folder import check_free, evaluation_name, new_files, option

REQUEST = {"split": "test", "config_changes": {"data.size": [None, [64, 96]]}}


def write(folder, text, request=REQUEST, files=("detections.json", "annotations.json", "pictures/image_1.png")):
    with new_files(folder) as new:
        for file in files:
            (new / file).parent.mkdir(exist_ok=True)
            (new / file).write_text(text)
        (new / "metrics.json").write_text(json.dumps({"request": request, "AP": text}))


def files(folder):
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}


def test_names_are_readable_and_different():
    assert evaluation_name(["test", "coco", "best"]) == "test_coco_best"
    assert evaluation_name(["test", "coco", "best", option("eval.T", 2)]) == "test_coco_best_eval.T=2"
    assert (
        option("weights", "model") == "weights=model" and option("eval.rectangular", False) == "eval.rectangular=false"
    )
    odd = [
        ["a/b"],
        ["a-b"],
        ["a", "s=[1, 2]"],
        ["a", "s=[1,2]"],
        [".."],
        ["x" * 300],
        ["x" * 301],
        ["\ud800"],
        ["ü"],
        [""],
    ]
    names = [evaluation_name(parts) for parts in odd]
    assert len(set(names)) == len(names) and max(map(len, names)) < 120
    assert all("/" not in name and not name.startswith(".") for name in names)


def test_the_same_evaluation_replaces_all_files_of_the_earlier_one(tmp_path):
    folder = tmp_path / "eval" / "a"
    assert check_free(folder, REQUEST) is None and not folder.exists()
    write(folder, "old", files=("detections.json", "confusion.png", "pictures/image_1.png", "pictures/image_2.png"))
    (folder / "notes.txt").write_text("mine")
    (folder / "pictures" / "mine.png").write_text("mine")
    assert check_free(folder, REQUEST)["AP"] == "old"
    write(folder, "new")
    assert set(files(folder)) == {
        "metrics.json", "detections.json", "annotations.json", "pictures/image_1.png", "pictures/mine.png", "notes.txt"
    }  # fmt: skip
    assert "old" not in files(folder).values() and files(folder)["notes.txt"] == "mine"


def test_another_evaluation_and_foreign_files_are_refused(tmp_path):
    write(tmp_path / "a", "old")
    with pytest.raises(ValueError, match='a: holds another evaluation .*"split": "test".*--out'):
        check_free(tmp_path / "a", REQUEST | {"split": "val"})
    for name in ("annotations.json", "confusion.png", "pictures/image_7.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
        with pytest.raises(ValueError, match=f"{name}: would be overwritten.*--out"):
            check_free(tmp_path, REQUEST)
        (tmp_path / name).unlink()
    for content in ("{}", "[1", "[]"):
        (tmp_path / "metrics.json").write_text(content)
        with pytest.raises(ValueError, match="metrics.json: does not say what was evaluated. Remove it, or"):
            check_free(tmp_path, REQUEST)
    with pytest.raises(ValueError, match="is a file"):
        check_free(tmp_path / "metrics.json", REQUEST)


@pytest.mark.parametrize("step", range(12))
def test_stopped_at_any_moment_no_scores_stand_beside_files_of_another_evaluation(tmp_path, monkeypatch, step):
    """As by a signal: nothing after that moment runs, neither handlers nor clean-up."""
    write(tmp_path, "old")
    calls = []

    def counted(call):
        def run(*args, **kwargs):
            if len(calls) >= step:
                raise SystemExit
            calls.append(call)
            return call(*args, **kwargs)

        return run

    monkeypatch.setattr(evaluation_folder.os, "replace", counted(evaluation_folder.os.replace))
    monkeypatch.setattr(type(tmp_path), "unlink", counted(type(tmp_path).unlink))
    monkeypatch.setattr(evaluation_folder.shutil, "rmtree", lambda *args, **kwargs: None)
    try:
        write(tmp_path, "new")
        finished = True
    except SystemExit:
        finished = False
    monkeypatch.undo()
    shown = {name: text for name, text in files(tmp_path).items() if not name.startswith(".")}
    metrics = json.loads(shown.pop("metrics.json"))
    assert metrics["request"] == REQUEST
    if "AP" in metrics:
        assert set(shown.values()) == {metrics["AP"]} == ({"new"} if finished else {"old"}) and len(shown) == 3
    else:
        assert "run it again" in metrics["incomplete"]
    assert "incomplete" in metrics or finished or step == 0
    check_free(tmp_path, REQUEST)  # and it can be run again
    write(tmp_path, "again")
    assert set(files(tmp_path)) == {"metrics.json", "detections.json", "annotations.json", "pictures/image_1.png"}


def test_a_failure_before_the_end_leaves_the_earlier_evaluation(tmp_path):
    write(tmp_path, "old")
    before = files(tmp_path)
    with pytest.raises(ValueError, match="cannot be written: .*No space"), new_files(tmp_path) as new:
        (new / "detections.json").write_text("new")
        raise OSError(28, "No space left on device")
    assert files(tmp_path) == before
