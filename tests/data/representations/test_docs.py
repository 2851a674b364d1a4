"""docs/representations.md names every form with its arguments."""

import inspect
import re
from pathlib import Path

import numpy as np
import pytest
from slow_forms import FORMS

from data.representations import build_representation, list_representations

TEXT = (Path(__file__).parents[3] / "docs" / "representations.md").read_text()


# A form of your own needs no row.
ROWS = re.findall(r"^\| `(\w+)` \|", TEXT, re.M)


def test_the_table_has_every_form_of_the_project():
    assert set(ROWS) == {options["name"] for options in FORMS} <= set(list_representations())


@pytest.mark.parametrize("name", ROWS)
def test_a_row_has_the_defaults_of_its_form(name):
    (row,) = (line.split("|") for line in TEXT.splitlines() if line.startswith(f"| `{name}` |"))
    form = build_representation(name, 3)
    arguments = list(inspect.signature(type(form)).parameters.values())[1:]
    said = dict(re.findall(r"(\w+) \((\w+)\)", row[5]))
    assert said == {a.name: str(a.default).lower() for a in arguments}
    assert np.dtype(form.dtype).name in row[3] and (form.scale == 1) == ("255" not in row[3])
    assert f"**`{name}`" in TEXT or f"`{name}`**" in TEXT
