"""Each protocol's rule, by hand: what is evaluated, what is left out, on both sides."""

import dataclasses

import pytest

from scoring.coco_ap import best_of_each_image
from scoring.protocols import PROTOCOLS, Prophesee, get_protocol

LATE = 600_000  # us, past the 0.5 s that are skipped
CAR = [100.0, 100.0, 40.0, 30.0]  # diagonal 50


def problem(truth, detections, times=None, width=304):
    """truth and detections: [(image, bbox)]; detections score 0.9, 0.8 .. in order. times {image: us}."""
    times = times or {}
    images = sorted({image for image, _ in truth + detections} | set(times))
    return {
        "images": [
            {"id": i, "width": width, "height": 240, "file_name": "a", "clip": "a", "t_us": times.get(i, LATE + i)}
            for i in images
        ],
        "annotations": [
            {"id": k, "image_id": i, "category_id": 1, "bbox": box, "area": 1.0, "iscrowd": 0}
            for k, (i, box) in enumerate(truth, 1)
        ],
        "categories": [{"id": 1, "name": "car"}],
    }, [{"image_id": i, "category_id": 1, "bbox": box, "score": 0.9 - k / 10} for k, (i, box) in enumerate(detections)]


def prophesee(*args, **kwargs):
    scores = PROTOCOLS["prophesee"].score(*problem(*args, **kwargs))
    return scores["AP"], scores["images"], scores["boxes"]


ONE = pytest.approx(1.0)


def test_the_first_half_second_is_left_out_strictly():
    both = [(1, CAR), (2, CAR)]
    assert prophesee(both, both, {1: 500_000, 2: 500_001}) == (ONE, 1, 1)
    assert prophesee(both, [(2, CAR)], {1: 500_000, 2: 500_001}) == (ONE, 1, 1)  # the miss at 0.5 s is free
    assert prophesee(both, [(1, CAR)], {1: 500_000, 2: 500_001}) == (0, 1, 1)  # and the hit there is worth nothing


@pytest.mark.parametrize(
    ("w", "h", "counts"),
    [
        (18.0, 24.0, True),  # diagonal 30 exactly
        (18.0, 23.9, False),
        (10.0, 40.0, True),  # side 10 exactly
        (9.99, 40.0, False),
        (40.0, 9.99, False),
        (29.0, 10.0, True),  # diagonal 30.7
    ],
)
def test_small_truth_is_left_out(w, h, counts):
    small = [100.0, 20.0, w, h]
    truth = [(1, CAR), (1, small)]
    # Precision is 1 up to recall 1/2 and 0 after: 51 of the 101 recall points.
    assert prophesee(truth, [(1, CAR)]) == ((pytest.approx(51 / 101), 1, 2) if counts else (ONE, 1, 1))


@pytest.mark.parametrize(("w", "h", "counts"), [(18.0, 24.0, True), (18.0, 23.9, False), (9.99, 40.0, False)])
def test_small_detections_are_left_out(w, h, counts):
    """A better-scored detection elsewhere halves the precision, unless it is too small to count."""
    ap, images, boxes = prophesee([(1, CAR)], [(1, [200.0, 20.0, w, h]), (1, CAR)])
    assert (ap, images, boxes) == (pytest.approx(0.5) if counts else ONE, 1, 1)


def test_a_time_whose_truth_is_too_small_is_not_evaluated():
    """A false positive there is free; at a time with truth it costs half."""
    tiny = [10.0, 10.0, 12.0, 12.0]
    free = prophesee([(1, tiny), (2, CAR)], [(1, CAR), (2, CAR)])
    assert free == (ONE, 1, 1)
    costly = prophesee([(1, [200.0, 100.0, 40.0, 30.0]), (2, CAR)], [(1, CAR), (2, CAR)])
    assert costly == (pytest.approx(0.5 * 51 / 101), 2, 2)


def test_a_time_without_any_truth_is_not_evaluated():
    assert prophesee([(2, CAR)], [(1, CAR), (2, CAR)], {1: LATE}) == (ONE, 1, 1)


def test_a_detection_belongs_to_its_own_label_time():
    """Two label times 40 ms apart: the other time's detection is no second chance and no false positive."""
    truth = [(1, CAR), (2, CAR)]
    assert prophesee(truth, truth, {1: LATE, 2: LATE + 40_000}) == (ONE, 2, 2)
    assert prophesee(truth, [(1, CAR)], {1: LATE, 2: LATE + 40_000})[0] == pytest.approx(51 / 101)


def test_empty_truth_and_no_detections_are_zero():
    assert prophesee([], []) == (0, 0, 0)
    assert prophesee([], [], {1: LATE}) == (0, 0, 0)
    assert prophesee([], [(1, CAR)]) == (0, 0, 0)
    assert prophesee([(1, CAR)], []) == (0, 1, 1)
    assert prophesee([(1, CAR)], [(1, CAR)], {1: 400_000}) == (0, 0, 0)


def test_area_is_width_times_height():
    """The truth's own area (1 in this problem) is not used: 40 x 30 is medium, not small."""
    scores = PROTOCOLS["prophesee"].score(*problem([(1, CAR)], [(1, CAR)]))
    assert scores["AP_medium"] == ONE and scores["AP_small"] is None


def test_the_numbers_of_the_rule_are_parameters():
    strict = dataclasses.replace(PROTOCOLS["prophesee"], name="strict", min_diagonal=60, min_side=20)
    inputs = problem([(1, CAR), (1, [10.0, 10.0, 60.0, 60.0])], [(1, [10.0, 10.0, 60.0, 60.0])])
    assert strict.score(*inputs)["boxes"] == 1
    assert "diagonal >= 60 px" in strict.rule
    assert Prophesee(skip_us=0).score(*problem([(1, CAR)], [(1, CAR)], {1: 1}))["boxes"] == 1


@pytest.mark.parametrize(
    ("width", "w", "h", "counts"),
    [
        (1280, 36.0, 48.0, True),  # diagonal 60 exactly
        (1280, 36.0, 47.9, False),
        (1280, 20.0, 80.0, True),  # side 20 exactly
        (1280, 19.9, 80.0, False),
        (640, 18.0, 24.0, True),  # half of both
        (640, 18.0, 23.9, False),
        (640, 10.0, 40.0, True),
        (640, 40.0, 9.9, False),
    ],
)
def test_1mpx_sizes_are_halved_with_the_recording(width, w, h, counts):
    large, small = [300.0, 100.0, 80.0, 80.0], [100.0, 20.0, w, h]
    scores = PROTOCOLS["prophesee_1mpx"].score(*problem([(1, large), (1, small)], [(1, large)], width=width))
    assert (scores["AP"], scores["boxes"]) == ((pytest.approx(51 / 101), 2) if counts else (ONE, 1))
    found = PROTOCOLS["prophesee_1mpx"].score(*problem([(1, large)], [(1, small), (1, large)], width=width))
    assert found["AP"] == (pytest.approx(0.5) if counts else ONE)


def test_1mpx_skips_half_a_second_and_refuses_other_sensors():
    protocol, large = PROTOCOLS["prophesee_1mpx"], [300.0, 100.0, 80.0, 80.0]
    times = {1: 500_000, 2: 500_001}
    assert protocol.score(*problem([(1, large), (2, large)], [], times, width=1280))["boxes"] == 1
    truth, detections = problem([(1, large)], [])
    with pytest.raises(
        ValueError, match="image 1 has width 304: the prophesee_1mpx .* 1280 or 640 .*prophesee for Gen1"
    ):
        protocol.score(truth, detections)
    del truth["images"][0]["width"]
    with pytest.raises(ValueError, match="width None"):
        protocol.score(truth, detections)


def toolbox(*args, **kwargs):
    scores = PROTOCOLS["toolbox"].score(*problem(*args, **kwargs))
    return scores["AP"], scores["images"], scores["boxes"]


@pytest.mark.parametrize(("off_us", "ap"), [(50_000, ONE), (-50_000, ONE), (50_001, 0), (-50_001, 0)])
def test_the_toolbox_takes_detections_within_50_ms(off_us, ap):
    """Image 2 has a detection and no truth: it counts for the label time 1 if it is near, ends included."""
    times = {1: LATE, 2: LATE + off_us}
    assert toolbox([(1, CAR)], [(2, CAR)], times) == (ap, 1, 1)
    assert prophesee([(1, CAR)], [(2, CAR)], times) == (0, 1, 1)


def test_the_toolbox_counts_predictions_between_labels_as_false():
    """Every 50 ms the same, right box: the best of the three is true, the other two are false positives."""
    times = {1: LATE - 50_000, 2: LATE, 3: LATE + 50_000, 4: LATE + 250_000}
    every = [(1, CAR), (2, CAR), (3, CAR), (4, CAR)]
    # By score: true at 2 (detection of 1), false, false, true at 4: precision 1 up to recall 1/2, then 2/4.
    assert toolbox([(2, CAR), (4, CAR)], every, times) == (pytest.approx((51 + 50 * 0.5) / 101), 2, 2)
    assert prophesee([(2, CAR), (4, CAR)], every, times) == (ONE, 2, 2)


def test_a_toolbox_detection_may_serve_two_label_times():
    times = {1: LATE, 2: LATE + 40_000}
    assert toolbox([(1, CAR), (2, CAR)], [(1, CAR)], times) == (ONE, 2, 2)


def test_the_toolbox_keeps_clips_apart():
    truth, detections = problem([(1, CAR)], [(2, CAR)], {1: LATE, 2: LATE + 1})
    truth["images"][1]["clip"] = "b"
    assert PROTOCOLS["toolbox"].score(truth, detections)["AP"] == 0


def test_the_toolbox_skips_a_tenth_of_a_second_on_both_sides():
    times = {1: 100_000, 2: 100_001}
    assert toolbox([(1, CAR), (2, CAR)], [(2, CAR)], times) == (ONE, 1, 1)
    assert toolbox([(2, CAR)], [(1, CAR)], times) == (0, 1, 1)  # too early to count, near as it is


@pytest.mark.parametrize(("w", "h", "counts"), [(20.0, 23.0, True), (19.9, 40.0, False), (20.0, 22.0, False)])
def test_the_toolbox_wants_sides_of_20(w, h, counts):
    """Diagonals: 30.5, 44.7 and 29.7."""
    assert toolbox([(1, CAR), (1, [100.0, 20.0, w, h])], [(1, CAR)])[2] == (2 if counts else 1)


def test_nothing_to_find_is_zero_under_every_event_rule():
    for name in ("toolbox", "prophesee_1mpx"):
        for found in ([], [(1, CAR)]):
            scores = PROTOCOLS[name].score(*problem([], found, {1: LATE}, width=1280))
            assert (scores["AP"], scores["AP50"], scores["images"], scores["boxes"]) == (0, 0, 0, 0)


def test_raw_counts_what_others_leave_out():
    """Early, tiny, crowd and difficult boxes are all to be found, and a time without truth is evaluated."""
    tiny = [10.0, 10.0, 4.0, 4.0]
    truth, detections = problem([(1, tiny), (2, CAR), (3, CAR)], [(4, CAR), (1, tiny), (2, CAR)], {1: 0, 4: LATE})
    truth["annotations"][1]["iscrowd"] = truth["annotations"][2]["difficult"] = 1
    before = str(truth)
    scores = PROTOCOLS["raw"].score(truth, detections)
    # By score: false, true, true of 3: precision 2/3 up to recall 2/3, which is 67 of the 101 points.
    assert scores["AP"] == pytest.approx(67 * (2 / 3) / 101)
    assert (scores["images"], scores["boxes"]) == (4, 3)
    assert scores["AP_medium"] is not None and str(truth) == before  # area 1 of the file is not used
    assert PROTOCOLS["coco"].score(truth, detections)["boxes"] == 2


def test_every_rule_says_its_numbers():
    says = {
        "coco": ["101 recall points", "crowd regions are ignored"],
        "prophesee": ["Gen1", "t > 0.5 s", "diagonal >= 30 px", "sides >= 10 px"],
        "prophesee_1mpx": ["1Mpx", "t > 0.5 s", "diagonal >= 60 px", "sides >= 20 px", "half of both at 640 px"],
        "toolbox": ["toolbox", "t > 0.1 s", "diagonal >= 30 px", "sides >= 20 px", "within 50 ms"],
        "raw": ["every box", "none left out"],
    }
    for name, words in says.items():
        assert all(word in PROTOCOLS[name].rule for word in words), PROTOCOLS[name].rule


def test_images_have_no_prophesee_protocol():
    truth, detections = problem([(1, CAR)], [(1, CAR)])
    del truth["images"][0]["t_us"]
    with pytest.raises(ValueError, match="image 1 has no clip and t_us.*--protocol coco"):
        PROTOCOLS["prophesee"].score(truth, detections)


def test_two_images_of_one_label_time_are_refused():
    inputs = problem([(1, CAR), (2, CAR)], [], {1: LATE, 2: LATE})
    with pytest.raises(ValueError, match="2 images share clip and t_us"):
        PROTOCOLS["prophesee"].score(*inputs)


def test_a_bad_detection_is_found_before_it_is_filtered():
    truth, detections = problem([(1, CAR)], [(1, CAR)], {1: 0})
    detections[0]["bbox"] = [0.0, 0.0, float("nan"), 1.0]
    with pytest.raises(ValueError, match="detection 0 on image 1"):
        PROTOCOLS["prophesee"].score(truth, detections)


def test_coco_and_voc_treat_difficult_boxes_by_their_own_rules():
    truth, detections = problem([(1, CAR), (1, [200.0, 20.0, 30.0, 30.0])], [(1, CAR)])
    truth["annotations"][1]["difficult"] = 1
    coco, voc = PROTOCOLS["coco"].score(truth, detections), PROTOCOLS["voc10"].score(truth, detections)
    assert coco["AP"] == pytest.approx(51 / 101) and coco["boxes"] == 2
    assert voc["AP50"] == 1 and voc["boxes"] == 1


def test_crowd_regions_are_not_boxes_to_be_found():
    truth, detections = problem([(1, CAR), (1, [200.0, 20.0, 30.0, 30.0])], [(1, CAR), (1, [205.0, 25.0, 10.0, 10.0])])
    truth["annotations"][1]["iscrowd"] = 1
    scores = PROTOCOLS["coco"].score(truth, detections)
    assert scores["AP"] == ONE and scores["boxes"] == 1


@pytest.mark.parametrize("name", sorted(PROTOCOLS))
def test_every_protocol_answers_alike(name):
    protocol, large = PROTOCOLS[name], [100.0, 100.0, 80.0, 60.0]
    scores = protocol.score(*problem([(1, large)], [(1, large)], width=1280))
    assert protocol.name == name and "\n" not in protocol.rule
    assert scores["AP50"] == ONE and scores["images"] == scores["boxes"] == 1
    assert (scores["AP"] is None) == (scores["AP75"] is None) == name.startswith("voc")


def test_voc07_and_voc10_differ_where_they_should():
    other = [200.0, 20.0, 30.0, 30.0]
    inputs = problem([(1, CAR), (1, other)], [(1, CAR)])
    assert PROTOCOLS["voc07"].score(*inputs)["AP50"] == pytest.approx(6 / 11)
    assert PROTOCOLS["voc10"].score(*inputs)["AP50"] == pytest.approx(1 / 2)


def test_unknown_protocol_names_the_nearest():
    with pytest.raises(ValueError, match="unknown protocol 'prophese', did you mean 'prophesee'"):
        get_protocol("prophese")
    with pytest.raises(ValueError, match="There are .*voc07"):
        get_protocol("xyz")
    assert get_protocol("coco") is PROTOCOLS["coco"]


@pytest.mark.parametrize("name", PROTOCOLS)
def test_what_counts_is_what_is_scored(name):
    """Boxes that a rule leaves out are on neither side of what it counts, and counting twice changes nothing."""
    small, crowded = [100.0, 20.0, 8.0, 40.0], [10.0, 10.0, 60.0, 60.0]
    truth, found = problem(
        [(1, CAR), (1, small), (2, CAR), (3, small), (4, CAR)],
        [(1, CAR), (1, small), (2, CAR), (3, CAR), (4, CAR), *[(4, crowded)] * 120],
        {1: 600_000, 2: 50_000, 3: 900_000, 4: 1_200_000},
        width=640 if name == "prophesee_1mpx" else 304,
    )
    truth["annotations"][4] |= {"difficult": 1}
    scores = get_protocol(name).score(truth, found)
    counted, kept = get_protocol(name).counted(truth, found)
    ignored = [a for a in counted["annotations"] if a.get("difficult") or a.get("iscrowd")]
    assert len(counted["annotations"]) - len(ignored) == scores["boxes"]
    assert len(counted["images"]) == scores["images"]
    assert get_protocol(name).score(counted, kept) == scores
    of_image_4 = sum(d["image_id"] == 4 for d in kept)
    assert of_image_4 == (121 if name.startswith("voc") else 100)
    if "skip_us" in dir(get_protocol(name)):
        assert {a["image_id"] for a in counted["annotations"]} == {1, 4}
        assert {d["image_id"] for d in kept} == {1, 4}


def test_the_limit_per_image_keeps_the_best_of_each_class():
    found = [
        {"image_id": i, "category_id": c, "bbox": CAR, "score": s}
        for i, c, s in [(2, 1, 0.1), (1, 1, 0.5), (1, 2, 0.2), (1, 1, 0.5), (1, 1, 0.9), (2, 2, 0.3), (1, 1, 0.4)]
    ]
    assert best_of_each_image(found, 2) == [found[k] for k in (0, 1, 2, 4, 5)]  # of equal scores the first
    assert best_of_each_image(found, 100) == found and best_of_each_image([]) == []
