"""Samplers carry their state from window to window, and compile into one graph."""

import pytest
import torch
from test_samplers import observed

from models.samplers import SamplerEncoder, build_sampler
from models.samplers.cells import to_pixels
from neurons import Stream


def sampler_of(name: str = "arsnn", **options):
    torch.manual_seed(0)
    sampler = build_sampler({"name": name, "k": 3, "reverse": False, **options}, 2).double()
    with torch.no_grad():
        for parameter in sampler.parameters():
            parameter.mul_(1.3)
    return sampler


def counts(*shape: int) -> torch.Tensor:
    torch.manual_seed(1)
    return torch.poisson(torch.full(shape, 0.6, dtype=torch.float64))


@pytest.mark.parametrize("options", [{}, {"out_steps": 2, "readout": "avg"}, {"rpd": False, "readout": "last"}])
@pytest.mark.parametrize("name", ["arsnn", "rsnn", "snn", "count"])
def test_a_recording_window_by_window_equals_all_windows_in_one_call(name, options):
    options = options if name == "arsnn" else {key: value for key, value in options.items() if key != "out_steps"}
    sampler, x = sampler_of(name, **options), counts(5, 2, 4, 2, 6, 6)
    with torch.no_grad():
        at_once = sampler(x)
        alone = torch.cat([sampler(window[None]) for window in x])
        with Stream(sampler):
            streamed = torch.cat([sampler(window[None]) for window in x])
    torch.testing.assert_close(streamed, at_once)
    assert torch.equal(streamed[0], alone[0])
    assert (name == "count") == torch.equal(streamed, alone)


def closed(frames: torch.Tensor, spikes: torch.Tensor) -> list[list[float]]:
    """The values of the closed frames of each pixel, in order: frames [slots, ...], spikes [bins, ...]."""
    ends = spikes.sum(0).flatten().long().tolist()
    return [column[:n] for column, n in zip(frames.flatten(1).T.tolist(), ends, strict=True)]


@pytest.mark.parametrize("readout", ["sum", "avg", "last"])
def test_bins_of_one_window_split_over_calls_equal_the_window(readout):
    """U, the spikes, and which frames close, with which values."""
    sampler, x = sampler_of(out_steps=8, readout=readout), counts(1, 2, 8, 2, 6, 6)
    with torch.no_grad(), observed(sampler) as spikes:
        whole = sampler(x)[0]
        with Stream(sampler):
            parts = [sampler(x[:, :, i : i + 2])[0] for i in range(0, 8, 2)]
    assert 0.1 < spikes[0].mean() < 0.9
    assert torch.equal(torch.cat(spikes[1:]), spikes[0])
    values = [sum(lists, []) for lists in zip(*map(closed, parts, spikes[1:]), strict=True)]
    expected = closed(whole, spikes[0])
    assert [len(v) for v in values] == [len(v) for v in expected]
    flat, wanted = (torch.tensor(sum(v, [])) for v in (values, expected))
    torch.testing.assert_close(flat, wanted)


def test_with_rpd_no_potential_is_lost():
    """The open segment of a window closes in a later one: all frames, and what is still open, are the sum of U."""
    sampler, x = sampler_of(out_steps=4), counts(6, 2, 4, 2, 6, 6)
    total = build_sampler({"name": "rsnn", "k": 3, "reverse": False}, 2).double()
    total.load_state_dict(sampler.state_dict())
    with torch.no_grad(), Stream(sampler):
        frames = sum(sampler(window[None]).sum((0, 1)) for window in x)
        still_open = to_pixels(sampler.carried["sum"], 2)
        torch.testing.assert_close(frames + still_open, total(x).sum((0, 1)))
        assert still_open.abs().max() > 0
    dropping = sampler_of(out_steps=4)
    with torch.no_grad():
        alone = sum(dropping(window[None]).sum((0, 1)) for window in x)
    assert not torch.allclose(alone, frames)


def test_rows_start_anew():
    sampler, x = sampler_of(), counts(2, 3, 4, 2, 6, 6)
    rows = torch.tensor([False, True, False])
    with torch.no_grad():
        fresh = sampler(x[1:])
        with Stream(sampler) as stream:
            sampler(x[:1])
            kept = sampler(x[1:])
            stream.reset()
            sampler(x[:1])
            stream.reset(rows)
            reset = sampler(x[1:])
    assert torch.equal(reset[:, :, ~rows], kept[:, :, ~rows])
    torch.testing.assert_close(reset[:, :, rows], fresh[:, :, rows])
    assert not torch.allclose(kept[:, :, rows], fresh[:, :, rows])


def test_reversed_windows_are_independent_also_within_a_stream():
    sampler, x = sampler_of(reverse=True), counts(3, 2, 4, 2, 6, 6)
    with torch.no_grad():
        at_once = sampler(x)
        with Stream(sampler) as stream:
            streamed = torch.cat([sampler(window[None]) for window in x])
    assert sampler not in stream.neurons
    torch.testing.assert_close(streamed, at_once)


def test_a_sampled_detector_streams_a_recording():
    """The encoder of a detector, in the stream of the detector."""
    encoder, x = SamplerEncoder(1, sampler_of()), counts(2, 4, 4, 2, 6, 6)
    model = torch.nn.Sequential(encoder)
    with torch.no_grad():
        expected = encoder.sampler(x.transpose(0, 1))[:, 0]
        with Stream(model):
            found = torch.cat([model(x[:, i : i + 1]) for i in range(4)])
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", ["arsnn", "rsnn", "snn", "count"])
def test_the_encoder_is_one_graph(name):
    encoder = SamplerEncoder(3, sampler_of(name, reverse=True)).float()
    x = counts(2, 1, 4, 2, 8, 8).float().requires_grad_()

    def run(encode):
        y = encode(x)
        return [y.detach(), *torch.autograd.grad(y.square().sum(), [x, *encoder.parameters()])]

    # Without inductor: the same graph and the same autograd, in less time.
    compiled = torch.compile(encoder, fullgraph=True, backend="aot_eager")
    for a, b in zip(run(compiled), run(encoder), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4 * float(b.abs().max()))
