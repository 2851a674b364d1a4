"""Each representation equals its formula, worked out event by event, on small windows of any kind."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from slow_forms import FORMS, events_of, slow

from data.representations import build_representation

HEIGHT, WIDTH = 3, 4
ROW = st.tuples(st.integers(-12, 60), st.integers(0, WIDTH - 1), st.integers(0, HEIGHT - 1), st.integers(0, 1))


@pytest.mark.parametrize("options", FORMS, ids=lambda o: "-".join(str(v) for v in o.values()))
@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(ROW, max_size=60).map(sorted),
    t0=st.integers(-2, 20),
    num_steps=st.integers(1, 4),
    span=st.integers(12, 40),
)
@example(rows=[], t0=0, num_steps=3, span=12)
@example(rows=[(5, 1, 2, 1)], t0=0, num_steps=3, span=12)
@example(rows=[(1, 0, 0, 0), (12, 3, 2, 1)], t0=0, num_steps=2, span=12)
@example(rows=[(0, 0, 0, 0), (13, 3, 2, 1)], t0=0, num_steps=2, span=12)
@example(rows=[(1, 0, 0, 0), (4, 1, 1, 1), (4, 1, 1, 0), (8, 2, 2, 1)], t0=0, num_steps=1, span=12)
@example(rows=[(3, 1, 1, 0)] * 3 + [(3, 1, 1, 1)] * 2, t0=0, num_steps=1, span=12)
def test_equals_its_formula(options, rows, t0, num_steps, span):
    name, arguments = options["name"], {k: v for k, v in options.items() if k != "name"}
    form = build_representation(options, num_steps)
    x = form(events_of(rows), t0, t0 + span, HEIGHT, WIDTH)
    wanted = slow(name, arguments, rows, t0, t0 + span, num_steps, HEIGHT, WIDTH)
    assert x.dtype == form.dtype and x.shape == wanted.shape
    if form.dtype == np.float32:
        np.testing.assert_allclose(x, wanted, rtol=1e-5, atol=1e-6)
    elif name == "taf":  # rounded
        np.testing.assert_allclose(x, wanted, atol=0.5 + 1e-9)
    else:
        np.testing.assert_array_equal(x, wanted)
