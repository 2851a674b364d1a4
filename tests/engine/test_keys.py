"""Error messages name config keys to users of a config, and arguments to callers of a part."""

import pytest

from data import create_dataset, register_dataset
from data.registry import DATASETS
from engine.build import build_dataset, build_model
from engine.config import config_to_plain, dataset_kwargs, load_config
from engine.keys import in_keys

EVENTS, IMAGES = "configs/gen1/ems_resnet10_ee.yaml", "configs/voc/bccd_ems_resnet10_ee.yaml"


@pytest.mark.parametrize(
    ("config", "override", "message"),
    [
        (EVENTS, "data.cache=ram", "data.cache: dataset 'gen1' has no argument 'cache'"),
        (EVENTS, "data.cache=foo", "data.cache = 'foo': give none, ram, disk"),
        (IMAGES, "data.cache_dir=/x", "data.cache_dir = /x: only cache = disk has a folder"),
        (EVENTS, "data.augment={hflipp: 1}", "data.augment.hflipp: .* has no argument 'hflipp', did you mean 'hflip'"),
        (IMAGES, "data.augment={hflip: abc}", "data.augment.hflip: .*hflip = 'abc': give a number from 0 to 1"),
        (EVENTS, "data.args={windw_ms: 2}", "data.args.windw_ms: .*did you mean 'window_ms'"),
        (EVENTS, "data.args={window_ms: abc}", "data.args.window_ms: .*window_ms = 'abc': give a number"),
        (EVENTS, "data.args={window_ms: .001}", "model.T = 5 does not fit a window of 0.001 ms"),
        (EVENTS, "data.args={sampling: foo}", "data.args.sampling = 'foo'. There are random, sequential"),
        (EVENTS, "data.args={classes: 5}", "data.args.classes: dataset 'gen1': classes = 5: give a list"),
        (EVENTS, "data.args={splits: 5}", "data.args.splits.* = 5"),
        (EVENTS, "data.args={splits: {train: 5}}", "data.args.splits.train: .* = 5: give the name of a folder"),
        (EVENTS, "data.args.representation=foo", "data.args.representation: unknown representation 'foo'"),
        (EVENTS, "data.args.representation=null", "data.args.representation = None: give a name"),
        (EVENTS, "data.args.representation={name: counts, clap: 3}", "data.args.representation.clap: .*mean 'clip'"),
        (EVENTS, "data.args.representation={name: counts, clip: abc}", "data.args.representation.clip: .*clip = abc"),
        (EVENTS, "data.size=abc", "data.size = 'abc': give one number of pixels"),
        (EVENTS, "data.root=/nope", "/nope/train: no such folder. `data.root` holds a folder per split"),
        (EVENTS, "data.name=gen2", "data.name: unknown dataset 'gen2', did you mean 'gen1'"),
        (EVENTS, "data.args.root=/x", "data.root and data.args.root are both set: leave one of them out"),
        (EVENTS, "data.args.augment={hflip: 1}", "data.augment and data.args.augment are both set"),
        (IMAGES, "data.args.size=64", "data.size and data.args.size are both set"),
    ],
)
def test_mistakes_in_data_are_named_by_their_keys(config, override, message, scenes):
    root = [] if "root" in override and "args" not in override else [f"data.root={scenes}"]
    with pytest.raises(ValueError, match=f"^{message}"):
        build_dataset(load_config(config, [*root, override]), "train", augment=True)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "model.args={widt: 1}",
            "model.args.widt: model 'ems_resnet10_ee' has no argument 'widt', did you mean 'width'",
        ),
        ("model.args={width: abc}", "model.args.width: .*width = 'abc': give a number"),
        ("model.neuron=liff", "model.neuron: unknown neuron 'liff', did you mean"),
        ("model.neuron={name: liff}", "model.neuron.name: unknown neuron 'liff', did you mean"),
        ("model.neuron=5", "model.neuron = 5: give a name"),
        ("model.neuron={name: lif, ta: 2}", "model.neuron.ta: neuron 'lif' has no argument 'ta', did you mean 'tau'"),
        ("model.neuron={name: lif, tau: abc}", "model.neuron.tau: neuron 'lif': tau = 'abc': give a number"),
        ("model.head=[1]", r"model.head = \[1\]: give a name"),
        ("model.head={name: anchor, nms_iuo: 1}", "model.head.nms_iuo: head 'anchor' has no argument 'nms_iuo'"),
        (
            "model.head={name: anchor, nms_iou: abc}",
            "model.head.nms_iou: head 'anchor': nms_iou = 'abc': give a number",
        ),
        (
            "model.name=spikeyolo_n",
            "model.head.anchors = .*: 2 rows, but the network has 3 levels, of strides 8, 16, 32",
        ),
        ("model.args={readout: lerned}", "model.args.readout = 'lerned', did you mean 'learned'"),
        (
            "model.args={readuot: learned}",
            "model.args.readuot: model .* has no argument 'readuot', did you mean 'readout'",
        ),
        ("model.args={encoder: tempral}", "model.args.encoder: unknown encoder 'tempral', did you mean 'temporal'"),
        ("model.args={encoder: {name: temporal, tau: 1}}", "model.args.encoder.tau: encoder 'temporal' has no"),
        ("model.args={encoder: 5}", "model.args.encoder = 5: give a name"),
        ("model.head={name: anchor, anchors: 5}", "model.head.anchors: head 'anchor': anchors = 5: give a list"),
    ],
)
def test_mistakes_in_the_model_are_named_by_their_keys(override, message):
    small = [] if "args" in override else ["model.args={width: 0.125}"]
    with pytest.raises(ValueError, match=f"^{message}"):
        build_model(load_config(EVENTS, ["data.root=x", *small, override]), 2, 2)


def test_a_wrong_model_is_named_before_any_work():
    with pytest.raises(ValueError, match="^model.name: unknown model 'ems_resnet11', did you mean 'ems_resnet1"):
        load_config("configs/demo.yaml", ["model.name=ems_resnet11"])


def test_who_calls_a_part_reads_its_arguments(scenes):
    with pytest.raises(ValueError, match="^sampling = 'foo'"):
        create_dataset("gen1", "train", root=scenes, sampling="foo")
    with pytest.raises(ValueError, match="^dataset 'gen1' has no argument 'windw_ms'"):
        create_dataset("gen1", "train", root=scenes, windw_ms=2)


def test_what_names_no_argument_stays_as_it_is():
    plain = config_to_plain(load_config("configs/demo.yaml"))
    for message in (
        "a.png: width = 3 in the file, 4 in the label",
        "nothing",
        "data.cache = 'ram': no",
        "a clip = 9: x",
    ):
        assert in_keys(message, plain) == message


def test_a_dataset_with_steps_of_its_own(monkeypatch, scenes):
    """It takes no `num_steps`: the model has to take the steps that it has."""
    monkeypatch.setattr(DATASETS, "_parts", dict(DATASETS._parts))

    @register_dataset("fixed")
    class Fixed:
        num_steps = 7

        def __init__(self, split, *, root, allow_missing):
            pass

        @classmethod
        def generate(cls, **kwargs): ...

    cfg = load_config("configs/demo.yaml", ["data.name=fixed", f"data.root={scenes}", "data.size=null", "data.args={}"])
    assert "num_steps" not in dataset_kwargs(cfg)[1]
    with pytest.raises(
        ValueError, match="^model.T = 4, but the events of dataset 'fixed' come in 7 steps: set model.T=7"
    ):
        build_dataset(cfg, "train")
    cfg.model.T = 7
    assert build_dataset(cfg, "train").num_steps == 7
