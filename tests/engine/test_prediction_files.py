"""Files of a prediction: what a glob matches, files that cannot be opened, names of results, folders of results."""

import json
from pathlib import Path

import pytest
import torch
from test_prediction_parts import COUNTS, checkpoint_for, recording

from data.events.input import EventInput
from data.images.input import ImageInput
from engine.prediction.frame import Found, Frame
from engine.prediction.image_parts import unlabelled
from engine.prediction.options import Options
from engine.prediction.output import Output, free_folder
from engine.prediction.predict import predict
from engine.prediction.run import Prediction
from engine.prediction.source import find_source
from engine.runs.open import open_run
from neurons import DynamicNeuron
from registry import UserError


@pytest.fixture
def folder(tmp_path):
    for name in ("photos/a.png", "photos/notes.txt", "photos/inside/b.png", "photos/inside/deeper/c.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path / "photos"


def found(source):
    at = find_source(str(source), "image", Path("c.pt"))
    return [path.name for path in at.files["image"]], [path.name for path in at.left_out]


def test_folders_that_a_glob_matches_are_not_left_out_in_silence(folder):
    assert found(folder / "*") == (["a.png"], ["notes.txt", "inside"])
    assert found(folder / "**") == (["a.png", "b.png", "c.png"], ["notes.txt"])  # looks into them
    with pytest.raises(UserError, match=r"in\*: matches folders alone"):
        found(folder / "in*")
    with pytest.raises(UserError, match=r"\*\.txt: the glob matches 1 file, none with"):
        found(folder / "*.txt")
    with pytest.raises(UserError, match="SOURCE is empty"):  # not the current folder
        found("")


def test_a_file_that_cannot_be_opened_is_named_and_the_others_go_on(tmp_path, capsys):
    checkpoint = checkpoint_for(tmp_path, EventInput(COUNTS, 2, 50_000, (64, 96)), 2)
    (tmp_path / "all").mkdir()
    (tmp_path / "all" / "a_td.dat").symlink_to(tmp_path / "moved_td.dat")
    recording(tmp_path / "all" / "b_td.dat", 0.1, 100)
    options = Options(save_json=True, draw=False)
    with pytest.raises(UserError, match=r"1 could not be read; 2 windows predicted on:\n.*a_td\.dat"):
        predict(checkpoint, str(tmp_path / "all"), options, tmp_path / "out", device="cpu")
    (tmp_path / "all" / "a_td.dat").unlink()
    options = Options(save_json=True, draw=False, limit=1)
    out = predict(checkpoint, str(tmp_path / "all"), options, tmp_path / "some", device="cpu")
    images = json.loads((out / "images.json").read_text())
    assert images["incomplete"] == "--limit 1" and images["info"]["root"] == str(tmp_path / "all")
    capsys.readouterr()
    (tmp_path / "x.dat").write_bytes(b"")
    with pytest.raises(UserError, match=r"x\.dat: holds no events"):
        predict(checkpoint, str(tmp_path / "x.dat"), Options(), tmp_path / "none", device="cpu")
    assert "x.dat:" not in capsys.readouterr().out  # said once, in the error


class Part:
    unit = "window"

    def __init__(self, name, rate=20.0):
        self.name, self.rate = name, rate

    def draw(self, frame, found, class_names, score):
        return torch.zeros(3, 8, 8, dtype=torch.uint8)


def test_drawings_of_files_of_one_name_do_not_replace_each_other(tmp_path):
    x, placement = ImageInput([8, 8])(torch.zeros(8, 8, 3, dtype=torch.uint8).numpy())
    nothing = Found(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    output = Output(tmp_path / "out", ["a"], {}, Options(video=False))
    for name in ("one.dat", "one.npz"):
        output.add(Part(name), Frame(unlabelled(x, placement, (8, 8)), name, {"window": 1}), nothing)
    for name in ("p.tif", "p.tif.png", "p.tif.png"):
        output.add(Part("photos", None), Frame(unlabelled(x, placement, (8, 8)), name), nothing)
    written = sorted(path.name for path in (tmp_path / "out" / "images").iterdir())
    assert written == ["one.npz_000001.png", "one_000001.png", "p.tif-2.png", "p.tif-3.png", "p.tif.png"]
    assert output.images == 5


def test_a_folder_below_a_file_is_refused_before_anything_is_computed(tmp_path):
    (tmp_path / "notes").touch()
    with pytest.raises(UserError, match=r"--out .*notes/x: .*notes is a file"):
        free_folder(tmp_path / "notes" / "x", tmp_path / "c.pt", "a")


def test_neurons_are_not_compiled_for_a_few_frames(tmp_path):
    checkpoint = checkpoint_for(tmp_path, EventInput(COUNTS, 2, 50_000, (64, 96)), 2)
    (tmp_path / "all").mkdir()
    for name in ("a", "b"):
        recording(tmp_path / "all" / f"{name}_td.dat", 0.1, 100)

    def backends(source, **options):
        at = find_source(str(source), "events", checkpoint)
        prediction = Prediction(open_run(checkpoint), at, Options(draw=False, **options), torch.device("cpu"))
        prediction.write(Output(tmp_path / "out", ["a", "b"], {}, prediction.options))
        return {m.backend for m in prediction.run.model.modules() if isinstance(m, DynamicNeuron)}

    assert backends(tmp_path / "all" / "a_td.dat") == {"torch"}  # 2 windows
    assert backends(tmp_path / "all") == {"auto"}  # the number of windows is not known at the start
    assert backends(tmp_path / "all", limit=3) == {"torch"}
