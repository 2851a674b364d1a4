"""Transfer of weights between detectors: by name and shape, rows of the head by class name."""

import pytest
import torch

from models import create_model
from models.transfer import fitting_weights

HEADS = ["anchor", "dfl", "yolox"]


def detector(head, classes, **kwargs):
    kwargs = {"T": 1, "width": 0.125, "neuron": "relu"} | kwargs
    return create_model("ems_resnet10_ee", head=head, num_classes=len(classes), **kwargs)


def marked(head, classes, **kwargs):
    """A detector whose rows of class k hold the number that `values` gives that class's name, all others -1."""
    model = detector(head, classes, **kwargs)
    state = model.state_dict()
    for key, groups in model.head.class_rows().items():
        rows = state[f"head.{key}"].unflatten(0, (groups, -1))
        rows.fill_(-1)
        for k, name in enumerate(classes):
            rows[:, rows.shape[1] - len(classes) + k] = len(name)
    return state


def rows_of(model, key, groups, classes):
    rows = model.state_dict()[f"head.{key}"].unflatten(0, (groups, -1))
    return rows[:, : rows.shape[1] - len(classes)], rows[:, rows.shape[1] - len(classes) :]


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize(
    ("there", "here"),
    [
        (["a", "bb", "ccc"], ["ccc", "a", "bb"]),
        (["a", "bb"], ["bb", "dddd", "a"]),
        (["a", "bb", "ccc"], ["ccc"]),
        (["a", "bb"], ["eeeee", "dddd"]),
    ],
    ids=["another order", "one more", "fewer", "none in both"],
)
def test_rows_of_classes_are_matched_by_name(head, there, here):
    source, model = marked(head, there), detector(head, here)
    fresh = {key: rows_of(model, key, n, here)[1].clone() for key, n in model.head.class_rows().items()}
    transfer = fitting_weights(model, source, there, here)
    model.load_state_dict(transfer.weights, strict=False)
    assert len(transfer.in_part) == len(fresh) >= 4 and not transfer.shape_differs and not transfer.absent
    for key, n in model.head.class_rows().items():
        others, by_class = rows_of(model, key, n, here)
        assert (others == -1).all()
        for k, name in enumerate(here):
            expected = len(name) if name in there else fresh[key][:, k]
            assert ((by_class[:, k] - expected) == 0).all(), (key, name)
    assert transfer.classes == [name for name in here if name in there]
    assert transfer.new_classes == [name for name in here if name not in there]


@pytest.mark.parametrize("head", HEADS)
def test_the_same_classes_are_taken_whole(head):
    source, model = detector(head, ["a", "bb"]).state_dict(), detector(head, ["a", "bb"])
    transfer = fitting_weights(model, source, ["a", "bb"], ["a", "bb"])
    model.load_state_dict(transfer.weights)
    assert all(torch.equal(value, source[key]) for key, value in model.state_dict().items())
    assert len(transfer.whole) == len(source) and "by class" not in str(transfer)


@pytest.mark.parametrize("head", HEADS)
def test_unknown_classes_start_fresh(head):
    source, model = marked(head, ["a", "bb"]), detector(head, ["a", "bb"])
    transfer = fitting_weights(model, source, None, ["a", "bb"])
    key, n = next(iter(model.head.class_rows().items()))
    before = rows_of(model, key, n, ["a", "bb"])[1].clone()
    model.load_state_dict(transfer.weights, strict=False)
    assert torch.equal(rows_of(model, key, n, ["a", "bb"])[1], before) and transfer.new_classes == ["a", "bb"]


def test_what_does_not_fit_is_told_apart():
    source = detector("anchor", ["a"]).state_dict()
    wider = fitting_weights(detector("anchor", ["a"], width=0.25), source, ["a"], ["a"])
    assert wider.convolutions[0] == 0 < wider.convolutions[1] and not wider.absent
    assert "shapes differ: network.stem.conv.weight [4, 3, 3, 3], here [8, 3, 3, 3]" in str(wider)
    other_head = fitting_weights(detector("dfl", ["a"]), source, ["a"], ["a"])
    assert not other_head.shape_differs and all(key.startswith("head.") for key in other_head.absent)
    assert "not there: head." in str(other_head)
    channels = fitting_weights(detector("anchor", ["a"], in_channels=2), source, ["a"], ["a"])
    assert [key for key, _, _ in channels.shape_differs] == ["network.stem.conv.weight"]


def test_more_anchors_are_another_shape():
    source = detector("anchor", ["a"]).state_dict()
    anchors = [[[10, 10]] * 2, [[50, 50]] * 2]
    transfer = fitting_weights(detector({"name": "anchor", "anchors": anchors}, ["b"]), source, ["a"], ["b"])
    assert {key for key, _, _ in transfer.shape_differs} >= {"head.anchors", "head.predict.0.weight"}


def test_a_head_that_does_not_name_its_rows_starts_fresh_for_other_classes():
    source, model = marked("anchor", ["a", "bb"]), detector("anchor", ["bb", "a"])
    model.head.__class__ = type("Bare", (type(model.head),), {"class_rows": None})
    transfer = fitting_weights(model, source, ["a", "bb"], ["bb", "a"])
    assert not any(key.startswith("head.") for key in transfer.weights)
    assert all(key.startswith("head.") for key in transfer.absent)
