"""Numbers of COCO labels written as strings are read; other values are refused (see test_coco)."""

import pytest

from data import Problems, create_dataset
from data.images.label_numbers import LabelNumbers


def coco(root, **kwargs):
    return create_dataset("coco", "train", root=root, size=80, **kwargs)


def test_boxes_of_a_labelling_service(coco_folder):
    problems = Problems()
    root = coco_folder(change=lambda c: c["annotations"][0].update(bbox=[2, 3, "10.0000", " 12.50 "]))
    assert [a["bbox"] for a in coco(root, problems=problems).ground_truth()["annotations"]] == [[2, 3, 10, 12.5]]
    (problem,) = problems.items
    assert "instances_train.json: numbers written as text or as 1.0: 2 x bbox" in str(problem) and not problem.fatal


@pytest.mark.parametrize("form", [str, float, lambda k: f" {k} ", lambda k: f"{k}.0", lambda k: f"00{k}"])
@pytest.mark.parametrize(
    "places",
    [
        [("images", "id")],
        [("annotations", "image_id")],
        [("annotations", "category_id")],
        [("categories", "id")],
        [("images", "width"), ("images", "height")],
        [("annotations", "id"), ("annotations", "area")],
        [("images", "id"), ("annotations", "image_id"), ("annotations", "category_id"), ("categories", "id")],
    ],
)
def test_ids_and_sizes_in_any_of_the_lists(coco_folder, form, places):
    def rewrite(content):
        for name, key in places:
            for entry in content[name]:
                entry[key] = form(entry[key])

    images = {"a.png": [(1, [2, 3, 10, 12]), (2, [9, 9, 5, 5])], "b.png": [(2, [1, 1, 4, 4])]}
    plain = coco(coco_folder(images=images)).ground_truth()
    problems = Problems()
    assert coco(coco_folder(images=images, change=rewrite), problems=problems).ground_truth() == plain
    columns = 1 if ("images", "width") in places else len(places)
    if not (form is float and ("annotations", "area") in places):  # where an area is a float anyway
        (problem,) = problems.items
        assert problem.kind == "numbers written as text or as 1.0" and problem.value.count(" x ") == columns


def test_images_without_width_and_height(coco_folder):
    def strip(content):
        for entry in content["images"]:
            del entry["width"], entry["height"]

    for change in (strip, lambda c: c["images"][0].update(width=None, height=None)):
        problems = Problems()
        dataset = coco(coco_folder(change=change), problems=problems)
        assert dataset[0].original_size == (30, 40) and dataset.ground_truth()["images"][0]["width"] == 40
        assert [a["bbox"] for a in dataset.ground_truth()["annotations"]] == [[2, 3, 10, 12]]
        (problem,) = problems.items
        assert "label without image size: 1 of 1 images" in str(problem)


@pytest.mark.parametrize("text", ["", "nan", "inf", "1,5", "1_0", "0x10", "1 2", "\u0661", "--1", "1e", "9" * 400, "."])
def test_text_that_is_no_number(text):
    numbers = LabelNumbers()
    assert numbers.real(text, "a") is None and numbers.whole([text], "a") == [None] and not numbers.odd


def test_large_ids_keep_every_digit():
    numbers = LabelNumbers()
    assert numbers.whole([str(2**60 + 1), 2**60 + 1, True, None], "id") == [2**60 + 1, 2**60 + 1, None, None]
    assert numbers.odd == {"id": 1}
