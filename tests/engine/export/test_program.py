"""export.py --format torch: the program, loaded again, computes what the detector does."""

import pytest
import torch
from untrained import untrained_run

import export
from engine.runs.open import open_run
from registry import UserError


@pytest.fixture
def run(scenes, tmp_path):
    """Of few layers: torch.export takes time for each operator."""
    return untrained_run(tmp_path / "run", scenes, model="spiking_yolo")


def test_a_loaded_program_detects_the_same(run, capsys):
    path = export.main([str(run), "--format", "torch"])
    assert path == run / "best.pt2" and str(path) in capsys.readouterr().out
    program, model = torch.export.load(path).module(), open_run(run).model
    for count in (2, 3):  # the number of windows is open
        x = torch.rand(2, count, 2, 64, 96)
        with torch.no_grad():
            boxes, scores = program(x)
            wanted = model.head.candidates(model.raw(x))
        assert boxes.shape[0] == count
        torch.testing.assert_close((boxes, scores), tuple(wanted))


def test_what_it_cannot_be_is_refused(run):
    with pytest.raises(UserError, match="--int8"):
        export.main([str(run), "--format", "torch", "--int8"])
    assert not (run / "best.pt2").exists()
