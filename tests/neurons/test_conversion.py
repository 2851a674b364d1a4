"""Neurons of converted networks against worked examples and closed forms: when a rate equals the activation, and when
the order in which currents arrive makes a difference."""

import pytest
import torch
import torch.nn.functional as F

from neurons import Stream, build_neuron


@pytest.mark.parametrize("v_init, suffix", [(0.0, "0"), (0.5, "half")])
def test_uneven_arrival_of_figure_6(golden, v_init, suffix):
    """The same number of spikes with weights 2 and -1 gives 3, 4 or 2 output spikes of 6, whatever V0."""
    g = golden("conv_fig6_uneven")
    currents = (g["in_spikes"] @ g["weight"]).T  # [T, 3 cases]
    neuron = build_neuron("if", v_threshold=g["theta"].item(), v_init=v_init)
    spikes, membranes = [], []
    with Stream(neuron):
        for current in currents:
            spikes.append(neuron(current[None])[0])
            membranes.append(neuron.carried)
    assert torch.equal(torch.stack(spikes, 1), g[f"out_spikes_v0_{suffix}"])
    assert torch.equal(torch.stack(membranes, 1), g[f"v_trace_v0_{suffix}"])
    assert torch.stack(spikes).sum(0).tolist() == [3, 4, 2]


def closed_form(currents, v_init):
    """Spikes of T steps at threshold 1 if no premature one is left: clip(floor(V0 + sum of currents), 0, T)."""
    return (v_init + currents.sum(0)).floor().clamp(0, len(currents))


def test_counts_have_the_closed_form_where_the_last_membrane_is_in_range(golden):
    g = golden("conv_arrival_condition")
    neuron = build_neuron("if", v_init=0.5)
    currents = g["I_nonneg"]  # each in [0, threshold]: exact in any order
    for order in (torch.arange(16), torch.arange(15, -1, -1)):
        assert torch.equal(neuron(currents[order]).sum(0), closed_form(currents, 0.5))
    assert torch.equal(neuron(currents).sum(0), g["N_nonneg"])
    signed = g["I_signed"]
    with Stream(neuron):
        count, v = neuron(signed).sum(0), neuron.carried
    assert torch.equal(count, g["N_signed"])
    torch.testing.assert_close(v, g["vT_signed"], rtol=0, atol=1e-12)
    settled = (v >= 0) & (v < 1)
    exact = count == closed_form(signed, 0.5)
    assert exact[settled].all() and not exact.all() and 0.5 < settled.double().mean() < 0.9


def test_a_late_negative_current_takes_a_premature_spike_back():
    currents = torch.tensor([[1.25], [-0.75], [-0.5], [1.0], [-2.5], [0.0], [0.0]], dtype=torch.float64)
    neuron = build_neuron("corrected_if")
    with Stream(neuron):
        assert neuron(currents).flatten().tolist() == [1, -1, 0, 1, -1, 0, 0]  # and never more than were fired
        v, count = neuron.carried
    assert count.item() == 0 and v == currents.sum()
    assert build_neuron("if")(currents).sum() == 1  # though the currents add up to less than 0


@pytest.mark.parametrize("v_init", [0.0, 0.5])
def test_corrected_counts_are_nearer_to_the_closed_form(golden, v_init):
    currents = golden("conv_arrival_condition")["I_signed"]
    expected = closed_form(currents, v_init)
    plain, corrected = (build_neuron(name, v_init=v_init)(currents).sum(0) for name in ("if", "corrected_if"))
    assert (corrected >= 0).all() and (corrected != expected).sum() < (plain != expected).sum() / 4


def network(g, neuron, x):
    """The network of conv_chnorm_net on [T, B, ...], normalised, with a neuron after each layer -> {layer: output}."""

    def layer(name, x, function=F.conv2d, **arguments):
        y = function(x.flatten(0, 1), g[f"{name}_wnorm"], g[f"{name}_bnorm"], padding=1, **arguments)
        return neuron(y.unflatten(0, x.shape[:2]))

    c1 = layer("c1", x)
    c2 = layer("c2", c1, stride=2)
    c3 = layer("c3", c2, stride=2)
    up = layer("up", c3, F.conv_transpose2d, stride=2, output_padding=1)
    return {"c1": c1, "c2": c2, "c3": c3, "up": up, "c4": layer("c4", torch.cat([up, c2], 2))}


def test_share_of_wrong_neurons_of_a_network_with_and_without_correction(golden):
    """T = L = 8, V0 = 1/2. The first layer has constant currents and is exact; in deeper ones they arrive unevenly."""
    g, expected = golden("conv_chnorm_net"), golden("conv_qcfs_net_L8")
    shown = g["x"].expand(8, *g["x"].shape)

    def wrong(name):
        rates = network(g, build_neuron(name, v_init=0.5), shown)
        return {k: ((r.mean(0) - expected[f"ann_{k}"]).abs() > 1e-9).double().mean().item() for k, r in rates.items()}

    ann = network(g, build_neuron("qcfs", L=8, v_threshold=1.0, learn_threshold=False), g["x"][None])
    for name, y in ann.items():
        torch.testing.assert_close(y[0], expected[f"ann_{name}"], rtol=0, atol=1e-12)
    for name, r in network(g, build_neuron("if", v_init=0.5), shown).items():
        torch.testing.assert_close(r.mean(0), expected[f"simul_{name}"], rtol=0, atol=1e-12)
    tolerance = {"abs": 6e-4}  # the figures have three digits
    assert wrong("if") == pytest.approx({"c1": 0, "c2": 0.092, "c3": 0.195, "up": 0.122, "c4": 0.167}, **tolerance)
    assert wrong("corrected_if") == pytest.approx(
        {"c1": 0, "c2": 0.011, "c3": 0.071, "up": 0.067, "c4": 0.070}, **tolerance
    )


def test_layer_by_layer_with_mean_currents_equals_the_quantized_network(golden):
    """The mean over T of the currents is a constant current: no uneven arrival, so every layer is exact."""
    g, expected = golden("conv_chnorm_net"), golden("conv_qcfs_net_L8")
    neuron = build_neuron("if", v_init=0.5)
    evened = network(g, lambda y: neuron(y.mean(0).expand(8, *y.shape[1:])).mean(0, keepdim=True), g["x"][None])
    for name, rate in evened.items():
        torch.testing.assert_close(rate[0], expected[f"ann_{name}"], rtol=0, atol=1e-12)


@pytest.mark.parametrize("slope", [0.1, 0.01])
def test_the_first_negative_spike_of_imbalanced_thresholds(slope):
    for x in (-1.0, -0.5, -0.25):
        spikes = build_neuron("signed_if", negative_slope=slope)(torch.full((1000, 1), x, dtype=torch.float64))
        assert (spikes != 0).float().argmax() + 1 == round(1 / (slope * -x)) and spikes.min() == -1


class TestDoubleThreshold:
    """Two layers of clipped leaky ReLU with one th, converted by W' = v_p W, b' = v_p b / th, thresholds v_p and
    -v_p / slope, and W' = v_p W / th in the first layer: the double-threshold paper, with the factor it leaves out."""

    th, slope = 0.6, 0.1

    def layers(self):
        generator = torch.Generator().manual_seed(0)
        sizes = [(24, 12), (16, 24)]
        draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
        weights = [(draw(*size) / size[1] ** 0.5, draw(size[0]) * 0.3) for size in sizes]
        return torch.rand(64, 12, generator=generator, dtype=torch.float64), weights

    def ann(self, x, weights):
        activation = build_neuron("sth", negative_slope=self.slope, v_threshold=self.th, learn_threshold=False)
        for w, b in weights:
            x = activation((x @ w.T + b)[None])[0]
        return x

    def converted(self, x, weights, v_p, neuron):
        """[T, ...] -> [T, ...]; `neuron` at thresholds v_p and -v_p / slope."""
        for i, (w, b) in enumerate(weights):
            x = neuron(x @ (w * (v_p if i else v_p / self.th)).T + v_p * b / self.th)
        return x

    @pytest.mark.parametrize("v_p", [1.0, 0.5])
    def test_rates_are_equal(self, v_p):
        x, weights = self.layers()
        rate = build_neuron("sth", negative_slope=self.slope, v_threshold=v_p, learn_threshold=False)
        found = self.converted(x[None], weights, v_p, lambda z: rate(z) / v_p)[0]
        expected = self.ann(x, weights)
        assert (expected < 0).any() and (expected == self.th).any()
        torch.testing.assert_close(self.th * found, expected, rtol=0, atol=1e-14)

    @pytest.mark.parametrize("v_p", [1.0, 0.5])
    def test_spikes_come_near_them(self, v_p):
        """Not as 1/T: a neuron with a negative mean current that fluctuates emits spurious positive spikes."""
        x, weights = self.layers()
        expected = self.ann(x, weights) / self.th
        neuron = build_neuron("signed_if", negative_slope=self.slope, v_threshold=v_p)
        error = {}
        for T in (64, 1024):
            found = self.converted(x.expand(T, -1, -1), weights, v_p, neuron)
            assert set(found.unique().tolist()) == {-1.0, 0.0, 1.0}
            error[T] = (found.mean(0) - expected).abs().max()
        assert error[1024] <= 0.01 < error[64] < 0.1
