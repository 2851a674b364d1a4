"""train.multi_scale: sizes by (seed, step) alone, boxes that follow their images, recordings refused."""

import pytest
import torch
from ranks import interrupted

import train
from engine.multi_scale import EVERY, MultiScale, resized
from engine.runs.checkpoint import load_checkpoint
from registry import UserError

IMAGES = ["data.name=scene_images", "data.args={}", "data.augment={}", "data.size=[64, 96]", "train.epochs=2"]
IMAGES += ["train.multi_scale=[0.5, 1.5]", "train.eval_every=2", "train.batch_size=2"]


def test_a_size_is_kept_for_some_steps_and_is_a_multiple_of_the_stride():
    sizes = MultiScale([0.5, 1.5], (240, 320), 32, seed=1)
    found = [sizes(step) for step in range(400)]
    blocks = [set(found[i : i + EVERY]) for i in range(0, 400, EVERY)]
    assert all(len(block) == 1 for block in blocks) and len(set().union(*blocks)) > 5
    assert all(side % 32 == 0 for size in found for side in size)
    assert min(found) >= (128, 160) and max(found) <= (352, 480)
    assert all(abs(width / height - 4 / 3) < 0.3 for height, width in found)
    assert str(sizes) == "images of 128 x 160 to 352 x 480, another size every 10 steps"
    assert [MultiScale([0.5, 1.5], (240, 320), 32, seed=1)(step) for step in (390, 17)] == [found[390], found[17]]
    assert [MultiScale([0.5, 1.5], (240, 320), 32, seed=2)(step) for step in range(400)] != found
    assert MultiScale([0.1, 0.1], (64, 640), 32, seed=0)(3) == (32, 64)


@pytest.mark.parametrize("size", [(32, 96), (96, 64), (128, 32)])
def test_boxes_follow_their_images(size):
    x = torch.zeros(1, 3, 64, 64)
    x[:, :, 16:48, 8:24] = 1.0
    target = {"boxes": torch.tensor([[8.0, 16.0, 24.0, 48.0]]), "labels": torch.tensor([3])}
    y, [scaled, none] = resized(x, [target, None], size)
    assert y.shape == (1, 3, *size) and none is None and scaled["labels"] is target["labels"]
    left, top, right, bottom = scaled["boxes"][0].tolist()
    inside = torch.zeros(size)
    inside[round(top) : round(bottom), round(left) : round(right)] = 1.0
    assert (y[0, 0] - inside).abs().mean() < 0.04 and torch.equal(target["boxes"][0], torch.tensor([8.0, 16, 24, 48]))
    assert resized(x, [target], (64, 64)) == (x, [target])


def test_a_resumed_run_has_the_sizes_of_an_uninterrupted_one(tiny):
    seen = []

    def shapes(module, args):
        if module.training:
            seen.append(tuple(args[0].shape[-2:]))

    hook = torch.nn.modules.module.register_module_forward_pre_hook(
        lambda module, args: shapes(module, args) if type(module).__name__ == "Detector" else None
    )
    try:
        whole = train.main([tiny, *IMAGES, "name=whole"])
        sizes, seen[:] = list(seen), []
        steps = load_checkpoint(whole / "checkpoint_last.pt")["steps_per_epoch"]
        with interrupted(steps + 1):
            train.main([tiny, *IMAGES, "name=parts"])
        seen.clear()
        parts = train.main([tiny, *IMAGES, "name=parts", "--resume"])
    finally:
        hook.remove()
    assert len(set(sizes)) > 1 and len(sizes) == 2 * steps and seen == sizes[-len(seen) :] and len(seen) <= steps
    one, other = (load_checkpoint(folder / "checkpoint_last.pt")["model"] for folder in (whole, parts))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize(
    ("overrides", "match"),
    [
        (["train.multi_scale=[0.5, 1.5]"], "^train.multi_scale: only images are resized"),
        ([*IMAGES, "train.compile=true"], "^train.multi_scale: with train.compile"),
        ([*IMAGES, "train.multi_scale=0.5"], r"^train.multi_scale = 0.5: give .*\[0.5, 1.5\], or null"),
        ([*IMAGES, "train.multi_scale=[1.5, 0.5]"], r"^train.multi_scale = \[1.5, 0.5\]: give"),
        ([*IMAGES, "train.multi_scale=[0, 1]"], r"^train.multi_scale = \[0, 1\]: give"),
    ],
)
def test_where_sizes_cannot_change(tiny, overrides, match):
    with pytest.raises(UserError, match=match):
        train.main([tiny, *overrides])
