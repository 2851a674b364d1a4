"""SpikingJelly's nodes as a second oracle: the same spikes and gradients wherever both have the dynamics."""

import pytest
import torch
from spikingjelly.activation_based import neuron, surrogate

from neurons import build_neuron

SURROGATES = {
    "rectangle": surrogate.Rect, "triangle": surrogate.PiecewiseQuadratic, "atan": surrogate.ATan,
    "sigmoid": surrogate.Sigmoid,
}  # fmt: skip


def compare(ours, theirs, seed=0, T=6):
    torch.manual_seed(seed)
    x = (1.5 * torch.randn(T, 4, 200)).requires_grad_()
    grad = torch.randn_like(x)
    y, y_sj = ours(x), theirs(x)
    assert torch.equal(y, y_sj) and y.any() and not y.all()
    a = torch.autograd.grad(y, [x, *ours.parameters()], grad)
    b = torch.autograd.grad(y_sj, [x, *theirs.parameters()], grad)
    for ours_grad, theirs_grad in zip(a, b, strict=True):
        torch.testing.assert_close(ours_grad, theirs_grad, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("detach_reset", [True, False])
@pytest.mark.parametrize("v_reset", [None, 0.0, -0.25])
@pytest.mark.parametrize("name, alpha", [("rectangle", 1.0), ("rectangle", 0.4), ("triangle", 1.0), ("atan", 2.0),
                                         ("sigmoid", 4.0)])  # fmt: skip
class TestEveryForm:
    def common(self, name, alpha, v_reset, detach_reset):
        ours = {"surrogate": {"name": name, "alpha": alpha}, "v_reset": v_reset, "detach_reset": detach_reset}
        theirs = {"surrogate_function": SURROGATES[name](alpha), "v_reset": v_reset, "detach_reset": detach_reset,
                  "step_mode": "m"}  # fmt: skip
        return ours, theirs

    @pytest.mark.parametrize("tau, decay_input", [(4 / 3, False), (2.0, True), (5.0, True)])
    def test_lif(self, name, alpha, v_reset, detach_reset, tau, decay_input):
        ours, theirs = self.common(name, alpha, v_reset, detach_reset)
        ours |= {"tau": tau, "decay_input": decay_input, "v_threshold": 0.7, "fires_at_threshold": True}
        theirs |= {"tau": tau, "decay_input": decay_input, "v_threshold": 0.7}
        compare(build_neuron("lif", **ours), neuron.LIFNode(**theirs))

    def test_if(self, name, alpha, v_reset, detach_reset):
        ours, theirs = self.common(name, alpha, v_reset, detach_reset)
        compare(build_neuron("if", v_threshold=0.9, **ours), neuron.IFNode(v_threshold=0.9, **theirs))

    @pytest.mark.parametrize("decay_input", [True, False])
    def test_learned_tau(self, name, alpha, v_reset, detach_reset, decay_input):
        ours, theirs = self.common(name, alpha, v_reset, detach_reset)
        ours |= {"decay_input": decay_input, "v_threshold": 1.0, "fires_at_threshold": True}
        theirs |= {"init_tau": 3.0, "decay_input": decay_input}
        compare(build_neuron("plif", init_tau=3.0, **ours), neuron.ParametricLIFNode(**theirs))
        compare(build_neuron("lif", tau=3.0, learn_tau=True, **ours), neuron.ParametricLIFNode(**theirs))

    @pytest.mark.parametrize("tau", [None, 2.5])
    def test_ternary(self, name, alpha, v_reset, detach_reset, tau):
        ours, theirs = self.common(name, alpha, v_reset, detach_reset)
        if tau is None:
            compare(build_neuron("ternary_if", **ours), neuron.TernaryIFNode(**theirs))
        else:
            compare(build_neuron("ternary_lif", tau=tau, **ours), neuron.TernaryLIFNode(tau=tau, **theirs))


@pytest.mark.parametrize("detach_reset", [True, False])
@pytest.mark.parametrize("tau, v_threshold, D", [(4 / 3, 1.0, 4), (2.0, 0.5, 2), (3.0, 1.5, 8)])
def test_ilif(tau, v_threshold, D, detach_reset):
    theirs = neuron.ILIFNode(
        tau=tau, v_threshold=v_threshold, surrogate_function=surrogate.MultiLevelSpikeCount(D),
        detach_reset=detach_reset, step_mode="m",
    )  # fmt: skip
    compare(build_neuron("ilif", D=D, tau=tau, v_threshold=v_threshold, detach_reset=detach_reset), theirs)
