"""Who may import whom: the rule of CONTRIBUTING.md, read off the syntax trees."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "neurons": set(),
    "models": {"neurons"},
    "data": set(),
    "analysis": {"neurons"},
    "engine": {"neurons", "models", "data", "analysis"},
    "tools": {"neurons", "models", "data", "engine", "analysis"},
}
SCRIPTS = {"train", "evaluate"}
# One wall per foreign library: the only files that may import it.
WALLS = {
    "albumentations": {"data/image_augment.py"},
    "cupy": {"neurons/multistep/cupy_kernels.py"},
    "pycocotools": set(),
    "faster_coco_eval": {"engine/coco_ap.py"},
    "h5py": {"data/events/hdf5_file.py"},
    "hdf5plugin": {"data/events/hdf5_file.py"},
}
FILES = [p for room in MAY_IMPORT for p in sorted((ROOT / room).rglob("*.py"))]


def imported(path: Path) -> set[str]:
    """Top-level names that the file imports. A `__main__` block is a script of its own and does not count."""
    tree = ast.parse(path.read_text())
    tree.body = [n for n in tree.body if not (isinstance(n, ast.If) and "__main__" in ast.unparse(n.test))]
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_rooms_import_downwards_only(path):
    room = path.relative_to(ROOT).parts[0]
    rooms = imported(path) & (set(MAY_IMPORT) | SCRIPTS)
    assert rooms <= MAY_IMPORT[room], f"{room} may import {MAY_IMPORT[room] or 'no other room'}; relative inside a room"


@pytest.mark.parametrize("path", [*FILES, *(ROOT / f"{s}.py" for s in SCRIPTS)], ids=lambda p: str(p.relative_to(ROOT)))
def test_foreign_libraries_stay_behind_their_wall(path):
    for library, allowed in WALLS.items():
        assert library not in imported(path) or str(path.relative_to(ROOT)) in allowed, library


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_file_says_its_idea_and_holds_one(path):
    text = path.read_text()
    assert ast.get_docstring(ast.parse(text)), "the first line says what the file is for"
    assert path.stem not in {"utils", "misc", "common", "helpers", "general"}
    assert len(text.splitlines()) <= 350
