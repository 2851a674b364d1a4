"""Evaluations and predictions as imports of Label Studio, CVAT and FiftyOne, against the rules of their formats."""

import json
import zipfile
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.io import read_image
from untrained import untrained_run

import evaluate
from data.recordings import write_dat
from registry import UserError
from tools.convert_predictions.__main__ import main

TRUTH = {
    "info": {"root": "photos"},
    "images": [
        {"id": 7, "file_name": "a b.jpg", "width": 200, "height": 100},
        {"id": 9, "file_name": "sub/c.jpg", "width": 100, "height": 50},
    ],
    "categories": [{"id": 0, "name": "car & van"}, {"id": 4, "name": "dog"}],
    "annotations": [{"id": 1, "image_id": 7, "category_id": 4, "bbox": [0, 0, 10, 10], "area": 100}],
}
FOUND = [
    {"image_id": 7, "category_id": 4, "bbox": [20.0, 10.0, 100.0, 50.0], "score": 0.5},
    {"image_id": 7, "category_id": 0, "bbox": [180.0, -10.0, 40.0, 30.0], "score": 0.9},
    {"image_id": 9, "category_id": 0, "bbox": [0.0, 0.0, 10.0, 10.0], "score": 0.1},
]


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """The folder of an evaluation of two photographs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos" / "sub").mkdir(parents=True)
    for image in TRUTH["images"]:
        Image.new("RGB", (image["width"], image["height"])).save(tmp_path / "photos" / image["file_name"])
    folder = tmp_path / "eval"
    folder.mkdir()
    (folder / "annotations.json").write_text(json.dumps(TRUTH))
    (folder / "detections.json").write_text(json.dumps(FOUND))
    return folder


def content(path):
    return json.loads(path.read_text())


def test_label_studio_has_one_prediction_a_task_with_boxes_in_percent(photos, capsys):
    out = main(["label-studio", str(photos)])
    first, second = content(out / "tasks.json")
    assert first["data"]["image"] == "/data/local-files/?d=photos/a%20b.jpg"
    (prediction,) = first["predictions"]
    assert prediction["score"] == pytest.approx(0.7) and second["predictions"][0]["result"] == []
    best, other = prediction["result"]  # best first
    assert other["value"] == {
        "x": 10, "y": 10, "width": 50, "height": 50, "rotation": 0, "rectanglelabels": ["dog"]
    }  # fmt: skip
    assert other["score"] == 0.5 and (other["original_width"], other["original_height"]) == (200, 100)
    assert [best["value"][key] for key in ("x", "y", "width", "height")] == [90, 0, 10, 20]  # cut at the border
    config = ElementTree.parse(out / "config.xml").getroot()
    (control,) = config.iter("RectangleLabels")
    for region in (best, other):
        assert (region["type"], region["image_rotation"]) == ("rectanglelabels", 0)
        assert region["from_name"] == control.get("name") and region["to_name"] == control.get("toName")
    assert config.find("Image").get("name") == control.get("toName") and config.find("Image").get("value") == "$image"
    assert [label.get("value") for label in control] == ["car & van", "dog"]
    assert "2 boxes with score ≥ 0.3, 1 below, in 2 images" in capsys.readouterr().out


@pytest.mark.parametrize("url", ["https://host/x/", "https://host/x"])
def test_label_studio_takes_another_address(url, photos):
    out = main(["label-studio", str(photos), "--url", url, "--min-score", "0"])
    first, second = content(out / "tasks.json")
    assert first["data"]["image"] == "https://host/x/a%20b.jpg"
    assert second["data"]["image"] == "https://host/x/sub/c.jpg" and len(second["predictions"][0]["result"]) == 1


def test_cvat_declares_every_label_and_keeps_scores(photos):
    out = main(["cvat", str(photos)])
    with zipfile.ZipFile(out / "annotations.zip") as file:
        assert file.namelist() == ["annotations/instances_default.json"]
        coco = json.loads(file.read(file.namelist()[0]))
    assert [image["file_name"] for image in coco["images"]] == ["a b.jpg", "c.jpg"]
    assert {c["id"]: c["name"] for c in coco["categories"]} == {1: "car & van", 2: "dog"}  # from 1
    images = {image["id"]: image for image in coco["images"]}
    first, second = coco["annotations"]
    assert (first["category_id"], first["bbox"], first["area"], first["iscrowd"]) == (2, [20, 10, 100, 50], 5000, 0)
    assert images[first["image_id"]]["width"] == 200 and first["attributes"] == {"score": "0.5000"}
    assert second["attributes"] == {"score": "0.9000"} and len({a["id"] for a in coco["annotations"]}) == 2
    labels = content(out / "labels.json")
    assert [label["name"] for label in labels] == ["car & van", "dog"]
    assert all(label["attributes"][0]["name"] == "score" for label in labels)


def test_cvat_refuses_two_images_of_one_stem(photos):
    truth = json.loads((photos / "annotations.json").read_text())
    truth["images"][1]["file_name"] = "sub/a b.png"
    (photos / "annotations.json").write_text(json.dumps(truth))
    Image.new("RGB", (100, 50)).save(photos.parent / "photos" / "sub" / "a b.png")
    with pytest.raises(UserError, match=r"a b.png and photos/a b.jpg: CVAT matches images by name"):
        main(["cvat", str(photos)])


def test_fiftyone_gets_truth_and_results_with_the_same_ids(photos):
    out = main(["fiftyone", str(photos)])
    truth, found = content(out / "labels.json"), content(out / "predictions.json")
    assert found == FOUND and truth["categories"] == TRUTH["categories"]
    assert [image["id"] for image in truth["images"]] == [7, 9]
    assert all(Image.open(i["file_name"]).size == (i["width"], i["height"]) for i in truth["images"])
    assert truth["annotations"][0]["bbox"] == [0, 0, 10, 10] and truth["annotations"][0]["iscrowd"] == 0


def test_what_is_wrong_is_said(photos):
    with pytest.raises(UserError, match="has neither detections.json"):
        main(["cvat", str(photos.parent)])
    (photos.parent / "photos" / "a b.jpg").unlink()
    with pytest.raises(UserError, match="a b.jpg: no such file. Add --images DIR"):
        main(["fiftyone", str(photos)])
    (photos / "cvat").mkdir()
    (photos / "cvat" / "mine").touch()
    with pytest.raises(UserError, match="exists and holds files"):
        main(["cvat", str(photos)])


def test_windows_of_an_evaluation_become_images_on_the_sensor(tmp_path, scenes):
    run = untrained_run(tmp_path / "run", scenes)
    evaluate.main([str(run / "checkpoint_best.pt"), "--pictures", "0"])
    (folder,) = (run / "eval").iterdir()
    out = main(["fiftyone", str(folder)])
    truth = content(out / "labels.json")
    assert truth["annotations"] and content(out / "predictions.json")
    assert len({image["file_name"] for image in truth["images"]}) == len(truth["images"])
    drawn = [read_image(image["file_name"]) for image in truth["images"]]
    assert {tuple(image.shape) for image in drawn} == {(3, 64, 96)}
    image_id = truth["annotations"][0]["image_id"]
    (index,) = (k for k, image in enumerate(truth["images"]) if image["id"] == image_id)
    assert drawn[index].float().std() > 5  # events are drawn
    metrics = content(folder / "metrics.json")
    metrics["data"]["fingerprint"] = "0" * 16
    (folder / "metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(UserError, match="its labels are not those of"):
        main(["cvat", str(folder)])


def test_windows_of_a_prediction_are_read_from_the_recording(tmp_path):
    (tmp_path / "predicted").mkdir()
    t = np.array([150_000, 199_000, 250_000])
    write_dat(tmp_path / "a_td.dat", t, np.array([5, 6, 7]), np.array([2, 3, 4]), np.array([1, 0, 1]), 32, 24)
    window = {"id": 1, "file_name": "a_td.dat", "width": 32, "height": 24, "t_us": 200_000, "window_us": 50_000}
    images = {"info": {}, "images": [window], "categories": [{"id": 1, "name": "car"}]}
    (tmp_path / "predicted" / "images.json").write_text(json.dumps(images))
    (tmp_path / "predicted" / "predictions.json").write_text("[]")
    with pytest.raises(UserError, match="add --images DIR, the folder of the images or recordings"):
        main(["label-studio", str(tmp_path / "predicted"), "--out", str(tmp_path / "first")])
    images["info"]["source"] = str(tmp_path / "a_td.dat")
    (tmp_path / "predicted" / "images.json").write_text(json.dumps(images))
    out = main(["label-studio", str(tmp_path / "predicted")])
    (file,) = (out / "data").iterdir()
    image = read_image(str(file))
    ground = image[:, 0, 0]
    drawn = (image != ground[:, None, None]).any(0).nonzero().tolist()
    assert drawn == [[3, 6]]  # the event at 150 000 us ends the window before, that at 250 000 us is later


def predicted(folder, images, **more):
    """The folder of a prediction that found nothing in recordings."""
    folder.mkdir()
    content = {"info": {}, "images": images, "categories": [{"id": 1, "name": "car"}]} | more
    (folder / "images.json").write_text(json.dumps(content))
    (folder / "predictions.json").write_text("[]")
    return folder


def test_recordings_of_one_name_and_of_a_shifted_clock(tmp_path, capsys):
    """Two windows of files named alike have an image each; times of a prediction with shift_clock are from its first
    event."""
    images = []
    for k, name in enumerate(("one", "two")):
        (tmp_path / name).mkdir()
        write_dat(tmp_path / name / "a_td.dat", 10**7 + np.arange(3), *[np.full(3, 4 + k)] * 2, np.ones(3, int), 32, 24)
        images.append({"id": k + 1, "file_name": f"{name}/a_td.dat", "clip": "a_td", "width": 32, "height": 24})
        images[k] |= {"t_us": 50_000, "window_us": 50_000, "start_us": 0, "window": 1}
    info = {"root": str(tmp_path), "shift_clock": True}
    folder = predicted(tmp_path / "predicted", images, info=info, incomplete="--limit 2")
    out = main(["cvat", str(folder)])
    drawn = [read_image(str(path)) for path in sorted((out / "data").iterdir())]
    found = [(image != image[:, :1, :1]).any(0).nonzero().tolist() for image in drawn]
    assert found == [[[4, 4]], [[5, 5]]]
    assert "the prediction lacks frames: --limit 2" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"one/a_td.dat: no such file. Add --images DIR"):
        main(["fiftyone", str(folder), "--images", str(tmp_path / "one")])


def test_a_list_of_images_that_was_edited_by_hand(tmp_path):
    good = {"id": 1, "file_name": "a.dat", "width": 32, "height": 24, "t_us": 5, "window_us": 5}
    faults = {
        r"images\[0\] is 7": 7,
        r"images\[0\] has no id": {},
        r"images\[0\] has width 'w'": good | {"width": "w"},
        r"images\[0\] has no window_us": {k: v for k, v in good.items() if k != "window_us"},
        r"images\[0\] has file_name 3": good | {"file_name": 3},
    }
    for k, (message, image) in enumerate(faults.items()):
        with pytest.raises(UserError, match=message):
            main(["cvat", str(predicted(tmp_path / str(k), [image]))])
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file: is a file"):
        main(["cvat", str(tmp_path), "--out", str(tmp_path / "file")])


def test_supervision_gets_boxes_scores_and_names():
    sv = pytest.importorskip("supervision", reason="needs the extra tools: supervision")
    from tools.to_supervision import to_supervision

    boxes, scores = torch.tensor([[1.0, 2, 3, 4], [5, 6, 7, 8]]), torch.tensor([0.5, 0.25])
    found = to_supervision({"boxes": boxes, "scores": scores, "labels": torch.tensor([1, 0])}, ["car", "dog"])
    assert isinstance(found, sv.Detections) and found.xyxy.tolist() == boxes.tolist()
    assert found.confidence.tolist() == [0.5, 0.25] and found.class_id.tolist() == [1, 0]
    assert list(found["class_name"]) == ["dog", "car"]
    with pytest.raises(UserError, match="1 names, but a label 1"):
        to_supervision({"boxes": boxes, "scores": scores, "labels": torch.tensor([1, 0])}, ["car"])
    assert (
        len(to_supervision({"boxes": boxes[:0], "scores": scores[:0], "labels": torch.zeros(0).long()}, ["car"])) == 0
    )
