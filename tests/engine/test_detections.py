"""evaluate.py --detections: the scores of the run that wrote them, and an error for every malformed entry."""

import copy
import json
from pathlib import Path

import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

import evaluate
import export
from data import create_dataset
from scoring.detections import read_detections, read_truth

TOY = Path(__file__).parents[1] / "golden" / "ap"

TRUTH = {
    "images": [{"id": 1, "width": 100, "height": 80}, {"id": 2, "width": 100, "height": 80}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 3, "bbox": [10, 10, 40, 30], "area": 1200, "iscrowd": 0},
        {"id": 2, "image_id": 2, "category_id": 5, "bbox": [20, 20.5, 40, 30]},
    ],
    "categories": [{"id": 3, "name": "car"}, {"id": 5, "name": "tram"}],
}
FOUND = [
    {"image_id": 1, "category_id": 3, "bbox": [10, 10, 40, 30], "score": 0.9},
    {"image_id": 2, "category_id": 5, "bbox": [70, 50, 20, 20], "score": 0.8},
]


@pytest.fixture
def write(tmp_path):
    """write(name, content) -> path of the json file, which holds `content`, or its text."""

    def write(name, content):
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return str(path)

    return write


def changed(content, place, change):
    """A copy of `content` with `change` at `place`, a path of keys; a change of None removes the key."""
    content = copy.deepcopy(content)
    *parents, last = place
    at = content
    for key in parents:
        at = at[key]
    if change is None:
        del at[last]
    else:
        at[last] = change
    return content


def test_a_file_is_scored_and_names_its_rule(write, tmp_path, capsys):
    detections, truth = write("found.json", FOUND), write("truth.json", TRUTH)
    metrics = evaluate.main(["--detections", detections, "--truth", truth, "--plots"])
    assert metrics["AP"] == pytest.approx(0.5) and metrics["per_class"] == {"car": pytest.approx(1), "tram": 0}
    assert metrics["protocol"] == "coco" and metrics["images"] == metrics["expected_images"] == 2
    folder = tmp_path / "found_truth_coco"
    assert json.loads((folder / "metrics.json").read_text()) == metrics
    assert (folder / "precision_recall.png").exists() and (folder / "confusion.png").exists()
    printed = capsys.readouterr().out
    assert metrics["rule"] in printed and detections in printed and str(folder) in printed


def test_protocol_and_folder_are_chosen_on_the_command_line(write, tmp_path):
    detections, truth = write("found.json", FOUND), write("truth.json", TRUTH)
    metrics = evaluate.main(
        ["--detections", detections, "--truth", truth, "--protocol", "voc07", "--out", str(tmp_path / "there")]
    )
    assert metrics["AP50"] == pytest.approx(0.5) and metrics["rule"].startswith("PASCAL VOC 2007")
    assert [p.name for p in (tmp_path / "there").iterdir()] == ["metrics.json"]
    assert not list(tmp_path.glob("found_*"))


def test_a_config_gives_the_truth_and_the_protocol(tiny, scenes, write):
    """Each box of the truth as a detection, but for one image: then AP is what the other images give."""
    truth = create_dataset("gen1", "test", root=scenes, num_steps=2).ground_truth()
    kept = [a for a in truth["annotations"] if a["image_id"] != 1]
    found = [{k: a[k] for k in ("image_id", "category_id", "bbox")} | {"score": 0.5} for a in kept]
    metrics = evaluate.main([tiny, "eval.protocol=raw", "--detections", write("found.json", found)])
    assert metrics["protocol"] == "raw" and metrics["split"] == "test"
    assert metrics["boxes"] == len(truth["annotations"]) > len(kept) and metrics["images"] == len(truth["images"])
    assert 0.3 < metrics["AR"] < 1
    with pytest.raises(ValueError, match="no category 9"):
        evaluate.main([tiny, "--detections", write("bad.json", changed(found, [0, "category_id"], 9))])
    other = evaluate.main([tiny, "--split", "val", "--detections", write("none.json", [])])
    assert other["AP"] == 0 and other["split"] == "val" and other["images"] > 0


def test_a_run_folder_or_a_file_of_weights_gives_the_truth(run, write, tmp_path):
    weights = export.main([str(run), "--format", "safetensors"])
    for source in (run, weights, run / "checkpoint_last.pt"):
        found = evaluate.main([str(source), "--detections", write("none.json", []), "--out", str(tmp_path / "out")])
        assert (found["split"], found["protocol"], found["AP"]) == ("test", "coco", 0) and found["images"] > 0
    with pytest.raises(ValueError, match="no checkpoint in this folder"):
        evaluate.main([str(tmp_path / "out"), "--detections", write("none.json", [])])


def test_absent_recordings_are_refused(tiny, scenes, write, tmp_path):
    """The image ids of all that follow would shift, whatever the config allows."""
    (tmp_path / "moved" / "test").mkdir(parents=True)
    for path in (scenes / "test").iterdir():
        if path.name != "scene_0000_td.dat":
            (tmp_path / "moved" / "test" / path.name).symlink_to(path)
    with pytest.raises(ValueError, match="scene_0000_td.dat"):
        evaluate.main(
            [tiny, f"data.root={tmp_path / 'moved'}", "data.allow_missing=true", "--detections", write("f.json", [])]
        )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--detections", "F"], "--detections needs a truth: add --truth"),
        (["data.root=x", "--detections", "F"], "--detections needs a truth"),
        (["a.yaml", "--detections", "F", "--truth", "T"], "leave out the config"),
        (["--detections", "F", "--truth", "T", "--split", "val"], "leave out the config"),
        (["--detections", "F", "--truth", "T", "--binary"], "--binary is about running a model"),
        (["--detections", "F", "--truth", "T", "--allow-missing"], "--allow-missing is about running a model"),
        (["--detections", "F", "--truth", "T", "--protocol", "prophese"], "did you mean 'prophesee'"),
        (
            ["--detections", "F", "--truth", "T", "--protocol", "toolbox"],
            "toolbox protocol is for event recordings",
        ),
        (["--truth", "T"], "--truth belongs to --detections"),
        (["data.root=x"], "nothing to score"),
    ],
)
def test_arguments_that_do_not_go_together(arguments, says, write):
    files = {"F": write("found.json", FOUND), "T": write("truth.json", TRUTH)}
    with pytest.raises(ValueError, match=says):
        evaluate.main([files.get(a, a) for a in arguments])


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[{", "not a json file"),
        ("[" * 100_000, "not a json file"),
        ({"boxes": []}, "no list of detections"),
        ([*FOUND, 7], r"detections\[2\] is 7. Give a mapping with image_id, category_id, bbox, score"),
        (TRUTH, r"annotations\[0\] has no score"),
        (changed(FOUND, [1, "bbox"], None), r"detections\[1\] has no bbox"),
        (changed(FOUND, [1, "bbox"], [1, 2, 3]), r"detections\[1\] has bbox \[1, 2, 3\]. Give \[x, y, w, h\]"),
        (changed(FOUND, [1, "bbox"], [1, 2, -3, 4]), r"detections\[1\] .*w, h >= 0"),
        (changed(FOUND, [1, "bbox"], [1, 2, float("nan"), 4]), r"detections\[1\] has bbox .*nan"),
        (changed(FOUND, [1, "bbox"], ["1", 2, 3, 4]), r"detections\[1\] has bbox"),
        (changed(FOUND, [1, "bbox"], [10**400, 2, 3, 4]), r"detections\[1\] has bbox"),
        (changed(FOUND, [1, "score"], float("inf")), r"detections\[1\] has score inf. Give a finite number"),
        (changed(FOUND, [1, "score"], "high"), r"detections\[1\] has score 'high'"),
        (changed(FOUND, [1, "image_id"], "2"), r"detections\[1\] has image_id '2'. Give a whole number"),
        (changed(FOUND, [1, "image_id"], True), r"detections\[1\] has image_id True"),
        (changed(FOUND, [1, "image_id"], 3), r"detections\[1\]: the truth has no image 3. Give the truth of the split"),
        (changed(FOUND, [1, "category_id"], 0), r"detections\[1\]: the truth has no category 0; it has 3, 5.*own ids"),
    ],
)
def test_malformed_detections_name_file_and_entry(content, says, write):
    with pytest.raises(ValueError, match=f"found.json: .*{says}"):
        read_detections(write("found.json", content), TRUTH)


@pytest.mark.parametrize(
    ("place", "change", "says"),
    [
        (["categories"], None, "has not the lists images, categories, annotations"),
        (["images", 1, "id"], 1, r"images\[1\] has the id 1 of images\[0\]"),
        (["categories", 1, "id"], 3, r"categories\[1\] has the id 3 of categories\[0\]"),
        (["categories", 1, "name"], "car", r"categories\[1\] has the name 'car' of categories\[0\]"),
        (["categories", 1, "name"], None, r"categories\[1\] has no name"),
        (["images", 0, "width"], -1, r"images\[0\] has width -1. Give a number above 0"),
        (["images", 0, "t_us"], "1 s", r"images\[0\] has t_us '1 s'"),
        (["annotations", 1, "bbox"], [20, 20, 0, 30], r"annotations\[1\] has bbox .*w, h > 0"),
        (["annotations", 1, "bbox"], [20, 20, -5, 30], r"annotations\[1\] has bbox .*w, h > 0"),
        (["annotations", 1, "bbox"], [20, float("nan"), 5, 30], r"annotations\[1\] has bbox .*finite"),
        (["annotations", 0, "iscrowd"], "0", r"annotations\[0\] has iscrowd '0'. Give 0 or 1"),
        (["annotations", 0, "area"], "big", r"annotations\[0\] has area 'big'"),
        (["annotations", 1, "image_id"], 9, r"annotations\[1\]: the truth has no image 9. Remove it"),
        (["annotations", 1, "category_id"], 9, r"annotations\[1\]: the truth has no category 9; it has 3, 5"),
    ],
)
def test_malformed_truth_names_file_and_entry(place, change, says, write):
    with pytest.raises(ValueError, match=f"truth.json: {says}"):
        read_truth(write("truth.json", changed(TRUTH, place, change)))


def test_an_absent_file_is_named(write, tmp_path):
    with pytest.raises(ValueError, match=r"found.json: no such file"):
        evaluate.main(["--detections", str(tmp_path / "found.json"), "--truth", write("truth.json", TRUTH)])


def test_the_published_reference_from_its_files(tmp_path):
    folder = TOY / "test_coco_eval"
    files = ["--detections", str(folder / "cocoapi_results.json")]
    files += ["--truth", str(folder / "sampled_gts_bbox_area.json")]
    metrics = evaluate.main([*files, "--out", str(tmp_path)])
    assert (metrics["AP"], metrics["AP50"], metrics["AP75"]) == pytest.approx((0.503647, 0.696973, 0.571667), abs=5e-7)


def test_the_toy_photos_whose_ids_begin_at_0(tmp_path, capsys):
    """The annotation with id 0 is a miss to pycocotools; renumbered from 1 there, the numbers are equal."""
    truth = read_truth(TOY / "toyexample" / "toy_example_coco.JSON")
    detections = TOY / "toyexample" / "coco_dets.json"
    metrics = evaluate.main(
        ["--detections", str(detections), "--out", str(tmp_path)]
        + ["--truth", str(TOY / "toyexample" / "toy_example_coco.JSON")]
    )

    def pycocotools_ap(first_id):
        coco = COCO()
        annotations = [{**a, "id": i} for i, a in enumerate(truth["annotations"], first_id)]
        coco.dataset = {"info": {}, **truth, "annotations": annotations}
        coco.createIndex()
        found = [{k: d[k] for k in ("image_id", "category_id", "bbox", "score")} for d in read]
        oracle = COCOeval(coco, coco.loadRes(found), "bbox")
        oracle.evaluate()
        oracle.accumulate()
        oracle.summarize()
        return oracle.stats[0]

    read = read_detections(detections, truth)
    assert metrics["AP"] == pytest.approx(pycocotools_ap(1), rel=0, abs=5e-16)
    assert metrics["AP"] > pycocotools_ap(0) + 0.01
