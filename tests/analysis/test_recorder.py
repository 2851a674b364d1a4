"""Sums over what layers see and emit: equal to those by hand, flat in memory, without a host sync, mergeable."""

import gc
import weakref

import pytest
import torch
from torch import nn

from analysis.closing import ClosingTimes
from analysis.firing_rate import FiringRates
from analysis.local_saturation import LocalSaturation
from analysis.recorder import Recorder
from analysis.saturation import Saturation
from analysis.spike_times import SpikeTimes
from models import create_model
from models.layers.watch import watch
from neurons import StepNeuron, Stream, build_neuron

MEASURES = {
    "calls": lambda layer, x, y: 1,
    "ones": lambda layer, x, y: (x == 1).sum(),
    "macs": lambda layer, x, y: y[:, 0].numel() * layer.weight.numel(),
}


class Net(nn.Module):
    """A neuron, and one convolution that is called twice."""

    def __init__(self):
        super().__init__()
        self.neuron, self.conv, self.unused = build_neuron("if"), nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 1)

    def forward(self, x):
        y = self.conv(self.neuron(x).flatten(0, 1))
        return self.conv(y).unflatten(0, x.shape[:2])


def convolutions(model):
    return {n: m for n, m in model.named_modules() if isinstance(m, nn.Conv2d)}


def test_sums_equal_those_by_hand_over_all_calls():
    torch.manual_seed(0)
    model, batches = Net(), [torch.rand(3, 2, 2, 4, 5), torch.rand(3, 1, 2, 4, 5)]
    with torch.no_grad():
        spikes = [model.neuron(x) for x in batches]
        ones = sum(int((y == 1).sum()) for y in spikes)
        with Recorder(convolutions(model), MEASURES) as seen, FiringRates(model) as firing:
            for x in batches:
                model(x)
        model(batches[0])  # after the block: not counted
    macs = 2 * sum(x.shape[:2].numel() * 4 * 5 for x in batches) * 2 * 2 * 9
    assert seen.sums() == {"conv": {"calls": 4, "ones": ones, "macs": macs}} and ones > 0
    assert firing.rates()["neuron"] == pytest.approx(ones / sum(y.numel() for y in spikes), rel=1e-6)


def test_keeps_sums_alone_whatever_the_number_of_batches():
    model, kept = Net(), []
    with (
        Recorder(convolutions(model), MEASURES) as seen,
        watch([model.conv], lambda m, x, y: kept.append(weakref.ref(y))),
    ):
        for _ in range(5):
            model(torch.rand(1, 1, 2, 3, 3))  # with a graph: sums must not hold it
    gc.collect()
    assert len(kept) == 10 and not any(ref() is not None for ref in kept)
    assert not any(t.requires_grad for t in seen._sums["conv"].values() if isinstance(t, torch.Tensor))
    assert not model.conv._forward_hooks


RECORDERS = {
    "firing rates": FiringRates,
    "spike times": SpikeTimes,
    "saturation": lambda model: Saturation(model, histograms=True),
    "local saturation": lambda model: LocalSaturation(model, [torch.zeros(1, 4)], (4, 4)),
    "closing times": ClosingTimes,
}


@pytest.mark.parametrize("name", RECORDERS)
def test_a_recorder_is_freed_with_its_last_reference(name):
    """Not at the next garbage collection alone, as an object in a reference cycle: it may hold boxes and sums."""
    model = Net()
    recorder = RECORDERS[name](model)
    with recorder, torch.no_grad():
        model(torch.rand(2, 1, 2, 4, 4))
    freed = weakref.ref(recorder)
    gc.disable()
    del recorder
    gc.enable()
    assert freed() is None


def test_no_call_waits_for_the_device():
    """Tensors on the meta device have no values: reading one raises."""
    model = Net().to("meta")
    with Recorder(convolutions(model), MEASURES) as seen, FiringRates(model) as firing:
        model(torch.zeros(2, 1, 2, 3, 3, device="meta"))
    for recorder in (seen, firing):
        with pytest.raises(RuntimeError):
            recorder.sums()


def test_sums_of_parts_merge_to_those_of_the_whole():
    model, x = Net(), torch.rand(4, 4, 2, 6, 6)
    recorders = [FiringRates(model) for _ in range(3)]
    for recorder, part in zip(recorders, (x, x[:, :1], x[:, 1:]), strict=True):
        with recorder, torch.no_grad():
            model(part)
    whole, first, second = recorders
    first.merge([first.sums(), second.sums()])
    assert first.sums()["neuron"]["elements"] == whole.sums()["neuron"]["elements"] == x.numel()
    assert first.rates()["neuron"] == pytest.approx(whole.rates()["neuron"], rel=1e-6) and whole.rates()["neuron"] > 0


def test_records_in_a_stream():
    model, x = Net(), torch.rand(6, 2, 2, 4, 4)
    with torch.no_grad():
        with FiringRates(model) as whole:
            model(x)
        with FiringRates(model) as chunks, Stream(model):
            for chunk in x.split(2):
                model(chunk)
    assert chunks.rates() == pytest.approx(whole.rates(), rel=1e-6)


@pytest.mark.parametrize("neuron", ["ternary_if", "ternary_lif", "signed_if", "corrected_if"])
def test_shares_of_both_signs_and_of_zero(neuron):
    torch.manual_seed(0)
    model, batches = nn.Sequential(build_neuron("if"), build_neuron(neuron)), [torch.randn(4, 2, 50) * 3 for _ in "ab"]
    model[0].forward = lambda x: x  # so that both signs arrive; the layer is not called
    with FiringRates(model) as firing, torch.no_grad():
        spikes = torch.cat([model(x) for x in batches], 1)
    shares = {"+1": (spikes == 1), "0": (spikes == 0), "-1": (spikes == -1)}
    assert set(spikes.unique().tolist()) == {-1.0, 0.0, 1.0}
    found = firing.shares()
    assert list(found) == ["1"] and found["1"] == pytest.approx(
        {k: v.double().mean().item() for k, v in shares.items()}
    )
    assert firing.rates()["1"] == pytest.approx(found["1"]["+1"] + found["1"]["-1"])
    with FiringRates(model) as nothing, torch.no_grad():
        model(torch.zeros(4, 2, 50))
    assert nothing.shares()["1"] == {"+1": 0.0, "0": 1.0, "-1": 0.0}


class Mine(StepNeuron):
    """A neuron that does not say whether it is signed."""

    def step(self, state, x):
        return x.sign(), state


def test_a_neuron_of_ones_own_has_shares_if_it_emits_negative_spikes():
    model = nn.Sequential(Mine())
    with FiringRates(model) as positive:
        model(torch.ones(2, 1, 4))
    with FiringRates(model) as both:
        model(torch.tensor([1.0, -1.0])[:, None])
    assert positive.shares() == {} and both.shares() == {"0": {"+1": 0.5, "0": 0.0, "-1": 0.5}}
    binary = nn.Sequential(build_neuron("lif"))
    with FiringRates(binary) as firing:
        binary(torch.ones(2, 1, 4))
    assert firing.rates() and not firing.shares()


def test_real_values_are_not_counted_as_spikes():
    model = create_model("ems_resnet10_ee", num_classes=2, T=2, width=0.125, neuron="relu").eval()
    with FiringRates(model) as firing, torch.no_grad():
        model.raw(torch.rand(1, 3, 32, 32))
    assert firing.rates() == {}


def test_hooks_leave_with_an_error_too():
    model = Net()
    with pytest.raises(ZeroDivisionError), FiringRates(model):
        raise ZeroDivisionError
    assert not model.neuron._forward_hooks
