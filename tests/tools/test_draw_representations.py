"""The figure of the docs holds every registered representation."""

import itertools
import re
from pathlib import Path

import numpy as np
from PIL import Image

from data.representations import list_representations
from tools import draw_representations

DOCS = Path(__file__).parents[2] / "docs" / "representations.md"


def test_every_form_is_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(draw_representations, "SCENE", draw_representations.SCENE | {"width": 96, "height": 64})
    panels = draw_representations.draw(num_steps=2, window_ms=100, seed=0)
    assert [re.split(r"[,\n]", panel.title)[0] for panel in panels] == list_representations()
    for panel in panels:
        rows, columns = panel.grid
        mosaic = panel.mosaic()
        assert mosaic.shape == (64 * rows, 96 * columns) and len(panel.shown) <= rows * columns
        last = panel.shown[-1]
        row, column = divmod(len(panel.shown) - 1, columns)
        tile = mosaic[64 * row : 64 * (row + 1), 96 * column : 96 * (column + 1)]
        np.testing.assert_array_equal(tile, panel.x[last])
    ours = set(re.findall(r"^\| `(\w+)` \|", DOCS.read_text(), re.M))  # a form of your own may look like another
    for a, b in itertools.combinations([p for p in panels if re.split(r"[,\n]", p.title)[0] in ours], 2):
        assert a.mosaic().shape != b.mosaic().shape or not np.array_equal(a.mosaic(), b.mosaic(), equal_nan=True)
    draw_representations.main([str(tmp_path / "a.png"), "--columns", "5"])
    with Image.open(tmp_path / "a.png") as image:
        assert image.width == 5 * 351
