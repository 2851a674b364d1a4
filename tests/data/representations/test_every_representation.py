"""Contract of `Representation`, for every registered one."""

import inspect

import numpy as np
import pytest
import torch
from slow_forms import FORMS, events_of

from analysis.draw import event_image
from data import create_dataset, eval_loader
from data.recordings import Events, write_boxes, write_dat
from data.recordings.boxes import BOX_DTYPE
from data.representations import build_representation, list_representations
from engine.drawn_samples import draw_samples
from scoring.evaluator import Evaluator

T, HEIGHT, WIDTH, T0, T1 = 3, 6, 8, 1000, 1600


def some_rows(n=400, first=T0 + 1, last=T1, seed=0):
    rng = np.random.default_rng(seed)
    columns = (rng.integers(a, b, n).tolist() for a, b in ((first, last + 1), (0, WIDTH), (0, HEIGHT), (0, 2)))
    return sorted(zip(*columns, strict=True))


def call(form, events):
    return form(events, T0, T1, HEIGHT, WIDTH)


# A form of your own, which has no formula in `slow_forms`, keeps the contract with its defaults.
OWN = [{"name": name} for name in list_representations() if name not in {options["name"] for options in FORMS}]


@pytest.mark.parametrize("options", FORMS + OWN, ids=lambda o: "-".join(str(v) for v in o.values()))
class TestEveryRepresentation:
    @pytest.fixture
    def form(self, options):
        return build_representation(options, T)

    def test_shape_type_and_the_same_again(self, form):
        events = events_of(some_rows())
        x = call(form, events)
        steps, *rest = x.shape
        assert steps == T and rest[-3:] == [form.channels, HEIGHT, WIDTH] and x.ndim in (4, 5)
        assert x.dtype == form.dtype and np.dtype(form.dtype).name in ("uint8", "int8", "float32")
        assert np.isfinite(x).all() and x.flags.c_contiguous and x.flags.writeable
        assert (x != form.empty).any()
        np.testing.assert_array_equal(call(form, events), x)

    def test_no_events_are_empty(self, form):
        x = call(form, events_of([]))
        assert (x == form.empty).all() and x.dtype == form.dtype
        one = call(form, events_of([(T0 + 1, 0, 0, 1)]))
        assert (one[..., 1, 1] == form.empty).all()

    def test_the_clock_may_begin_anywhere(self, form):
        events, offset = events_of(some_rows()), 1_764_115_200_000_000
        moved = Events(events.t + offset, events.x, events.y, events.p)
        np.testing.assert_array_equal(form(moved, T0 + offset, T1 + offset, HEIGHT, WIDTH), call(form, events))

    def test_events_outside_the_window_change_nothing(self, form):
        rows = some_rows()
        before = some_rows(50, T0 - form.history_us - 100, T0 - form.history_us, seed=1)
        after = some_rows(50, T1 + 1, T1 + 100, seed=2)
        x = call(form, events_of(before + rows + after))
        np.testing.assert_array_equal(x, call(form, events_of(rows)))
        assert (call(form, events_of(before + after)) == form.empty).all()

    def test_history_changes_the_first_step_where_there_is_one(self, form):
        history = some_rows(50, T0 - form.history_us + 1, T0, seed=1) if form.history_us else []
        same = (call(form, events_of(history)) == form.empty).all()
        assert same == (form.history_us == 0)

    def test_inputs_are_unchanged(self, form):
        events = events_of(some_rows())
        before = [getattr(events, name).copy() for name in "txyp"]
        for name in "txyp":
            getattr(events, name).setflags(write=False)
        x = call(form, events)
        kept = x.copy()
        form.view(x)
        for name, column in zip("txyp", before, strict=True):
            np.testing.assert_array_equal(getattr(events, name), column)
        np.testing.assert_array_equal(x, kept)

    def test_mirror_and_polarity_commute(self, form, options):
        events = events_of(some_rows())
        x = call(form, events)
        mirrored = Events(events.t, (WIDTH - 1 - events.x).astype(np.uint16), events.y, events.p)
        np.testing.assert_array_equal(call(form, mirrored), x[..., ::-1])
        if options in OWN:  # which may treat ON and OFF unlike
            return
        swapped = form.view(call(form, Events(events.t, events.x, events.y, events.p ^ 1)))
        shown = form.view(x)
        if form.gray_images:
            np.testing.assert_array_equal(swapped, np.where(shown == form.empty, shown, 255 - shown))
        else:
            np.testing.assert_allclose(swapped, shown[:, ::-1], rtol=1e-6)

    def test_view_can_be_drawn(self, form):
        shown = form.view(call(form, events_of(some_rows())))
        assert shown.shape == (T, 3 if form.gray_images else 2, HEIGHT, WIDTH) and (shown >= 0).all()
        if not form.gray_images:
            image = event_image(torch.from_numpy(shown))
            assert image.float().std() > 0

    def test_bad_calls_and_arguments_are_named(self, form, options):
        one = events_of([(T0 + 5, 3, 2, 1)])
        with pytest.raises(ValueError, match="steps do not fit a window of 2 us"):
            form(one, T0, T0 + 2, HEIGHT, WIDTH)
        with pytest.raises(ValueError, match="x=3, y=2 on a 3x6 frame"):
            form(one, T0, T1, 6, 3)
        with pytest.raises(ValueError, match="num_steps = 0"):
            build_representation(options, 0)
        first = [name for name in inspect.signature(type(form)).parameters if name != "num_steps"][:1]
        for name in first:
            with pytest.raises(ValueError, match=f"no argument '{name}x', did you mean '{name}"):
                build_representation({"name": options["name"], f"{name}x": 1}, T)

    def test_a_training_sees_it(self, options, recording):
        data = create_dataset("gen1", "train", root=recording, representation=options, num_steps=2, window_ms=100)
        batches = list(eval_loader(data, batch_size=2))
        form = data.input.representation
        x, _ = batches[0].to("cpu")
        assert x.dtype == torch.float32 and x.shape[:2] == (2, 2) and x.shape[-3] == data.channels == form.channels
        sample = data[1]
        of_batch = batches[0].x.unbind(
            0 if sample.x.dim() == 5 else 1
        )  # micro-bins [B, T, bins, ...], frames [T, B, ...]
        assert torch.equal(of_batch[1], sample.x)
        read = data._clips[0].reader.read(150_000 - form.history_us, 250_000)
        wanted = torch.from_numpy(form(read, 150_000, 250_000, 64, 96))
        if not form.gray_images:
            assert torch.equal(sample.x, wanted)
        evaluator = Evaluator(data.ground_truth())
        evaluator.add_results([])
        assert len(draw_samples(evaluator, data, 2)) == 2


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """One recording of 96x64 pixels with two label times."""
    folder = tmp_path_factory.mktemp("recording")
    (folder / "train").mkdir()
    rng = np.random.default_rng(0)
    t = np.sort(rng.integers(0, 300_000, 6000))
    x, y, p = (rng.integers(0, n, 6000) for n in (96, 64, 2))
    write_dat(folder / "train" / "a_td.dat", t, x, y, p, 96, 64)
    boxes = np.array([(t, 10, 12, 40, 30, 0, 1, 1.0) for t in (120_000, 250_000)], BOX_DTYPE)
    write_boxes(folder / "train" / "a_bbox.npy", boxes)
    return folder
