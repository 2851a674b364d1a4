"""The picture of the docs holds every registered representation."""

from PIL import Image

from data.representations import list_representations
from tools import draw_representations


def test_every_form_is_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(draw_representations, "SCENE", draw_representations.SCENE | {"width": 96, "height": 64})
    pictures = draw_representations.draw(num_steps=2, window_ms=100, seed=0)
    assert [name for name, _ in pictures] == list_representations()
    assert all(picture.shape == (3, 64, 96) and picture.float().std() > 0 for _, picture in pictures)
    draw_representations.main([str(tmp_path / "a.png"), "--columns", "5"])
    with Image.open(tmp_path / "a.png") as image:
        assert image.width == 1250
