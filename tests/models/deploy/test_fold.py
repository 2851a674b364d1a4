"""BatchNorm folded into convolutions, transposed and grouped ones too."""

import torch
from torch import nn

from models.deploy import fold_bn
from models.deploy.graph import PerStep


def layers(z):
    """The grouped convolution and transposed convolution of the golden file, each with its BatchNorm."""
    conv = nn.Conv2d(6, 8, 3, 2, 1, groups=2)
    transposed = nn.ConvTranspose2d(6, 8, 3, 2, 1, 1, groups=2, bias=False)
    conv.weight.data, conv.bias.data, transposed.weight.data = z["conv_w"], z["conv_b"], z["dc_w"]
    built = []
    for layer, n in ((conv, 1), (transposed, 2)):
        norm = nn.BatchNorm2d(8, eps=float(z["eps"]))
        norm.weight.data, norm.bias.data = z[f"bn{n}_w"], z[f"bn{n}_b"]
        norm.running_mean, norm.running_var = z[f"bn{n}_m"], z[f"bn{n}_v"]
        built.append(nn.Sequential(layer, norm).double().eval())
    return built


def test_equals_the_golden_weights_and_outputs(golden):
    z = golden("conv_bnfold")
    for model, name, y in zip(layers(z), ("conv", "dc"), ("y_conv", "y_dc"), strict=True):
        graph = fold_bn(model)
        (folded,) = (m.layer for m in graph.modules() if isinstance(m, PerStep))
        torch.testing.assert_close(folded.weight, nn.Parameter(z[f"{name}_fw"]), rtol=0, atol=1e-12)
        torch.testing.assert_close(folded.bias, nn.Parameter(z[f"{name}_fb"]), rtol=0, atol=1e-12)
        torch.testing.assert_close(graph(z["x"]), z[y], rtol=0, atol=1e-12)
        assert (graph.float()(z["x"].float()) - z[y]).abs().max() <= 1e-5


def test_a_transposed_kernel_scaled_on_the_wrong_axis_is_far_off():
    torch.manual_seed(0)
    conv, norm = nn.ConvTranspose2d(8, 8, 3, 2, 1, 1), nn.BatchNorm2d(8)
    norm.weight.data.uniform_(0.5, 2)
    model, x = nn.Sequential(conv, norm).eval(), torch.randn(1, 8, 6, 6)
    right = fold_bn(model)(x)
    wrong = nn.functional.conv_transpose2d(x, conv.weight * norm.weight.view(-1, 1, 1, 1), conv.bias, 2, 1, 1)
    torch.testing.assert_close(right, model(x), rtol=1e-5, atol=1e-5)
    assert (wrong - model(x)).norm() / model(x).norm() > 0.05


def test_batchnorm_without_its_own_convolution():
    """One after a sum, and one whose convolution is read elsewhere too: a 1 x 1 convolution per channel."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.first, self.second = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.BatchNorm2d(4, affine=False)

        def forward(self, x):
            y = self.conv(x)
            return self.second(self.first(y) + y)

    torch.manual_seed(0)
    model, x = Net(), torch.randn(4, 3, 8, 8)
    for _ in range(5):
        model(torch.randn(4, 3, 8, 8))
    model.eval()
    graph = fold_bn(model)
    torch.testing.assert_close(graph(x), model(x), rtol=1e-5, atol=1e-6)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in graph.modules())
