"""Drawings: positions and colours of boxes, events, captions."""

import pytest
import torch

from analysis.draw import (
    BACKGROUND,
    OFF,
    ON,
    class_colours,
    draw_boxes,
    event_image,
    legible,
    overlay,
    side_by_side,
    time_strip,
    zoom_of,
)

NAMES = ["car", "pedestrian", "Fußgänger"]


def grey(height=60, width=80):
    return torch.full((3, height, width), 128, dtype=torch.uint8)


def pixel(image, x, y):
    return tuple(image[:, y, x].tolist())


def boxes(*rows):
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)


def test_a_box_is_drawn_on_its_border_in_the_colour_of_its_class():
    image = draw_boxes(grey(400, 500), boxes([100, 100, 300, 200]), torch.tensor([1]), NAMES, zoom=1)
    assert image.dtype == torch.uint8 and image.shape == (3, 400, 500)
    colour = class_colours(3)[1]
    for x, y in [(100, 150), (299, 150), (250, 100), (250, 199)]:  # the end is exclusive: 299 and 199 are the last
        assert pixel(image, x, y) == colour
    for x, y in [(98, 150), (300, 150), (250, 200), (250, 150)]:
        assert pixel(image, x, y) == (128, 128, 128)
    assert (image[:, 100 - 12 : 100, 102:150] != 128).any()  # the name stands above the box


def test_small_images_are_enlarged_and_boxes_with_them():
    assert [zoom_of(240, 304), zoom_of(480, 640), zoom_of(1080, 1920), zoom_of(20, 30)] == [2, 1, 1, 4]
    image = draw_boxes(grey(240, 304), boxes([50, 100, 150, 200]), torch.tensor([0]), NAMES)
    assert image.shape == (3, 480, 608)
    assert pixel(image, 100, 300) == pixel(image, 299, 300) == class_colours(3)[0]


def test_the_higher_score_lies_on_top():
    same = boxes([10, 20, 60, 50], [10, 20, 60, 50])
    labels, scores = torch.tensor([0, 1]), torch.tensor([0.9, 0.4])
    image = draw_boxes(grey(), same, labels, NAMES, scores)
    zoom = zoom_of(60, 80)
    assert pixel(image, 40 * zoom, 50 * zoom - 1) == class_colours(3)[0]


@pytest.mark.parametrize(
    "corner", [[0, 0, 20, 10], [70, 0, 80, 5], [60, 55, 80, 60], [-30, -30, 200, 200], [5, 5, 5, 5]]
)
def test_boxes_at_and_past_the_edges_are_drawn(corner):
    image = draw_boxes(grey(), boxes(corner), torch.tensor([2]), NAMES, torch.tensor([0.5]))
    assert (image != 128).any() and image.shape == (3, 240, 320)


def test_no_boxes_leave_the_image_alone_and_the_input_is_never_changed():
    image = grey()
    none = draw_boxes(image, boxes(), torch.empty(0, dtype=torch.int64), NAMES, torch.empty(0), zoom=1)
    assert torch.equal(none, grey())
    draw_boxes(image, boxes([1, 1, 50, 50]), torch.tensor([0]), NAMES, zoom=1)
    assert torch.equal(image, grey())


def test_a_label_without_a_name_is_drawn_too():
    image = draw_boxes(grey(), boxes([10, 20, 60, 50]), torch.tensor([7]), NAMES)
    assert pixel(image, 160, 199) == class_colours(8)[7]


def test_bad_input_raises():
    one = torch.tensor([0])
    with pytest.raises(ValueError, match="uint8"):
        draw_boxes(grey().float(), boxes([1, 1, 5, 5]), one, NAMES)
    with pytest.raises(ValueError, match="2 boxes, 1 labels"):
        draw_boxes(grey(), boxes([1, 1, 5, 5], [1, 1, 5, 5]), one, NAMES)
    with pytest.raises(ValueError, match="not finite"):
        draw_boxes(grey(), boxes([1, 1, float("nan"), 5]), one, NAMES)
    with pytest.raises(ValueError, match=r"\[T, 2, H, W\]"):
        event_image(torch.zeros(5, 3, 10, 10))


def test_class_colours_are_distinct():
    for count in (0, 1, 7, 20, 80):
        assert len(set(class_colours(count))) == count
    assert class_colours(80)[:7] == class_colours(7)
    assert not {ON, OFF, BACKGROUND} & set(class_colours(80))


def test_events_have_two_colours_and_the_newest_are_strongest():
    frames = torch.zeros(4, 2, 8, 8, dtype=torch.uint8)
    frames[3, 1, 0, 0] = 255
    frames[3, 0, 1, 1] = 255
    frames[0, 1, 2, 2] = 255
    frames[3, 1, 3, 3] = 1
    frames[3, :, 4, 4] = torch.tensor([3, 1])
    image = event_image(frames)
    assert image.dtype == torch.uint8 and image.shape == (3, 8, 8)
    assert pixel(image, 0, 0) == ON and pixel(image, 1, 1) == OFF and pixel(image, 7, 7) == BACKGROUND
    newest, oldest, single = (sum(pixel(image, k, k)) for k in (0, 2, 3))
    assert sum(BACKGROUND) < oldest < single < newest
    red, green, blue = pixel(image, 4, 4)
    assert blue > green > red  # more OFF than ON
    assert pixel(event_image(frames[:1]), 2, 2) == ON  # one step alone is the newest


@pytest.mark.parametrize("x", [grey(240, 304), torch.ones(5, 2, 240, 304, dtype=torch.uint8)])
def test_truth_is_left_and_prediction_right(x):
    truth = {"boxes": boxes([50, 60, 150, 160]), "labels": torch.tensor([0])}
    found = boxes([20, 100, 70, 200], [200, 60, 280, 160])
    prediction = {"boxes": found, "labels": torch.tensor([1, 1]), "scores": torch.tensor([0.3, 0.29])}
    image = side_by_side(x, truth, prediction, NAMES)
    caption = image.shape[1] - 480
    assert 10 < caption < 60 and image.shape[2] > 2 * 608
    right = image.shape[2] - 608
    assert pixel(image, 2 * 50, caption + 2 * 120) == class_colours(3)[0]
    assert pixel(image, right + 2 * 20, caption + 2 * 150) == class_colours(3)[1]  # a score at the threshold is shown
    assert pixel(image, right + 2 * 200, caption + 2 * 120) != class_colours(3)[1]
    assert pixel(image, right + 2 * 50, caption + 2 * 120) != class_colours(3)[0]


@pytest.mark.parametrize("num_steps", [1, 5, 16])
def test_the_strip_shows_each_step_in_order(num_steps):
    frames = torch.zeros(num_steps, 2, 64, 96, dtype=torch.uint8)
    frames[-1, 1] = 255
    strip = time_strip(frames, 800)
    assert strip.shape[1] > 30 and strip.shape[2] == 800
    last = strip.shape[2] * (num_steps - 1) // num_steps + strip.shape[2] // (2 * num_steps)
    assert pixel(strip, last, strip.shape[1] - 5) == ON
    if num_steps > 1:
        assert pixel(strip, 5, strip.shape[1] - 5) == BACKGROUND


@pytest.mark.parametrize(
    "name", ["$", "$x_{", "a$b^$c", "_hidden", "two\nlines", "\ud800", "\x00\x1b[31m", "", "x" * 5000, r"\frac{"]
)
def test_any_class_name_can_be_drawn(name):
    drawn = draw_boxes(grey(), boxes([10, 20, 60, 50]), torch.tensor([0]), [name], torch.tensor([0.5]))
    assert (drawn != 128).any()


def test_a_name_of_any_length_is_legible():
    assert legible("Fußgänger $1") == "Fußgänger $1" and legible("a\nb") == "a\N{REPLACEMENT CHARACTER}b"
    assert len(legible("x" * 99)) == 32


def test_overlay_shows_truth_white_and_predictions_in_their_colour_on_one_small_image():
    truth = {"boxes": boxes([10, 10, 30, 40]), "labels": torch.tensor([0])}
    found = {"boxes": boxes([50, 20, 70, 50], [0, 0, 9, 9]), "labels": torch.tensor([1, 0])}
    image = overlay(grey(), truth, found | {"scores": torch.tensor([0.9, 0.1])}, NAMES)
    caption = image.shape[1] - 4 * 60
    assert image.dtype == torch.uint8 and image.shape[2] == 4 * 80 and 0 < caption < 40
    assert pixel(image, 40, caption + 100) == (255, 255, 255)
    assert pixel(image, 200, caption + 150) == class_colours(2)[1]
    assert pixel(image, 2, caption + 20) == (128, 128, 128)  # a score below the threshold
    wide = overlay(torch.zeros(2, 2, 240, 304), truth, found | {"scores": torch.zeros(2)}, NAMES)
    assert wide.shape[2] == 304  # a thumbnail of TensorBoard shows it at about its own size
    nothing = {"boxes": boxes(), "labels": torch.empty(0, dtype=torch.int64), "scores": torch.empty(0)}
    for frames, rows in ((1, 0), (4, 23 + round(73 * 240 / 304))):
        x = torch.zeros(frames, 2, 240, 304)
        heights = [overlay(x, nothing, nothing, NAMES, steps=steps).shape[1] for steps in (False, True)]
        assert heights[1] - heights[0] == rows


def test_boxes_carry_the_numbers_of_their_tracks():
    image, boxes = torch.zeros(3, 200, 300, dtype=torch.uint8), torch.tensor([[40.0, 60.0, 200.0, 160.0]])
    label, score = torch.tensor([0]), torch.tensor([0.5])
    plain = draw_boxes(image, boxes, label, ["car"], score)
    numbered, none = (draw_boxes(image, boxes, label, ["car"], score, tracks=torch.tensor([k])) for k in (7, -1))
    assert torch.equal(plain, none) and not torch.equal(plain, numbered)
