"""Every command of the pages of docs, each on its own, on small data and narrow networks."""

import pytest
from command_files import make_place, stand_in
from pages import CONFIGS, PAGES
from small_commands import FOLLOWED, distinct, small


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return make_place(tmp_path_factory.mktemp("place"))


@pytest.mark.parametrize("words", distinct(set(PAGES) - set(FOLLOWED), but=[*FOLLOWED, *CONFIGS]), ids=" ".join)
def test_a_command_runs(words, place, command, monkeypatch):
    monkeypatch.chdir(place)
    stand_in(words, place, command)
    done = command(*small(words, place))
    assert done.returncode == 0, f"{done.stdout[-800:]}\n{done.stderr[-800:]}"
