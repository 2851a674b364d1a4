"""The layer graph: traced from the network's own code, it computes what the network computes."""

import pytest
import torch
import torch.nn.functional as F
from conversion_nets import twin
from torch import nn

from models import Detector, DirectEncoder, create_model, list_models
from models.deploy import fold_bn, normalise
from models.deploy.graph import activations, channels, nodes_of, readouts, require_convertible, trace


@pytest.mark.parametrize("name", list_models())
def test_graph_of_every_twin_equals_the_network(name):
    model = twin(name)
    x = torch.rand(2, 2, 3, 32, 48, dtype=torch.float64)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with torch.no_grad():
        expected = model.logits(x)
        for graph in (trace(model), fold_bn(model)):
            for a, b in zip(graph(x), expected, strict=True):
                torch.testing.assert_close(a, b, rtol=0, atol=1e-9)
    require_convertible(fold_bn(model))
    assert not any(isinstance(m, nn.BatchNorm2d) for m in fold_bn(model).modules())
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_layers_are_named_as_in_the_source_and_run_in_order():
    graph = trace(create_model("spiking_yolov3", num_classes=3, width=0.125))
    names = list(activations(graph))
    assert names[0] == "network.conv1.neuron" and names[-3:] == [
        f"network.{layer}.neuron" for layer in ("conv16", "up", "conv17")
    ]
    assert list(readouts(graph)) == ["head.predict.0", "head.predict.1"]
    width = {str(node.target): n for node, n in channels(graph).items()}
    assert width["network.up.neuron"] == 16 and width["network.conv1.neuron"] == 4


class Functions(nn.Module):
    """Layers as functions of torch, and one ReLU that is called twice."""

    def __init__(self):
        super().__init__()
        self.conv, self.relu = nn.Conv2d(3, 4, 3, padding=1), nn.ReLU()

    def forward(self, x):
        x = self.relu(F.avg_pool2d(F.pad(self.conv(x), (0, 1, 0, 1)), 2))
        y = F.interpolate(torch.relu(x), scale_factor=2.0)
        z = F.leaky_relu(F.max_pool2d(y, 2, ceil_mode=True), 0.2)
        return self.relu(z + x), F.adaptive_avg_pool2d(z.relu(), 1)


def test_functions_and_repeated_calls_of_a_plain_module():
    model, x = Functions().eval(), torch.randn(2, 3, 9, 9)
    graph = trace(model)
    for a, b in zip(graph(x), model(x), strict=True):
        assert torch.equal(a, b)
    assert list(activations(graph)) == ["relu", "relu_1", "leaky_relu", "relu:2", "relu_3"]
    require_convertible(graph)


def changed(model, layer):
    """`model` whose network's output goes through `layer`."""

    class Changed(nn.Module):
        def __init__(self):
            super().__init__()
            self.network, self.layer = model.network, layer
            self.channels, self.strides = model.network.channels, model.network.strides

        def forward(self, x):
            return [self.layer(level) for level in self.network(x)]

    return Detector(Changed(), model.head, DirectEncoder(1)).eval()


class Gate(nn.Module):
    def forward(self, x):
        return x * x.sigmoid()


class Branch(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


def test_names_the_first_operation_that_does_not_convert():
    model = create_model("spiking_yolov3", num_classes=3, width=0.125)
    with pytest.raises(ValueError, match=r"sigmoid.*network.network.conv17.neuron.*cannot be converted"):
        require_convertible(trace(changed(model, Gate())))
    silu = create_model("spiking_yolov3", num_classes=3, width=0.125, neuron="silu")
    with pytest.raises(ValueError, match=r"network.conv1.neuron: SiLU cannot be converted.*model.neuron=relu"):
        normalise(silu, {})
    spiking = create_model("spiking_yolov3", num_classes=3, width=0.125, neuron="lif", T=2)
    with pytest.raises(ValueError, match=r"network.conv1.neuron: LIF cannot be converted: LIF is a spiking neuron"):
        require_convertible(trace(spiking))
    with pytest.raises(ValueError, match=r"layer: its layers cannot be traced"):
        trace(changed(model, Branch()))


def test_gradients_and_buffers_of_the_source_stay():
    model = twin("ems_resnet10_ee")
    model.train()
    trace(model)
    assert model.training and all(p.requires_grad for p in model.parameters())
    assert all(node.meta["kind"] for node in nodes_of(trace(model), "convolution"))
