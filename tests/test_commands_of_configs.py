"""The commands at the top of the recipes in configs, on small folders in the layouts of their datasets.

tests/test_gen1_recipes.py has those of Gen1.
"""

import pytest
from command_files import make_place
from elsewhere import elsewhere
from pages import CONFIGS, commands_above
from small_commands import bare, small


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return make_place(tmp_path_factory.mktemp("place"))


SHOWN = {config: [words for words in commands_above(config) if not elsewhere(words)] for config in CONFIGS}


@pytest.mark.parametrize(
    "config", [config for config in CONFIGS if SHOWN[config]], ids=lambda path: f"{path.parent.name}/{path.stem}"
)
def test_the_commands_of_a_recipe_run_in_their_order(config, place, command, monkeypatch):
    monkeypatch.chdir(place)
    for words in SHOWN[config]:
        done = command(*small(bare(words), place))
        assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout[-800:]}\n{done.stderr[-800:]}"
