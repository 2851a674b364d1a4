"""`evaluate.py --spikes` writes the operations per image, of a spiking network and of its ANN twin."""

import pytest
from untrained import IMAGES, untrained_run

import evaluate


@pytest.mark.parametrize("model, head", [("ems_resnet10_ee", "anchor"), ("spikeyolo_n", "dfl")])
def test_operations_of_a_network_and_its_twin(scenes, tmp_path, capsys, model, head):
    found = {}
    for neuron in ("ilif", "silu"):
        run = untrained_run(tmp_path / neuron, scenes, IMAGES, model, head, neuron, protocol="coco")
        found[neuron] = evaluate.main([str(run / "checkpoint_best.pt"), "--spikes", "--pictures", "0"])["operations"]
        lines = capsys.readouterr().out.splitlines()
        share = (found[neuron]["synops"] + found[neuron]["macs"]) / found[neuron]["dense_macs"]
        assert any(line.startswith("operations ") and f" {share:.3f} of " in line for line in lines)
    spiking, twin = found["ilif"], found["silu"]
    assert spiking["synops"] > 0 and 0 < spiking["macs"] < spiking["dense_macs"]
    assert twin["synops"] == 0 and twin["macs"] == twin["dense_macs"] == spiking["dense_macs"]
    assert ("merged" in spiking, "merged" in twin) == (model == "spikeyolo_n", False)
