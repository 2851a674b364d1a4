"""When event frames close: shares over calls, images; nothing for models whose encoder closes no frames."""

import pytest
import torch

from analysis.closing import OPEN, ClosingTimes, bin_colours, closing_bins, closing_image
from models import create_model
from models.samplers import SamplerEncoder, build_sampler
from neurons import Stream


def model(**sampler):
    torch.manual_seed(0)
    return create_model("eas_snn_s", width=0.125, sampler={"name": "arsnn", **sampler}).eval()


def by_hand(spikes, slots, reverse):
    """The bin of the k-th spike of each pixel, spikes [Tm, ...] in the order they were read: a loop over pixels."""
    found = torch.full((slots, *spikes.shape[1:]), -1)
    for place in torch.cartesian_prod(*(torch.arange(n) for n in spikes.shape[1:])).tolist():
        times = [t for t in range(len(spikes)) if spikes[(t, *place)]]
        for k, t in enumerate(times[:slots]):
            found[(k, *place)] = len(spikes) - 1 - t if reverse else t
    return found


@pytest.mark.parametrize("reverse", [True, False])
@pytest.mark.parametrize("size", [(8, 6), (7, 5)])
def test_shares_are_those_of_all_calls(reverse, size):
    detector = model(reverse=reverse, out_steps=3, k=3)
    with torch.no_grad():
        for p in detector.encoder.parameters():
            p.mul_(2)  # so that most pixels fire
    batches = [torch.poisson(torch.full((2, 1, 4, 2, *size), 1.5)) for _ in range(2)]
    with ClosingTimes(detector) as closing, torch.no_grad():
        for x in batches:
            detector.encode(x)
    found = [closing_bins(detector, x[b : b + 1])[0] for x in batches for b in range(2)]
    expected = torch.cat(found, 1)
    assert expected.shape == (3, 4, 2, *size)
    shares = closing.shares()
    assert list(shares) == ["frame 1", "frame 2", "frame 3"]
    for k, row in enumerate(shares.values()):
        assert list(row) == ["bin 1", "bin 2", "bin 3", "bin 4", "open"]
        for t, share in zip((0, 1, 2, 3, -1), row.values(), strict=True):
            assert share == pytest.approx(float((expected[k] == t).double().mean()))
    assert 0.05 < shares["frame 1"]["open"] < 0.95 and shares["frame 2"]["open"] > shares["frame 1"]["open"]


def test_bins_are_those_of_the_spikes():
    sampler = build_sampler({"name": "arsnn", "out_steps": 2}, 2)
    spikes = (torch.rand(4, 3, 2, 5, 3) < 0.4).float()  # odd sizes: each pixel apart
    found = SamplerEncoder(2, sampler).closing_bins(spikes.movedim(-3, -1))  # of the layer, whose channels are last
    assert torch.equal(found, by_hand(spikes, 2, reverse=True))


def test_sums_of_processes_add_up():
    detector, x = model(), torch.poisson(torch.full((2, 1, 4, 2, 8, 6), 2.0))
    with ClosingTimes(detector) as whole, torch.no_grad():
        detector.encode(x)
    parts = []
    for b in range(2):
        with ClosingTimes(detector) as part, torch.no_grad():
            detector.encode(x[b : b + 1])
        parts.append(part)
    parts[0].merge([part.sums() for part in parts])
    assert parts[0].shares() == whole.shares()


def test_windows_of_a_sample_and_frames_have_rows_of_an_image():
    detector = model(out_steps=2, reverse=False)
    detector.T = 4
    x = torch.poisson(torch.full((1, 2, 4, 2, 8, 6), 2.0))
    closed, bins = closing_bins(detector, x)
    assert closed.shape == (2, 2, 2, 8, 6) and bins == 4
    with Stream(detector), torch.no_grad():
        again, _ = closing_bins(detector, x)
    assert torch.equal(again, closed)


def test_colours_say_when_a_pixel_closed():
    closed = torch.full((1, 2, 10, 12), -1)
    closed[0, 0, 2, 3], closed[0, 1, 9, 11] = 0, 3
    image = closing_image(torch.zeros(1, 2, 10, 12), closed, 4)
    assert image.dtype == torch.uint8 and image.shape[0] == 3
    height, width = 40, 48  # four times as large
    top = next(y for y in range(image.shape[1]) if tuple(image[:, y, width + 5].tolist()) == OPEN)
    off, on = (image[:, top : top + height, left : left + width] for left in (width + 4, 2 * (width + 4)))

    def pixels(panel, colour):
        same = (panel == torch.tensor(colour, dtype=torch.uint8)[:, None, None]).all(0)
        return same.nonzero()[:, 0].min().item() // 4, same.nonzero()[:, 1].min().item() // 4, int(same.sum())

    assert pixels(off, bin_colours(4)[0]) == (2, 3, 16) and pixels(on, bin_colours(4)[3]) == (9, 11, 16)
    assert pixels(off, OPEN)[2] == 16 * (120 - 1)


@pytest.mark.parametrize("name, arguments", [("ems_resnet10_ee", {}), ("eas_snn_s", {"sampler": "rsnn"})])
def test_other_models_close_no_frames(name, arguments):
    detector = create_model(name, width=0.125, num_classes=2, in_channels=2, T=2, **arguments).eval()
    x = torch.rand(2, 1, 2, 32, 32)
    with ClosingTimes(detector) as closing, torch.no_grad():
        detector.raw(x)
    assert closing.shares() == {} and closing_bins(detector, x) is None
