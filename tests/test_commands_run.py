"""The commands that a new user follows, page by page and in their order, run on small data and narrow networks."""

import re

import pytest
from command_files import make_place
from elsewhere import ELSEWHERE, elsewhere
from pages import COMMANDS, ROOT, blocks, commands
from small_commands import FOLLOWED, bare, small


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return make_place(tmp_path_factory.mktemp("place"))


@pytest.mark.parametrize("page", FOLLOWED, ids=lambda page: page.name)
def test_the_commands_of_a_page_run_in_their_order(page, place, command, monkeypatch):
    monkeypatch.chdir(place)
    if page.name == "own_data.md":
        exec(blocks(page, "python")[0], {})  # makes the folder `cells`
    ran = 0
    for words in commands(page):
        if not elsewhere(words):
            done = command(*small(bare(words), place))
            assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout[-800:]}\n{done.stderr[-800:]}"
            ran += 1
    assert ran > 2


@pytest.mark.parametrize("pattern", ELSEWHERE)
def test_a_command_that_is_not_run_is_shown_and_its_test_is_there(pattern):
    assert any(elsewhere(words) == pattern for _, words in COMMANDS), "no page shows such a command"
    file, _, test = ELSEWHERE[pattern][1].partition("::")
    assert re.search(rf"^ *def {test or 'test_'}", (ROOT / file).read_text(), re.M)
