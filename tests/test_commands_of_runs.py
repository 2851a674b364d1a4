"""Every command of docs that reads a run or makes data, each on its own, on runs of narrow networks."""

import pytest
from command_files import make_place, stand_in
from small_commands import of_docs, small, trains

WORDS = [words for words in of_docs() if not trains(words)]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return make_place(tmp_path_factory.mktemp("place"))


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_a_command_runs(words, place, command, monkeypatch):
    monkeypatch.chdir(place)
    stand_in(words, place, command)
    done = command(*small(words, place))
    assert done.returncode == 0, f"{done.stdout[-800:]}\n{done.stderr[-800:]}"
