"""Simulation: one pass, any number of steps, memory flat in T, the same results however it is run."""

import copy
import gc
import tracemalloc

import pytest
import torch
from conversion_nets import largest_activations, twin

from models import create_model, list_models
from models.deploy import convert, fold_bn, simulate
from models.encoders import BernoulliEncoder
from models.noise import SaltAndPepper
from neurons import Stream


@pytest.fixture(scope="module")
def converted():
    model = twin("spiking_yolov3", dtype=torch.float32)
    x = torch.rand(2, 3, 32, 48)
    return convert(model, largest_activations(fold_bn(model), x[None])), x


def clones(run):
    return {T: [level.clone() for level in logits] for T, logits in run}


def equal(a, b):
    return all(torch.equal(p, q) for p, q in zip(a, b, strict=True))


@pytest.mark.parametrize("wrap", [lambda e: e, lambda e: SaltAndPepper(e, 0.2), lambda e: BernoulliEncoder(8)])
def test_logits_do_not_depend_on_the_steps_that_follow(converted, wrap):
    snn, x = converted
    snn = copy.deepcopy(snn)
    snn.encoder = wrap(snn.encoder)
    long = clones(simulate(snn, x, [3, 7, 20]))
    assert equal(long[7], clones(simulate(snn, x, [7]))[7]) and equal(long[3], clones(simulate(snn, x, [1, 3]))[3])
    assert equal(long[20], clones(simulate(snn, x, [20]))[20])  # and a run leaves nothing behind


def test_can_be_left_at_any_time(converted):
    snn, x = converted
    for T, _ in simulate(snn, x, [2, 50]):
        assert T == 2
        break
    run = simulate(snn, x, [2, 50])
    next(run)
    with pytest.raises(RuntimeError, match="streamed already"):
        next(simulate(snn, x, [1]))
    run.close()
    assert run.t == 2 and list(run) == []
    last = simulate(snn, x, [2])
    next(last)  # with its last logits a run ends
    assert equal(clones(simulate(snn, x, [2]))[2], clones(simulate(snn, x, [2, 3]))[2])


def test_equals_a_stream_of_single_steps_and_all_steps_at_once(converted):
    snn, x = converted
    (simulated,) = clones(simulate(snn, x, [12])).values()
    with torch.inference_mode(), Stream(snn):
        steps = [snn.logits(snn.encode_step(x, t)) for t in range(12)]
    for level, single in zip(simulated, zip(*steps, strict=True), strict=True):
        total = single[0]
        for step in single[1:]:
            total = total + step
        assert torch.equal(level, total / 12)
    snn = copy.deepcopy(snn).double()
    snn.T = 12
    (simulated,) = clones(simulate(snn, x.double(), [12])).values()
    torch.testing.assert_close(snn.logits(snn.encode(x.double())), simulated, rtol=0, atol=1e-12)
    torch.testing.assert_close(snn.raw(x.double()), simulated, rtol=0, atol=0)


def test_images_of_a_batch_are_independent():
    model = twin("spiking_yolov3")
    x = torch.rand(2, 3, 32, 48, dtype=torch.float64)
    snn = convert(model, largest_activations(fold_bn(model), x[None]))
    both = clones(simulate(snn, x, [16]))[16]
    alone = [clones(simulate(snn, x[i : i + 1], [16]))[16] for i in range(2)]
    for level in range(2):
        torch.testing.assert_close(both[level], torch.cat([a[level] for a in alone]), rtol=0, atol=1e-10)


def test_counts_spikes_of_every_layer(converted):
    snn, x = converted
    run = simulate(snn, x, [4, 9])
    next(run)
    early = run.spike_counts()
    next(run)
    seen = dict.fromkeys(early, 0)
    with torch.inference_mode(), Stream(snn):
        hooks = [
            layer.register_forward_hook(
                lambda m, i, y, name=name: seen.update({name: seen[name] + int(y.count_nonzero())})
            )
            for name, layer in snn.spiking_layers().items()
        ]
        for t in range(9):
            snn.logits(snn.encode_step(x, t))
    for hook in hooks:
        hook.remove()
    assert run.spike_counts() == snn.spike_counts() == seen and all(early[name] <= seen[name] for name in seen)
    assert run.spikes.neurons()["network.conv1.neuron"] == 2 * 4 * 32 * 48
    assert sum(run.spikes.negatives().values()) == 0


@pytest.mark.parametrize(
    "name", [n for n in list_models() if n in ("ems_resnet10_ee", "spikeyolo_n", "spikeyolo_gen1_n")]
)
def test_directly_trained_networks(name):
    torch.manual_seed(0)
    model = create_model(name, num_classes=3, T=6, width=0.125).double().eval()
    x = torch.rand(2, 3, 64, 64, dtype=torch.float64) * 3
    found = clones(simulate(model, x, [2, 6]))
    with torch.no_grad():
        torch.testing.assert_close(found[6], model.raw(x), rtol=0, atol=1e-9)
        events = torch.rand(6, 2, 3, 64, 64, dtype=torch.float64) * 3
        found = clones(simulate(model, events, [2, 6]))
        torch.testing.assert_close(found[2], model.logits(events[:2]), rtol=0, atol=1e-9)
        torch.testing.assert_close(found[6], model.raw(events), rtol=0, atol=1e-9)
    with pytest.raises(ValueError, match="frames"):
        list(simulate(model, events, [7]))


def test_memory_does_not_grow_with_T(converted):
    """Tensors and Python objects that exist after 300 steps, compared with those after 20."""
    snn, x = converted
    run = simulate(snn, x[:1, :, :16, :16], [20, 300, 400])

    def tensors():
        gc.collect()
        return sum(type(o) is torch.Tensor for o in gc.get_objects())

    next(run)
    before = tensors()
    tracemalloc.start()
    next(run)
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert tensors() <= before and grown < 50_000


def test_wrong_steps(converted):
    snn, x = converted
    for steps in ([], [0, 4], [8, 4], [4, 4]):
        with pytest.raises(ValueError, match="steps = "):
            simulate(snn, x, steps)
    with pytest.raises(ValueError, match="training mode"):
        simulate(create_model("spikeyolo_n", num_classes=3, width=0.125).train(), x, [1])
