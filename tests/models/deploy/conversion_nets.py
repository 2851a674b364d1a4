"""Networks for the tests of conversion: that of conv_chnorm_net.npz, and random twins of registered models."""

import torch
from torch import nn

from models import Detector, DirectEncoder, create_model
from models.deploy.graph import activations
from models.layers.resample import crop_to
from models.layers.time import over_time, readout
from models.layers.watch import watch
from models.registry import model_defaults
from neurons import neuron_factory

LAYERS = ("c1", "c2", "c3", "up", "c4")


def conv(weight, bias, stride=1):
    own = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2], stride, weight.shape[2] // 2)
    own.weight, own.bias = nn.Parameter(weight.clone()), nn.Parameter(bias.clone())
    return own


class GoldenNetwork(nn.Module):
    """c1 - c2 (stride 2) - c3 (stride 2) - up (transposed) - c4 of cat(up, c2), on [T, B, C, H, W]."""

    def __init__(self, z, neuron):
        super().__init__()
        make = neuron_factory(neuron)
        self.c1, self.c2, self.c3 = (
            conv(z["c1_w"], z["c1_b"]),
            conv(z["c2_w"], z["c2_b"], 2),
            conv(z["c3_w"], z["c3_b"], 2),
        )
        self.up = nn.ConvTranspose2d(16, 10, 3, 2, 1, 1)
        self.up.weight, self.up.bias = nn.Parameter(z["up_w"].clone()), nn.Parameter(z["up_b"].clone())
        self.c4 = conv(z["c4_w"], z["c4_b"])
        self.neurons = nn.ModuleDict({name: make() for name in LAYERS})
        self.channels, self.strides = (14, 16), (2, 4)

    def forward(self, x):
        n = self.neurons
        c2 = n["c2"](over_time(self.c2, n["c1"](over_time(self.c1, x))))
        c3 = n["c3"](over_time(self.c3, c2))
        up = crop_to(n["up"](over_time(self.up, c3)), c2)
        return [n["c4"](over_time(self.c4, torch.cat([up, c2], 2))), c3]


class LinearHead(nn.Module):
    """A 1 x 1 convolution per level, read out as the mean over T."""

    def __init__(self, convs):
        super().__init__()
        self.predict = nn.ModuleList(convs)

    def forward(self, maps):
        return [readout(conv, x) for conv, x in zip(self.predict, maps, strict=True)]


def golden_detector(z, neuron="relu"):
    """The network of the golden file: logits [y2 of c4, y1 of c3], float64."""
    head = LinearHead([conv(z["h2_w"], z["h2_b"]), conv(z["h1_w"], z["h1_b"])])
    return Detector(GoldenNetwork(z, neuron), head, DirectEncoder(8)).double().eval()


def golden_scales(z):
    return {f"network.neurons.{name}": z[f"lam_{name}"] for name in LAYERS}


# One of each way in which networks are wired.
TWINS = (
    "ems_resnet10_ee",
    "ems_resnet18",
    "sew_resnet18",
    "spikeyolo_n",
    "spiking_yolov3",
    "spiking_yolo",
    "eas_snn_s",
    "spiking_yolox_s",
)


def twin(name, neuron="relu", seed=0, size=(32, 48), dtype=torch.float64, **kwargs):
    """A random ANN of a registered model, whose BatchNorms have the statistics of images."""
    torch.manual_seed(seed)
    # A random sampler of one image gives zeros; `neuron` is to be in place of every activation.
    small = {"width": 0.125, "sampler": "count", "spike_stages": "full"}
    small = {key: value for key, value in small.items() if key in model_defaults(name)}
    arguments = {"num_classes": 3, "T": 1, "neuron": neuron, "in_channels": 3} | small | kwargs
    model = create_model(name, **arguments).train()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = max(module.momentum, 0.1)
                module.weight.uniform_(0.7, 1.4)
                module.bias.normal_(0, 0.3)
        for _ in range(3):
            model.raw(torch.rand(2, 3, *size))
    return model.eval().to(dtype)


def largest_activations(graph, x):
    """{layer: the largest |activation| of each channel on x, at least 1e-3 of the layer's}."""
    names, found = {layer: name for name, layer in activations(graph).items()}, {}

    def see(layer, _, y):
        lam = y.abs().transpose(0, -3).flatten(1).amax(1)
        found[names[layer]] = lam.clamp(min=1e-3 * lam.max().item())

    with torch.no_grad(), watch(names, see):
        graph(x)
    return found


def clipped(graph, scales, x):
    """Outputs of a ReLU graph whose activations are clipped at lam, the limit of its conversion."""
    hooks = [
        layer.register_forward_hook(lambda m, i, y, name=name: torch.minimum(y, scales[name].to(y).view(-1, 1, 1)))
        for name, layer in activations(graph).items()
    ]
    with torch.no_grad():
        y = graph(x)
    for hook in hooks:
        hook.remove()
    return y
