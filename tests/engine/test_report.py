"""report.html: its figures are those of metrics.json, for any number of classes, and no text of others is markup."""

import json
import random
import re
from html.parser import HTMLParser

import pytest
from untrained import EVENTS, IMAGES, untrained_run

import convert
import evaluate
from analysis.report import report
from analysis.report.evaluated import in_words

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """tables: {id: rows of texts}; all tags and attributes; unclosed: tags that were not closed in order."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.tags, self.attributes, self.open, self.words = {}, [], [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)
        if tag in ("table", "ul"):
            self.rows = self.tables.setdefault(attributes.get("id"), [])
        if tag in ("tr", "li"):
            self.rows.append([])
        if tag in ("td", "th") or tag == "span" and "li" in self.open:
            self.rows[-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)
        if "td" in self.open or "th" in self.open or "li" in self.open and "span" in self.open:
            self.rows[-1][-1] += data


def shown(value):
    return "–" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def check(folder):
    """The page of an evaluation, whose figures are those of its metrics.json."""
    text = (folder / "report.html").read_text()
    page, metrics = Page(text), json.loads((folder / "metrics.json").read_text())
    assert text == report(folder)  # it follows from the files alone
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    references = [v for k, v in page.attributes if k in ("src", "href") and not v.startswith(("#", "data:image/"))]
    assert not references and "url(" not in text and "@import" not in text
    best, per_class = metrics["best_thresholds"], metrics.get("per_class") or {}
    rows = {row[0]: row[1:] for row in page.tables["ap"][1:]}
    figures = ("threshold", "precision", "recall", "f1")
    assert rows.pop("all classes") == [
        shown(v) for v in (metrics["boxes"], metrics["AP"], metrics["AP50"], *(best["mean"][k] for k in figures))
    ]
    assert rows == {
        name: [shown(v) for v in (of["boxes"], per_class.get(name), metrics["per_class_AP50"][name],
                                  *(of[k] for k in figures))]
        for name, of in best["classes"].items()
    }  # fmt: skip
    assert [row[0] for row in page.tables["size"][1:]] == list(metrics["sizes"])
    assert [row[2:] for row in page.tables["size"][1:]] == [
        [shown(of[k]) for k in ("boxes", "AP", "AP50")] for of in metrics["sizes"].values()
    ]
    worst = [[shown(row[k]) for k in ("found", "missed", "true", "false")] for row in metrics["worst_images"]]
    assert [row[1:] for row in page.tables.get("worst", [[]])[1:]] == worst
    averages = dict(zip(*page.tables["averages"], strict=True)) if "averages" in page.tables else {}
    assert averages == {
        key: shown(metrics[key]) for key in metrics if re.fullmatch("A[PR]_.*|AR", key) and metrics[key] is not None
    }
    return page, metrics


def scored(tmp_path, names, boxes=60, protocol="coco", found=True):
    """The folder of an evaluation of random detections on random truth of these classes."""
    rng = random.Random(0)
    images = [{"id": i, "width": 200, "height": 200, "file_name": f"<b>{i}</b>.jpg"} for i in range(1, 21)]

    def box(k):
        return {"image_id": 1 + k % 20, "category_id": 1 + k % len(names),
                "bbox": [rng.uniform(0, 60), rng.uniform(0, 60), rng.uniform(9, 120), rng.uniform(9, 120)]}  # fmt: skip

    annotations = [{"id": k + 1, **box(k)} for k in range(boxes)]
    detections = [{**a, "score": rng.random()} for a in annotations if rng.random() < 0.7]
    detections += [{**box(k), "score": rng.random()} for k in range(30)]
    detections = [{k: v for k, v in d.items() if k != "id"} for d in detections] if found else []
    truth = {"images": images, "annotations": annotations}
    truth["categories"] = [{"id": k, "name": name} for k, name in enumerate(names, 1)]
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / "found.json").write_text(json.dumps(detections))
    files = ["--detections", str(tmp_path / "found.json"), "--truth", str(tmp_path / "truth.json")]
    evaluate.main([*files, "--report", "--protocol", protocol])
    return tmp_path / f"found_truth_{protocol}"


@pytest.mark.parametrize("protocol", ["coco", "voc07", "raw"])
@pytest.mark.parametrize("classes", [1, 2, 80])
def test_figures_are_those_of_metrics_json(tmp_path, classes, protocol):
    folder = scored(tmp_path, [f"class {k}" for k in range(classes)], 200, protocol)
    page, metrics = check(folder)
    breakdown = json.loads((folder / "breakdown.json").read_text())
    found = sum(of["true"] or 0 for of in metrics["best_thresholds"]["classes"].values())
    assert found and sum(map(sum, breakdown["confusion"][:-1])) == metrics["boxes"] == 200
    if classes <= 20:
        cells = [[int(n) if n else 0 for n in row[1:]] for row in page.tables["confusion"][1:]]
        assert cells == breakdown["confusion"]
    else:
        assert len(page.tables["confusion"]) <= 16 and "rect" in page.tags
    assert len([tag for tag in page.tags if tag == "svg"]) == 4 + (classes > 20)
    assert metrics["worst_images"] and "Not recorded" not in "".join(page.words)


@pytest.mark.parametrize("found", [True, False])
@pytest.mark.parametrize("boxes", [0, 5])
def test_without_boxes_or_detections(tmp_path, boxes, found):
    page, metrics = check(scored(tmp_path, ["car"], boxes, found=found))
    assert (metrics["best_thresholds"]["mean"]["threshold"] is None) == (not found or not boxes)
    assert (metrics["AP"] is None) == (not boxes) and (not boxes) == ("no AP is defined" in "".join(page.words))
    without = "No box of the truth counts" if not boxes else "" if found else "No detection finds a box"
    assert without in "".join(page.words) and ("svg" in page.tags) == (boxes > 0 and found)


@pytest.mark.parametrize("words", [0, 6])
def test_columns_of_long_names_are_numbered(tmp_path, words):
    names = [f"class{' of a long name' * words} {k}" for k in range(8)]
    page, _ = check(scored(tmp_path, names))
    header, *rows = page.tables["confusion"]
    assert header == ["truth", *([f"{k}." for k in range(1, 9)] if words else names), "not found"]
    shown_names = [f"{k}. {name}" for k, name in enumerate(names, 1)] if words else names
    assert [row[0] for row in rows] == [*shown_names, "background"] and rows[-1][-1] == ""


def test_settings_in_words():
    assert in_words({"name": "ilif", "D": 4}) == "ilif (D 4)" and in_words("lif") == "lif"
    conversion = {"neuron": None, "leak": 1.0, "encoder": {"name": "direct", "T": 8}, "empty": {}}
    assert in_words(conversion, ": ") == "leak: 1.0, encoder: direct (T 8), empty: "


def test_names_of_classes_and_files_are_text(tmp_path):
    names = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "a & b", "</style>", "{{7*7}}", "'\n$x$"]
    folder = scored(tmp_path, names)
    page = Page((folder / "report.html").read_text())
    assert "script" not in page.tags and "b" in page.tags and "img" not in page.tags
    assert not any(key.startswith("on") for key, _ in page.attributes)
    shown_names = [row[0] for row in page.tables["ap"][2:]]
    assert shown_names == [name.replace("\n", "\N{REPLACEMENT CHARACTER}") for name in names]
    assert any(row[0].startswith("<b>") for row in page.tables["worst"])
    assert any(key == "content" and value.startswith("default-src 'none'") for key, value in page.attributes)


def test_a_checkpoint_of_recordings_with_its_worst_images_and_rates(scenes, tmp_path):
    run = untrained_run(tmp_path, scenes, EVENTS % ", sampling: sequential, window_ms: 100", protocol="raw")
    evaluate.main([str(run / "checkpoint_best.pt"), "--pictures", "3", "--report", "--spikes"])
    folder = run / "eval" / "test_raw_best"
    page, metrics = check(folder)
    drawn = {path.name for path in (folder / "pictures").glob("worst_*.png")}
    assert drawn == {f"worst_{row['image_id']}.png" for row in metrics["worst_images"]} and len(drawn) == 3
    assert page.tags.count("img") == 3
    assert page.tables["firing"] == [[layer, f"{rate:.3f}"] for layer, rate in metrics["firing_rates"].items()]
    lines = (folder / "firing_rates.csv").read_text().splitlines()
    assert lines[0] == "layer,firing_rate"
    assert {k: float(v) for k, v in (line.split(",") for line in lines[1:])} == metrics["firing_rates"]
    assert [f"{metrics['operations'][k] / 1e6:,.2f}" for k in ("synops", "macs", "dense_macs")] == page.tables[
        "operations"
    ][1][1:]
    assert not (folder / "confidence.png").exists()


def test_a_converted_network_with_its_curve(scenes, tmp_path):
    run = untrained_run(tmp_path, scenes, IMAGES, neuron="relu", protocol="coco")
    path = convert.main([str(run), "--images", "4"])
    metrics = evaluate.main([str(path), "--steps", "1,2", "--plots", "--pictures", "1"])
    (folder,) = (run / "eval").iterdir()
    page, _ = check(folder)
    points = [*metrics["curve"]["points"], {**metrics["curve"]["ann"], "spikes_per_neuron": None}]
    assert [row[1:] for row in page.tables["steps"][1:]] == [
        [shown(p[k]) for k in ("AP50", "AP", "spikes_per_neuron")] for p in points
    ]
    assert "None" not in dict(page.tables["evaluated-facts"])["conversion"]
    assert (folder / "confidence.png").read_bytes().startswith(b"\x89PNG")
