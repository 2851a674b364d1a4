"""EAS-SNN against the published code: parameter counts, names, and a whole network in evaluation and training."""

import json

import pytest
import torch

from models import create_model, load_published_weights, to_published_state_dict
from models.deploy import calibrate, convert, simulate
from models.families.eas_snn import SAMPLER, SPIKING, HybridDetector
from models.published import published_names

NCALTECH = {"num_classes": 100, "stem": "spiking", "sampler": SAMPLER | {"k": 7, "depth": 1}}


# The last: the file of the published names and shapes, where there is one.
@pytest.mark.parametrize(
    "name, arguments, count, published",
    [
        ("eas_snn_s", {}, 8_938_206, "s_fullspike_gen1"),
        ("eas_snn_s", {"spiking": "backbone_neck"}, 8_938_191, "s_spikebackbone_fpn_gen1"),
        ("eas_snn_s", {"spiking": "backbone"}, 8_938_167, "s_spikebackbone_gen1"),
        ("eas_snn_s", {"spiking": "none"}, 8_938_133, "s_ann_gen1"),
        ("eas_snn_s", {"sampler": {"name": "rsnn"}}, 8_938_206, "s_fullspike_rsnn_gen1"),
        ("eas_snn_s", {"sampler": {"name": "snn"}}, 8_937_195, "s_fullspike_snn_gen1"),
        ("eas_snn_s", {"sampler": {"name": "count"}}, 8_936_990, "s_fullspike_count_gen1"),
        ("eas_snn_m", {}, 25_280_918, "m_fullspike_gen1"),
        ("eas_snn_m", {"spiking": "backbone_neck"}, 25_280_903, None),
        ("eas_snn_m", {"spiking": "backbone"}, 25_280_871, "m_spikebackbone_gen1"),
        ("eas_snn_m", {"spiking": "none"}, 25_280_821, "m_ann_gen1"),
        ("eas_snn_m", {**NCALTECH, "stem": "focus"}, 25_337_236, None),
        ("eas_snn_m", {**NCALTECH, "stem": "focus", "spiking": "backbone"}, 25_337_189, None),
        ("eas_snn_m", NCALTECH, 25_337_237, None),
        ("eas_snn_m", {**NCALTECH, "spiking": "backbone"}, 25_337_190, "m_spikebackbone_ncaltech_repbranch"),
        ("eas_snn_l", {}, 54_147_790, None),
        ("eas_snn_l", {"spiking": "backbone_neck"}, 54_147_775, None),
        ("eas_snn_l", {"spiking": "backbone"}, 54_147_735, None),
        ("eas_snn_l", {"spiking": "none"}, 54_147_669, None),
    ],
)
def test_parameters_have_the_published_number_names_and_shapes(name, arguments, count, published, golden):
    with torch.device("meta"):
        model = create_model(name, **arguments)
    assert sum(p.numel() for p in model.parameters()) == count
    names, own = published_names(model), model.state_dict()
    assert set(names) == set(own) and len(set(names.values())) == len(names)
    if published:
        shapes = json.loads((golden.folder / "state_dicts" / f"eas_yolox_{published}.json").read_text())
        assert {theirs: list(own[ours].shape) for ours, theirs in names.items()} == shapes


@pytest.mark.parametrize("spiking", SPIKING)
@pytest.mark.parametrize("stem", ["focus", "spiking"])
def test_published_weights_go_in_and_out(spiking, stem):
    torch.manual_seed(0)
    source, target = (create_model("eas_snn_s", width=0.125, spiking=spiking, stem=stem) for _ in range(2))
    report = load_published_weights(target, to_published_state_dict(source))
    assert not report.missing and not report.unexpected and not report.shape_differs
    for a, b in zip(source.state_dict().values(), target.state_dict().values(), strict=True):
        assert torch.equal(a, b)


@pytest.fixture(scope="module")
def published(whole_network):
    g, weights = whole_network("eas_model_fullspike_v2_d33w25_nc2_T3")
    return g, weights


def loaded(published, dtype=torch.float32):
    g, weights = published
    model = create_model("eas_snn_s", width=0.5, num_classes=2)
    report = load_published_weights(model, weights)
    assert not (report.missing or report.unexpected or report.shape_differs)
    return model.to(dtype), {key: v.to(dtype) if v.is_floating_point() else v for key, v in g.items()}


STAGES = {"dark2": "dark2", "dark3": "dark3", "dark4": "dark4", "dark5": "dark5"} | {
    f"fpn{i}": f"neck_p{i}" for i in (3, 4, 5)
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_whole_network_equals_the_published_code_in_evaluation(published, dtype):
    model, g = loaded(published, dtype)
    model.eval()
    seen = {}
    for ours in {**STAGES, "stem": "stem"}.values():
        model.network.get_submodule(ours).register_forward_hook(lambda m, x, y, name=ours: seen.update({name: y}))
    with torch.no_grad():
        x = model.encode(g["input"])
        torch.testing.assert_close(x[0], g["sampler"][0], rtol=1e-5, atol=5e-6)
        logits = model.logits(x)
        boxes, scores = model.head.decode_dense(logits)
    torch.testing.assert_close(seen["stem"][0], g["feat.stem"], rtol=0, atol=1e-5)
    for theirs, ours in STAGES.items():
        assert torch.equal(seen[ours], g[f"feat.{theirs}"].to(dtype)), theirs  # no spike differs
    for level, expected in zip(logits, (g["raw_p3"], g["raw_p4"], g["raw_p5"]), strict=True):
        torch.testing.assert_close(level, expected, rtol=0, atol=1e-5)
    decoded = torch.cat([boxes, scores], -1)
    torch.testing.assert_close(decoded, g["decoded"], rtol=1e-5, atol=1e-4)


def test_whole_network_fires_as_the_published_code(published, shared):
    model, g = loaded(published)
    rates = json.loads(shared("golden/eas_model_fullspike_v2_d33w25_nc2_T3_firing.json").read_text())
    theirs = {name.removesuffix(".w"): ours for ours, name in published_names(model).items() if name.endswith(".w")}
    assert set(theirs) == set(rates) and len(rates) == 73
    found = {}
    for name, ours in theirs.items():
        neuron = model.get_submodule(ours.removesuffix(".w"))
        neuron.register_forward_hook(lambda m, x, y, name=name: found.update({name: float(y.mean())}))
    with torch.no_grad():
        model.eval().raw(g["input"])
    for name, rate in rates.items():
        assert abs(found[name] - rate) < 1e-6, name


def test_whole_network_trains_as_the_published_code(published):
    model, g = loaded(published)
    model.train()
    targets = []
    for rows in g["train.labels"]:
        rows = rows[rows.sum(1) > 0]
        boxes = torch.cat([rows[:, 1:3] - rows[:, 3:] / 2, rows[:, 1:3] + rows[:, 3:] / 2], 1)
        targets.append({"boxes": boxes, "labels": rows[:, 0].long()})
    logits = model.raw(g["input"])
    for level, expected in zip(logits, (g["train.logits_p3"], g["train.logits_p4"], g["train.logits_p5"]), strict=True):
        torch.testing.assert_close(level, expected, rtol=0, atol=2e-5)
    losses = {key: value / 2 for key, value in model.head.loss(logits, targets, (64, 96)).items()}  # of 2 images
    parts = {"box": "iou_loss_x5", "objectness": "conf_loss", "class": "cls_loss", "l1": "l1_loss"}
    assert set(losses) == set(parts)
    for ours, theirs in parts.items():
        torch.testing.assert_close(losses[ours], g[f"train.{theirs}"], rtol=2e-6, atol=1e-6)
    total = sum(losses.values())
    torch.testing.assert_close(total, g["train.total_loss"], rtol=2e-6, atol=0)
    total.backward()
    names = {theirs: ours for ours, theirs in published_names(model).items()}
    parameters, buffers = dict(model.named_parameters()), dict(model.named_buffers())
    compared = 0
    for key, expected in g.items():
        if key.startswith("train.grad."):
            found = parameters[names[key.removeprefix("train.grad.")]].grad
            limit = 1e-6 if key.endswith(".act.w") else 1e-5 * float(expected.abs().max())
            torch.testing.assert_close(found, expected, rtol=0, atol=limit, msg=lambda m, key=key: f"{key}: {m}")
            compared += 1
        elif key.startswith("train.buf_after."):
            torch.testing.assert_close(buffers[names[key.removeprefix("train.buf_after.")]], expected)
            compared += 1
    assert compared > 90


def lively(**arguments):
    """A small network with statistics under which spikes reach the head, in float64."""
    torch.manual_seed(0)
    model = create_model("eas_snn_s", **{"width": 0.25, "sampler": "count"} | arguments).double().train()
    with torch.no_grad():
        for m in model.modules():
            if isinstance(m, torch.nn.BatchNorm2d):
                m.weight.uniform_(0.8, 1.6)
                m.bias.uniform_(-0.2, 0.5)
        for _ in range(2):
            model.raw(events())
    return model.eval()


def events():
    return torch.poisson(torch.full((2, 1, 4, 2, 64, 96), 0.6, dtype=torch.float64))


@pytest.mark.parametrize("spiking", SPIKING)
def test_simulated_logits_at_T_are_those_of_a_network_of_T_steps(spiking):
    """Also where an ANN follows on the mean over T, which is no mean of the steps' logits."""
    model, x = lively(spiking=spiking), events()
    assert isinstance(model, HybridDetector) == (spiking in ("backbone", "backbone_neck"))
    found = list(simulate(model, x, [1, 2, 5]))
    for T, logits in found:
        model.T = T
        with torch.no_grad():
            for a, b in zip(logits, model.raw(x), strict=True):
                torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    changed = max(float((a - b).abs().max()) for a, b in zip(found[0][1], found[2][1], strict=True))
    assert changed < 1e-12 if spiking == "none" else changed > 1e-5


def test_the_sampler_runs_once_however_many_steps_are_simulated():
    model, x, calls = lively(), events(), []
    model.encoder.register_forward_hook(lambda *_: calls.append(1))
    list(simulate(model, x, [1, 7]))
    assert len(calls) == 1


def test_frames_of_several_slots_end_with_the_last_one():
    model = lively(sampler=SAMPLER | {"out_steps": 3})
    with pytest.raises(ValueError, match="t = 3: the input has T=3 steps"):
        list(simulate(model, events(), [4]))


@pytest.mark.parametrize("spiking", ["full", "backbone"])
def test_an_ann_twin_has_one_activation(spiking):
    model = create_model("eas_snn_s", width=0.125, spiking=spiking, neuron="relu")
    kinds = {type(m.neuron).__name__ for m in model.modules() if hasattr(m, "neuron") and hasattr(m, "bn")}
    assert kinds == {"ReLU"}


def test_a_sampler_s_other_arguments_are_the_published_ones():
    sampler = create_model("eas_snn_s", width=0.125, sampler={"depth": 1}).encoder.sampler
    assert (type(sampler).__name__, sampler.k, sampler.depth, sampler.out_steps) == ("ARSNN", 5, 1, 1)
    assert type(create_model("eas_snn_s", width=0.125, sampler="snn").encoder.sampler).__name__ == "SNN"


def test_unknown_options_are_named():
    with pytest.raises(ValueError, match="spiking = 'ful'.*did you mean 'full'"):
        create_model("eas_snn_s", spiking="ful")
    with pytest.raises(ValueError, match="stem = 'fokus'.*did you mean 'focus'"):
        create_model("eas_snn_s", stem="fokus")


def test_an_ann_twin_converts_with_its_sampler():
    """Rates approach the activations: the Focus stem, whose channels are pixels of the input, too."""
    twin, x = lively(neuron="relu"), events()
    snn = convert(twin, calibrate(twin, [x]), T=4)
    assert snn.encoder.T == 4 and type(snn.encoder) is type(twin.encoder)
    with torch.no_grad():
        expected = twin.raw(x)
    errors = [
        max(float((a - b).abs().mean()) for a, b in zip(logits, expected, strict=True))
        for _, logits in simulate(snn, x, [8, 64, 512])
    ]
    assert errors[2] < errors[1] / 2 < errors[0] / 4, errors
