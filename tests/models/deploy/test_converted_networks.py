"""Converted networks against the golden ones, SpikingJelly's conversion, and the limits that theory gives."""

import numpy as np
import pytest
import torch
from conversion_nets import LAYERS, TWINS, clipped, golden_detector, golden_scales, largest_activations, twin
from torch import nn

from models import create_model, load_published_weights
from models.deploy import calibrate, convert, fold_bn, simulate
from models.deploy.graph import activations
from models.heads import list_heads
from models.layers.watch import watch
from neurons import Stream

QCFS8 = {"name": "qcfs", "L": 8, "v_threshold": 1.0, "learn_threshold": False}


def at(snn, x, steps):
    """{T: logits} of one run."""
    return dict(simulate(snn, x, steps))


def mean_error(a, b):
    return sum((p - q).abs().mean().item() for p, q in zip(a, b, strict=True)) / len(a)


def test_golden_network_in_spikes(golden):
    z = golden("conv_chnorm_net")
    snn = convert(golden_detector(z), golden_scales(z))
    found = at(snn, z["x"], [64, 1024])
    torch.testing.assert_close(found[64], [z["snn_T64_y2"], z["snn_T64_y1"]], rtol=0, atol=1e-9)
    torch.testing.assert_close(found[1024][0], z["snn_T1024_y2"], rtol=0, atol=1e-9)


def normalised_qcfs(z):
    """The golden network with normalised weights and 8 levels up to 1."""
    own = dict(z)
    for name in (*LAYERS, "h1", "h2"):
        own[f"{name}_w"], own[f"{name}_b"] = z[f"{name}_wnorm"], z[f"{name}_bnorm"]
    return golden_detector(own, QCFS8), {f"network.neurons.{name}": torch.ones(1) for name in LAYERS}


def test_quantized_activations_step_by_step_and_layer_by_layer(golden):
    """All layers in one step: the uneven errors of the golden file. With mean currents: none."""
    z, q = golden("conv_chnorm_net"), golden("conv_qcfs_net_L8")
    model, scales = normalised_qcfs(z)
    snn = convert(model, scales)
    rates = {}
    layers = {layer: name.split(".")[-1] for name, layer in snn.spiking_layers().items()}
    with watch(layers, lambda m, x, y: rates.update({layers[m]: rates.get(layers[m], 0) + y[0] / 8})):
        logits = at(snn, z["x"], [8])[8]
    for name in LAYERS:
        torch.testing.assert_close(rates[name], q[f"simul_{name}"], rtol=0, atol=1e-12)
    torch.testing.assert_close(logits, [q["simul_y2"], q["simul_y1"]], rtol=0, atol=1e-12)

    def mean_of_currents(neuron, args):
        return (args[0].mean(0, keepdim=True).expand_as(args[0]),)

    for layer in layers:
        layer.register_forward_pre_hook(mean_of_currents)
    x = z["x"].expand(8, *z["x"].shape)
    torch.testing.assert_close(snn.logits(x), [q["seq_y2"], q["seq_y1"]], rtol=0, atol=1e-12)
    torch.testing.assert_close(snn.logits(x), [q["ann_y2"], q["ann_y1"]], rtol=0, atol=1e-12)


def published_weights(z):
    weights = {}
    for key in z:
        if key.startswith("w."):
            weights[key[2:]] = z[key].float() if z[key].is_floating_point() else z[key]
        if key.startswith("q8."):
            weights[key[3:]] = z[key].float() * z[f"scale.{key[3:]}"].float()
    return weights


def test_whole_golden_network(shared):
    """Spiking YOLOv3: every spike count, and logits to 1e-9, in float64."""
    with np.load(shared("golden/conv_model_spiking_yolov3_nc4.npz"), allow_pickle=False) as file:
        z = {key: torch.from_numpy(file[key]) for key in file.files if file[key].dtype.kind in "fi"}
        order = [int(i) for i in file["layer_names"]]
    model = create_model("spiking_yolov3", num_classes=4).eval()
    assert not load_published_weights(model, published_weights(z)).missing
    model.double()
    names = list(activations(fold_bn(model)))
    snn = convert(model, {name: z[f"lam.{i}"] for name, i in zip(names, order, strict=True)})
    for T, logits in simulate(snn, z["input"].double(), [8, 32, 128]):
        torch.testing.assert_close(logits, [z[f"snn_t{T:03d}_p4"], z[f"snn_t{T:03d}_p5"]], rtol=0, atol=1e-9)
        assert list(snn.spike_counts().values()) == z[f"spikes_t{T:03d}"].tolist()


def scaled_to_images(name, neuron="relu", **kwargs):
    model = twin(name, neuron, **kwargs)
    x = torch.rand(2, 3, 32, 48, dtype=torch.float64)
    source = fold_bn(model)
    return model, x, source, largest_activations(source, x[None])


@pytest.mark.parametrize("name", TWINS)
def test_every_twin_approaches_its_ann(name):
    approaches_its_ann(*scaled_to_images(name))


@pytest.mark.parametrize("head", list_heads())
def test_a_twin_approaches_its_ann_with_every_head(head):
    approaches_its_ann(*scaled_to_images("ems_resnet10_ee", head=head))


def approaches_its_ann(model, x, source, scales):
    with torch.no_grad():
        expected = source(x[None])
    found = at(convert(model, scales), x, [4, 32, 128])
    errors = [mean_error(found[T], expected) for T in (4, 32, 128)]
    assert errors[2] < errors[1] / 2 < errors[0] / 3, errors


def test_error_of_unsigned_neurons_falls_as_1_over_T(golden):
    z = golden("conv_chnorm_net")
    model, scales = golden_detector(z), golden_scales(z)
    limit = clipped(fold_bn(model), scales, z["x"][None])
    steps, errors = [16, 64, 256, 1024], {}
    for v_init in (0.0, 0.5):
        found = at(convert(model, scales, v_init=v_init), z["x"], steps)
        errors[v_init] = [(found[T][0] - limit[0]).abs().mean().item() for T in steps]
        slope = np.polyfit(np.log(steps), np.log(errors[v_init]), 1)[0]
        assert -1.15 <= slope <= -0.85
    assert all(0.2 < half / none < 0.35 for half, none in zip(errors[0.5], errors[0.0], strict=True))


def test_leaky_networks_need_the_negative_spike():
    """Imbalanced thresholds follow the leaky ReLU; symmetric ones its slope 1, and without them its slope is 0."""
    model, x, source, scales = scaled_to_images("spiking_yolo", "leaky_relu")
    with torch.no_grad():
        expected = source(x[None])
    error = {n: mean_error(at(convert(model, scales, n), x, [256])[256], expected) for n in (None, "if", "symmetric")}
    assert error[None] < 0.2 * error["if"] and error[None] < 0.2 * error["symmetric"]
    snn = convert(model, scales)
    ((_, _),) = simulate(snn, x, [64])
    assert all(snn.spikes.negatives()[layer] > 0 for layer in snn.layer_names)
    with pytest.raises(ValueError, match="network.conv1.*has no negative part: give 'if'"):
        convert(*scaled_to_images("spiking_yolov3")[::3], neuron="signed_if")


def test_clipped_leaky_networks():
    model, x, source, _ = scaled_to_images("spiking_yolov3", {"name": "sth", "v_threshold": 2.0})
    scales = calibrate(model, [x])
    with torch.no_grad():
        expected = source(x[None])
    found = at(convert(model, scales), x, [8, 256])
    assert mean_error(found[256], expected) < 0.3 * mean_error(found[8], expected)


def test_corrected_neurons_take_premature_spikes_back(golden):
    z, q = golden("conv_chnorm_net"), golden("conv_qcfs_net_L8")
    model, scales = normalised_qcfs(z)
    ann = [q["ann_y2"], q["ann_y1"]]
    plain, corrected = (mean_error(at(convert(model, scales, n), z["x"], [8])[8], ann) for n in ("if", "corrected_if"))
    assert corrected < 0.8 * plain


def test_max_pooling_of_spikes():
    model, x, source, scales = scaled_to_images("spiking_yolo", "relu")
    with torch.no_grad():
        expected = source(x[None])
    error = {
        p: mean_error(at(convert(model, scales, pool=p), x, [128])[128], expected) for p in ("gated", "accumulated")
    }
    assert error["accumulated"] < error["gated"] < expected[0].std()


def test_spike_count_readout_and_leak():
    model, x, source, _ = scaled_to_images("spiking_yolov3")
    with torch.no_grad():
        expected = source(x[None])
    scales = calibrate(model, [x], percentile=100, readout=True)
    counted, mean = (convert(model, scales, decode=d) for d in ("spike_count", "v_mem"))
    c, m = at(counted, x, [16, 256]), at(mean, x, [16, 256])
    assert mean_error(c[256], expected) < 0.2 * mean_error(c[16], expected)
    assert mean_error(m[16], expected) < mean_error(c[16], expected)
    for level, name in zip(c[16], ("head.predict.0", "head.predict.1"), strict=True):
        count = level.permute(0, 1, 4, 2, 3).flatten(1, 2) / scales[name].view(-1, 1, 1) * 16
        torch.testing.assert_close(count, count.round(), rtol=0, atol=1e-9)
    assert {"head.predict.0:neuron", "head.predict.1:neuron"} < set(counted.spike_counts())
    with pytest.raises(ValueError, match=r"head.predict.\d: calibrate\(..., readout=True\)"):
        convert(model, {k: v for k, v in scales.items() if "head" not in k}, decode="spike_count")

    leaky = convert(model, scales, leak=0.9)
    with torch.inference_mode(), Stream(mean):
        steps = [mean.logits(x[None]) for _ in range(12)]
    weights = [0.9 ** (11 - t) for t in range(12)]
    wanted = [sum(w * s[level] for w, s in zip(weights, steps, strict=True)) / sum(weights) for level in range(2)]
    torch.testing.assert_close(at(leaky, x, [12])[12], wanted)
    torch.testing.assert_close(leaky.logits(x.expand(12, *x.shape)), wanted)


@pytest.mark.parametrize(
    ("name", "neuron", "values"), [("spiking_yolov3", "relu", {0, 1}), ("spiking_yolo", "leaky_relu", {-1, 0, 1})]
)
def test_convolutions_read_spikes(name, neuron, values):
    model, x, _, scales = scaled_to_images(name, neuron)
    snn, seen = convert(model, scales), {}
    first, *others = (
        m for m in snn.modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d)) and m not in snn.head.predict
    )
    with watch([first, *others], lambda m, i, y: seen.setdefault(m, set()).update(i.unique().tolist())):
        at(snn, x, [24])
    assert len(seen[first]) > 3 and all(seen[m] <= values for m in others)
    assert set().union(*(seen[m] for m in others)) == values


def test_rejects_wrong_arguments():
    model, _, _, scales = scaled_to_images("spiking_yolov3")
    for wrong in ({"neuron": "lif"}, {"pool": "max"}, {"decode": "votes"}, {"leak": 0.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            convert(model, scales, **wrong)
    with pytest.raises(ValueError, match="Detector"):
        convert(model.network, scales)
    with pytest.raises(ValueError, match="train the ANN"):
        convert(model, scales).train()
