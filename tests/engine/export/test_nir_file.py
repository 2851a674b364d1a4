"""export.py --format nir: a file that is replayed, the layers up to one, and why a detector does not go."""

import pytest
from untrained import untrained_run

import export
from registry import UserError

nir = pytest.importorskip("nir", reason="needs the extra export: nir")


def test_a_detector_becomes_a_file_that_nir_reads(tmp_path, scenes, capsys):
    run = untrained_run(tmp_path / "run", scenes, model="spiking_yolo", args=", pool: average")
    out = export.main([str(run), "--format", "nir"])
    graph = nir.read(out)
    assert out == run / "best.nir" and list(graph.inputs) == ["input"] and list(graph.outputs) == ["output"]
    assert graph.nodes["input"].input_type["input"].tolist() == [2, 64, 96]
    told = capsys.readouterr().out
    assert "in float64 0 differ" in told and "output: head.predict.0, [35, 2, 3]" in told


def test_the_layers_up_to_one(tmp_path, scenes):
    run = untrained_run(tmp_path / "run", scenes)
    with pytest.raises(UserError, match="max pooling of real values") as error:
        export.main([str(run), "--format", "nir"])
    flag, layer = str(error.value).split()[-2:]
    graph = nir.read(export.main([str(run), "--format", "nir", flag, layer, "--out", str(tmp_path / "cut.nir")]))
    assert graph.nodes["output"].metadata["layer"] == f"{layer}.conv"


def test_options_of_other_formats_are_refused(tmp_path, scenes):
    run = untrained_run(tmp_path / "run", scenes)
    with pytest.raises(UserError, match="--upto: --format safetensors does not have it"):
        export.main([str(run), "--format", "safetensors", "--upto", "network.stem"])
