"""Who may import whom, and what a file may be: the rules of CONTRIBUTING.md, read from the syntax trees."""

import ast
import re
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parent.parent
# | `room/` | what lives there | `rooms`, that it may import |
ROW = re.compile(r"^\| `(\w+)/` \| [^|]+ \| ([^|]+) \|$", re.M)
MAY_IMPORT = {
    room: set(re.findall(r"`(\w+)`", rooms)) for room, rooms in ROW.findall((ROOT / "CONTRIBUTING.md").read_text())
}
SCRIPTS = {path.stem for path in ROOT.glob("*.py")}
# The only files that may import a foreign library.
WALLS = {
    "albumentations": {"data/images/augment.py"},
    "cupy": {"neurons/multistep/cupy_kernels.py"},
    "pycocotools": set(),
    "faster_coco_eval": {"scoring/coco_ap.py"},
    "h5py": {"data/recordings/hdf5_file.py"},
    "hdf5plugin": {"data/recordings/hdf5_file.py"},
    "pynvml": {"analysis/energy/joules.py"},
    "onnxruntime": {"models/deploy/onnx_graph/int8.py", "models/deploy/onnx_graph/session.py"},
    "safetensors": {"models/checkpoints/weights_file.py"},
    "trackers": {"engine/prediction/tracks.py"},
}
SAYS_NOTHING = {"utils", "util", "misc", "common", "helpers", "general", "values"}

FILES = {str(p.relative_to(ROOT)): p for room in sorted(MAY_IMPORT) for p in sorted((ROOT / room).rglob("*.py"))}
FILES |= {f"{script}.py": ROOT / f"{script}.py" for script in sorted(SCRIPTS)}
MODULES = {name.removesuffix(".py").removesuffix("/__init__").replace("/", "."): name for name in FILES}


@cache
def tree(file: str) -> ast.Module:
    return ast.parse(FILES[file].read_text())


@cache
def imported(file: str, besides: str = "__main__") -> frozenset[str]:
    """The dotted names that a file imports, relative ones resolved; `from a.b import c` gives a.b.c.

    Top-level `if` blocks whose test matches `besides` do not count: a `__main__` block is a script of its own.
    """
    body = [n for n in tree(file).body if not (isinstance(n, ast.If) and re.search(besides, ast.unparse(n.test)))]
    names = set()
    for node in (inner for n in body for inner in ast.walk(n)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = file.split("/")[: -node.level] if node.level else []
            base = ".".join([*package, *([node.module] if node.module else [])])
            names |= {f"{base}.{alias.name}" for alias in node.names}
    return frozenset(names)


def module_of(name: str) -> str:
    """models.heads.anchor.AnchorHead -> models.heads.anchor; a foreign name stays."""
    while name not in MODULES and "." in name:
        name = name.rpartition(".")[0]
    return name


def test_imports_run_down_the_table_of_rooms():
    rooms = {p.parent.name for p in ROOT.glob("*/__init__.py")} - {"tests"}
    assert rooms == set(MAY_IMPORT), "the table of CONTRIBUTING.md names every room, and no other"
    imports = {m: imported(file, besides="__main__|TYPE_CHECKING") for m, file in MODULES.items()}
    for graph in (MAY_IMPORT, {m: {module_of(n) for n in names} - {m} for m, names in imports.items()}):
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as circle:
            raise AssertionError(f"these import each other: {' <- '.join(circle.args[1])}") from None
    wrong = []
    for file in FILES:
        room = file.split("/")[0] if "/" in file else None
        asked = {name.split(".")[0] for name in imported(file)} & (set(MAY_IMPORT) | SCRIPTS)
        allowed = MAY_IMPORT[room] | {room} if room else set(MAY_IMPORT)
        wrong += [
            f"{file} imports {name}; {room or 'a script'} may import {sorted(allowed)}" for name in asked - allowed
        ]
        absolute = [n for n in ast.walk(tree(file)) if isinstance(n, ast.ImportFrom) and not n.level]
        wrong += [f"{file} imports its own room by name" for n in absolute if n.module.split(".")[0] == room]
    assert not wrong, "\n".join(wrong)


def test_a_foreign_library_is_imported_by_one_file():
    wrong = [
        f"{file} imports {library}, which only {sorted(allowed) or 'no file'} may"
        for library, allowed in WALLS.items()
        for file in FILES
        if library in {name.split(".")[0] for name in imported(file)} and file not in allowed
    ]
    wrong += [f"{file} is gone" for allowed in WALLS.values() for file in allowed if file not in FILES]
    assert not wrong, "\n".join(wrong)


def test_every_file_says_its_idea_and_holds_one():
    wrong = [f"{file}: no docstring that says what it is for" for file in FILES if not ast.get_docstring(tree(file))]
    wrong += [f"{file}: a name that says nothing" for file in FILES if FILES[file].stem in SAYS_NOTHING]
    lines = {file: len(path.read_text().splitlines()) for file, path in FILES.items()}
    wrong += [f"{file}: {n} lines, at most 350" for file, n in lines.items() if n > 350]
    folders = {path.parent for file, path in FILES.items() if "/" in file}
    missing = sorted(str(f.relative_to(ROOT)) for f in folders if not (f / "__init__.py").exists())
    wrong += [f"{folder}/__init__.py is missing: its docstring says what lives there" for folder in missing]
    assert not wrong, "\n".join(wrong)


def test_names_of_test_files_are_unique():
    """pytest imports them by their names alone."""
    names = [path.name for path in (ROOT / "tests").rglob("*.py") if path.name != "conftest.py"]
    assert not sorted({name for name in names if names.count(name) > 1})
