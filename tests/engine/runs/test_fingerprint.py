"""Fingerprints: equal for the same data in any place, different for any other image, box or class."""

import copy
import json

import pytest
import torch

from engine.runs.fingerprint import check_same_data, describe, fingerprint, weights_digest

TRUTH = {
    "images": [
        {"id": 1, "file_name": "a.jpg", "width": 9, "height": 9},
        {"id": 2, "file_name": "b_td.dat", "clip": "b", "t_us": 5},
    ],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 3, "bbox": [0, 1, 2, 3], "area": 6, "iscrowd": 0},
        {"id": 2, "image_id": 2, "category_id": 5, "bbox": [0.1, 0.2, 4.0, 4.0], "difficult": 1},
    ],
    "categories": [{"id": 3, "name": "car"}, {"id": 5, "name": "tram"}],
}


def changed(*place, to):
    truth = copy.deepcopy(TRUTH)
    at = truth
    for key in place[:-1]:
        at = at[key]
    at[place[-1]] = to
    return truth


def test_order_annotation_ids_and_json_do_not_matter():
    other = json.loads(json.dumps(TRUTH))
    for key in ("images", "annotations", "categories"):
        other[key].reverse()
    other["annotations"][0] |= {"id": 77, "iscrowd": 0, "bbox": [0.1, 0.2, 4, 4]}
    other["annotations"][1]["bbox"] = [-0.0, 1.0, 2.0, 3.0]
    assert fingerprint(other) == fingerprint(TRUTH) and len(fingerprint(TRUTH)) == 16


@pytest.mark.parametrize(
    "other",
    [
        changed("images", 0, "file_name", to="c.jpg"),
        changed("images", 0, "id", to=3),
        changed("images", 1, "t_us", to=6),
        changed("images", 1, "clip", to="c"),
        changed("images", to=TRUTH["images"][:1]),
        changed("annotations", 0, "bbox", 2, to=2.000001),
        changed("annotations", 0, "category_id", to=5),
        changed("annotations", 0, "image_id", to=2),
        changed("annotations", 0, "iscrowd", to=1),
        changed("annotations", 1, "difficult", to=0),
        changed("annotations", to=TRUTH["annotations"] * 2),
        changed("annotations", to=[]),
        changed("categories", 0, "name", to="bus"),
        changed("categories", 1, "id", to=6),
    ],
)
def test_anything_else_does(other):
    assert fingerprint(other) != fingerprint(TRUTH)


def test_detections_are_compared_with_the_metrics_beside_them(tmp_path):
    file, metrics = tmp_path / "detections.json", tmp_path / "metrics.json"
    data = describe(TRUTH, "test")
    assert "not checked" in check_same_data(file, data)
    for content in ("{", "[]", "{}", '{"data": 3}', '{"incomplete": "x", "request": {}}'):
        metrics.write_text(content)
        assert "not checked" in check_same_data(file, data)
    scored = {"data": describe(TRUTH | {"annotations": []}, "val"), "request": {"detections": "detections.json"}}
    metrics.write_text(json.dumps(scored))  # they were scored against another truth once
    assert "not checked" in check_same_data(file, data)
    metrics.write_text(json.dumps({"data": data, "request": {"checkpoint": "a.pt"}}))
    assert check_same_data(file, data) == f"the same as in {metrics}"
    assert check_same_data(file, describe(TRUTH, "another name")).startswith("the same")
    other = describe(changed("annotations", to=[]), "val")
    with pytest.raises(
        ValueError, match=r"on split 'test' \(2 images, 2 boxes.*truth is split 'val' \(2 images, 0 boxes"
    ):
        check_same_data(file, other)


def test_any_bit_of_the_weights_changes_their_digest():
    state = {"a": torch.zeros(2, 3), "b": torch.tensor(1), "c": torch.zeros(0), "d": torch.ones(2).bfloat16()}
    digest = weights_digest(state)
    assert digest == weights_digest(dict(reversed(state.items())))
    others = {"a": torch.zeros(3, 2)}, {"a": -torch.zeros(2, 3)}, {"b": torch.tensor(2)}, {"b": torch.tensor(1.0)}
    assert len({digest, *(weights_digest(state | other) for other in others)}) == 5
