"""Samplers against numbers of published code, and against a slow literal loop over bins with indices."""

import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import nn

from models.layers.watch import watch
from models.samplers import SAMPLERS, SamplerEncoder, build_sampler
from models.samplers.cells import to_cells, to_pixels
from neurons import spike
from registry import UserError

ADAPTIVE = {
    f"eas_arsnn_Ts{Ts}_rpd{rpd}_sat{sat}": {"name": "arsnn", "out_steps": Ts, "rpd": bool(rpd), "sat": bool(sat)}
    for Ts, rpd, sat in itertools.product((1, 3), (0, 1), (0, 1))
    if (Ts, rpd, sat) != (3, 1, 1)
}
PUBLISHED = {**ADAPTIVE, "eas_rsnn_embedding": {"name": "rsnn"}, "eas_snn_embedding": {"name": "snn"}}


def encoder_of(spec: dict, found: dict, prefix: str = "p.") -> SamplerEncoder:
    """The encoder with the weights of a golden file."""
    encoder = SamplerEncoder(spec.get("out_steps", 1), build_sampler(spec, 2))
    names = encoder.published_names()
    weights = {ours: found[prefix + theirs.removeprefix("embedding.")] for ours, theirs in names.items()}
    encoder.load_state_dict({key: weight.float() for key, weight in weights.items()})
    return encoder


def input_of(found: dict) -> torch.Tensor:
    return found["x"] if found["x"].dim() == 6 else found["x"][:, None]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", PUBLISHED)
def test_outputs_and_gradients_are_those_of_the_published_code(golden, name, training):
    found = golden(name)
    encoder = encoder_of(PUBLISHED[name], found).train(training)
    x = input_of(found).requires_grad_()
    y = encoder(x)
    torch.testing.assert_close(y, found["y"].view_as(y), rtol=0, atol=1e-5)
    (y * found["grad_out"].view_as(y)).sum().backward()
    torch.testing.assert_close(x.grad, found["grad_x"].view_as(x), rtol=0, atol=1e-5)
    published = encoder.published_names()
    compared = [
        (parameter.grad, found[key])
        for name, parameter in encoder.named_parameters()
        if (key := f"pg.{published[name].removeprefix('embedding.')}") in found
    ]
    assert len(compared) == (8 if "arsnn" in name else 0)
    for ours, theirs in compared:
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * float(theirs.abs().max()))


@contextmanager
def observed(sampler: nn.Module) -> Iterator[list[torch.Tensor]]:
    """The spikes of each call of a sampler [Tm, B, C, H, W], in the order in which the bins were read."""
    spikes: list[torch.Tensor] = []
    with watch([sampler.fired], lambda layer, x, y: spikes.append(to_pixels(y, sampler.channels))):
        yield spikes


def spikes_of(encoder: SamplerEncoder, x: torch.Tensor) -> torch.Tensor:
    with observed(encoder.sampler) as spikes:
        encoder(x)
    return spikes[0]


def test_the_times_of_closing_are_those_of_the_published_code(golden):
    found = golden("eas_arsnn_record_Ts1_rpd1_sat1")
    encoder = encoder_of(ADAPTIVE["eas_arsnn_Ts1_rpd1_sat1"], found)
    s = spikes_of(encoder, found["x"])
    steps = found["t_last_per_step"]  # -1, or index in the reversed order, of the firing that filled the one slot
    for step, theirs in enumerate(steps, 1):
        first = torch.where(s[:step].any(0), s[:step].argmax(0), -1)
        assert torch.equal(first, theirs)
    oldest_first = torch.where(steps[-1] < 0, -1, len(s) - 1 - steps[-1])
    assert torch.equal(encoder.sampler.closing_bins(to_cells(s))[0], oldest_first)


def test_the_sampler_of_the_whole_published_network(shared):
    with np.load(shared("golden/eas_model_fullspike_v2_d33w25_nc2_T3.npz"), allow_pickle=False) as file:
        found = {key: torch.from_numpy(file[key]) for key in file.files if "embedding" in key or "sampler" in key}
        x = torch.from_numpy(file["input"]).float()
    encoder = encoder_of(ADAPTIVE["eas_arsnn_Ts1_rpd1_sat1"], found, "w.embedding.")
    torch.testing.assert_close(encoder(x), found["sampler"], rtol=0, atol=1e-5)
    s = spikes_of(encoder, x)
    for step, theirs in enumerate(found["sampler_t_last"], 1):
        assert torch.equal(torch.where(s[:step].any(0), s[:step].argmax(0), -1), theirs.long())


@pytest.mark.parametrize("name", ["arsnn", "rsnn", "snn", "count"])
def test_names_and_shapes_are_the_published_ones(golden, name):
    file = {"arsnn": "gen1"}.get(name, f"{name}_gen1")
    table = json.loads((golden.folder / "state_dicts" / f"eas_yolox_s_fullspike_{file}.json").read_text())
    published = {key: shape for key, shape in table.items() if key.startswith("embedding.")}
    encoder = SamplerEncoder(3, build_sampler(name, 2))
    weights, names = encoder.state_dict(), encoder.published_names()
    assert {names[key]: list(weight.shape) for key, weight in weights.items()} == published


def literal(sampler: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Frames [out_steps, B, C, H, W] of an adaptive sampler, as section 1 of the paper's code reads: bin by bin, and
    pixel by pixel, with lists. x: one window [B, Tm, C, H, W]."""
    Ts, bins = sampler.out_steps, list(x.transpose(0, 1))
    if sampler.reverse:
        bins = bins[::-1]
    B, C, H, W = bins[0].shape
    pixels = list(itertools.product(range(B), range(C), range(H), range(W)))
    s = v = torch.zeros_like(bins[0])
    slots = {p: [] for p in pixels}
    segment = {p: [] for p in pixels}  # (u, v) of the open segment
    for t, f in enumerate(bins):
        gi, ci = sampler.input(f).chunk(2, 1)
        gr, cr = sampler.gate(s).chunk(2, 1)
        u = torch.sigmoid(gi + gr) * v + ci + cr
        s = spike(u - 1, "rectangle", inclusive=False)
        v = u * (1 - s)
        for p in pixels:
            segment[p].append((u[p], v[p]))
            closes, over = bool(s[p]), t == len(bins) - 1
            if not closes and not (over and not sampler.rpd):
                continue
            value = {
                "sum": sum(a for a, _ in segment[p]),
                "avg": sum(a for a, _ in segment[p]) / len(segment[p]),
                "last": segment[p][-1][1],
            }[sampler.readout]
            slots[p].append(value * s[p] if closes and sampler.sat else value)
            segment[p] = []
    zero = bins[0].new_zeros(())
    frames = [torch.stack([(slots[p] + [zero] * Ts)[k] for p in pixels]).view(B, C, H, W) for k in range(Ts)]
    return torch.stack(frames)


@pytest.mark.parametrize("readout", ["sum", "avg", "last"])
@pytest.mark.parametrize("rpd", [True, False])
@pytest.mark.parametrize(
    ("out_steps", "sat", "reverse", "depth"), [(1, True, True, 1), (2, True, False, 2), (3, False, True, 2)]
)
def test_masks_equal_a_literal_loop(out_steps, rpd, sat, readout, reverse, depth):
    torch.manual_seed(out_steps)
    options = {"out_steps": out_steps, "rpd": rpd, "sat": sat, "readout": readout, "reverse": reverse}
    sampler = build_sampler({"name": "arsnn", "k": 3, "depth": depth, **options}, 2).double()
    with torch.no_grad():
        for parameter in sampler.parameters():
            parameter.mul_(1.5)
    width = 4 if reverse else 5  # even and odd
    x = torch.poisson(torch.full((2, 5, 2, 4, width), 0.7, dtype=torch.float64)).requires_grad_()
    weights = [x, *sampler.parameters()]
    slow = literal(sampler, x)
    with observed(sampler) as spikes:
        fast = sampler(x[None])[0]
    assert 0.1 < spikes[0].mean() < 0.9
    torch.testing.assert_close(fast, slow, rtol=0, atol=1e-12)
    cotangent = torch.randn_like(slow)
    expected = torch.autograd.grad((slow * cotangent).sum(), weights, allow_unused=True)
    found = torch.autograd.grad((fast * cotangent).sum(), weights)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, torch.zeros_like(a) if b is None else b, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", SAMPLERS.names())
def test_every_sampler_takes_all_arguments(name):
    options = {"k": 3, "depth": 3, "out_steps": 1, "rpd": False, "sat": False, "readout": "avg", "reverse": False}
    x = torch.poisson(torch.ones(2, 1, 4, 2, 8, 8))
    assert SamplerEncoder(3, build_sampler({"name": name, **options}, 2))(x).shape == (3, 2, 2, 8, 8)
    if name != "arsnn":
        with pytest.raises(UserError, match="out_steps = 2"):
            build_sampler({"name": name, "out_steps": 2}, 2)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"k": 4}, "k = 4"),
        ({"depth": 0}, "depth = 0"),
        ({"readout": "mean"}, "readout = 'mean'"),
        ({"out_steps": 0}, "out_steps = 0"),
    ],
)
def test_wrong_arguments_are_named(argument, message):
    with pytest.raises(UserError, match=message):
        build_sampler({"name": "arsnn", **argument}, 2)


@pytest.mark.parametrize("readout", ["sum", "avg", "last"])
def test_counts_are_read_out_without_weights(readout):
    x = torch.poisson(torch.ones(2, 1, 4, 2, 8, 8))
    sampler = build_sampler({"name": "count", "readout": readout, "reverse": False}, 2)
    assert not list(sampler.parameters())
    expected = {"sum": x.sum(2), "avg": x.mean(2), "last": x[:, :, -1]}[readout]
    torch.testing.assert_close(SamplerEncoder(1, sampler)(x)[0], expected[:, 0])
