"""When layers fire, whether neighbours saturate together, and which learn constants: by hand-made spikes."""

import pytest
import torch
from torch import nn

from analysis.draw import BACKGROUND
from analysis.layer_images import CELLS, NAME, ROW, TOP, firing_image
from analysis.learned_values import learned_values
from analysis.local_saturation import LocalSaturation
from analysis.silence import silence_text, silent_layers
from analysis.spike_times import SpikeTimes
from models import create_model
from neurons import build_neuron


def test_integers_count_by_level_and_spikes_by_step():
    x = torch.tensor([[0.0, 1.0, 1.0, 4.0], [3.0, 0.0, 0.0, 0.0]]).view(2, 1, 4, 1, 1)
    model = nn.Sequential(build_neuron("ilif", D=4, tau=1.001))  # hardly a memory
    binary = nn.Sequential(build_neuron("ternary_if"))
    with torch.no_grad(), SpikeTimes(model) as integers, SpikeTimes(binary) as ternary:
        model(x)
        binary(torch.tensor([2.0, -2.0, 0.0, 0.0]).view(1, 1, 4, 1, 1))
    assert integers.rates() == {"0": [[0.75, 0.25, 0.25, 0.25], [0.25, 0.25, 0.25, 0.0]]}
    assert ternary.rates() == {"0": [[0.5]]}


@pytest.mark.parametrize("neuron", ["lif", "ilif"])
def test_saturated_windows_on_an_object_and_off_it(neuron):
    """A box of 4 x 4 pixels of an image of 16 x 16 is 2 x 2 cells of the map. The left half of the map fires at the
    largest rate: of its 4 columns the last one has a neighbour that does not."""
    x = torch.zeros(2, 2, 3, 8, 8)
    x[..., :4] = 20.0
    boxes = [torch.tensor([[2.0, 2.0, 6.0, 6.0], [2.0, 2.0, 6.0, 6.0]]), None]
    model = nn.Sequential(build_neuron(neuron))
    with torch.no_grad(), LocalSaturation(model, boxes, (16, 16)) as local:
        model(x)
        model(x)
    assert local.shares() == {"0": {"on_objects": 1.0, "off_objects": pytest.approx((3 * 8 - 4) / 60)}}
    nothing = LocalSaturation(model, [torch.zeros(0, 4), None], (16, 16))
    with torch.no_grad(), nothing:
        model(x)
    assert nothing.shares() == {"0": {"off_objects": 3 / 8}}


def test_steps_of_a_row_are_its_own():
    """A sampler of 4 micro-bins before layers of 3 steps, whose headings are over their own columns."""
    few, many = [[0.2], [0.5], [0.9]], [[0.2], [0.5], [0.9], [0.9]]
    image = firing_image({"network.first.neuron": few, "network.second.neuron": few, "encoder.sampler.fired": many})
    alone = firing_image({"network.first.neuron": few, "network.second.neuron": few})
    rows = TOP + 2 * ROW
    assert torch.equal(image[:, :rows], alone[:, :rows])
    cells = image[:, TOP + 2 * ROW + ROW // 2, NAME : NAME + CELLS].T
    edges = (cells == torch.tensor(BACKGROUND)).all(1).nonzero().flatten()
    assert edges.tolist() == [CELLS * t // 4 for t in (1, 2, 3)]


def test_learned_constants_are_those_in_use():
    model = nn.Sequential(
        build_neuron("plif", init_tau=4.0, learn_threshold=True), build_neuron("qcfs", v_threshold=3.0), nn.ReLU()
    )
    found = learned_values(model)
    assert found["tau"] == {"0": pytest.approx(4.0)} and found["threshold"] == {"0": 1.0, "1": 3.0}
    assert learned_values(nn.Sequential(build_neuron("lif"))) == {}
    with_memory = learned_values(create_model("ems_resnet10_ee", num_classes=2, T=2, width=0.125, memory="leaky"))
    assert with_memory["tau"] and all(2 < tau < 16 for tau in with_memory["tau"].values())


def test_silent_layers_are_named_with_their_rates():
    rates = {"stem": 0.2, "deep.1": 0.0009, "deep.2": 0.0}
    assert silent_layers(rates) == ["deep.1", "deep.2"]
    text = silence_text(rates, silent_layers(rates))
    assert text.startswith("2 of 3 spiking layers are silent") and "deep.1 (0.09 %), deep.2 (0 %)" in text
    assert "1 of 3 spiking layers is silent" in silence_text(rates, ["deep.2"])
