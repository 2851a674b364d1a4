"""Arguments of a part: unknown, missing or of another type, each named with what it takes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from registry import Registry, UserError, parameters

PARTS: Registry[Any] = Registry("thing")


class Base:
    def __init__(self, split, *, size: int | Sequence[int] = 8, names: Sequence[str] | None = None, needed: float):
        if size == 0:
            raise ValueError("size = 0: give more")
        self.size, self.names = size, names


@PARTS.register("class")
class Thing(Base):
    def __init__(self, split, *, root: str | Path, rate: float = 0.5, flag: bool = False, rows: Any = 1, **above: Any):
        super().__init__(split, needed=1.0, **above)
        self.root, self.half, self.rows = root, rate / 2, [*rows] if rows != 1 else rows


@PARTS.register("function")
def thing(count, width=1.0, table: Mapping[str, float] | None = None, spec="x"):
    return count, width * 2, table, spec


def test_parameters_of_functions_and_of_classes_with_those_above():
    assert list(parameters(thing, 1)) == ["width", "table", "spec"]
    assert list(parameters(Thing, 1)) == ["root", "rate", "flag", "rows", "size", "names", "needed"]
    assert [name for name, (_, required) in parameters(Thing, 1).items() if required] == ["root"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rot": "x"}, "thing 'class' has no argument 'rot', did you mean 'root'? It takes root, rate"),
        ({}, "thing 'class' needs the argument 'root', which has no default"),
        ({"root": 3}, "thing 'class': root = 3: give text or a path"),
        ({"root": "x", "rate": "abc"}, "thing 'class': rate = 'abc': give a number"),
        ({"root": "x", "rate": None}, "thing 'class': rate = None: give a number"),
        ({"root": "x", "size": "abc"}, "thing 'class': size = 'abc': give a whole number or a list of whole numbers"),
        ({"root": "x", "size": [1, 2.5]}, "thing 'class': size = [1, 2.5]: give a whole number or a list of whole"),
        ({"root": "x", "names": 5}, "thing 'class': names = 5: give a list or null"),
        ({"root": "x", "flag": "perhaps"}, "thing 'class': flag = 'perhaps': give true or false"),
    ],
)
def test_what_a_class_cannot_take(options, message):
    with pytest.raises(UserError) as error:
        PARTS.build({"name": "class", **options}, "train")
    assert str(error.value).startswith(message)


def test_what_a_function_cannot_take():
    with pytest.raises(UserError, match="thing 'function': width = 'wide': give a number"):
        PARTS.build({"name": "function", "width": "wide"}, 1)
    with pytest.raises(UserError, match="thing 'function': table = 3: give a mapping or null"):
        PARTS.build({"name": "function", "table": 3}, 1)
    assert PARTS.build({"name": "function", "spec": {"name": "y"}}, 1)[3] == {"name": "y"}  # no annotation, any type


def test_errors_of_the_part_come_first_and_its_bugs_stay_bugs():
    with pytest.raises(ValueError, match="^size = 0: give more"):
        PARTS.build({"name": "class", "root": "x", "size": 0, "flag": "perhaps"}, "train")
    with pytest.raises(TypeError, match="iterable"):
        PARTS.build({"name": "class", "root": "x", "rows": 2}, "train")


def test_values_that_no_config_holds_are_the_callers_business():
    built = PARTS.build("class", "train", root=Path("x"), rate=np.float32(3), size=np.int64(4), flag=np.True_)
    assert built.half == 1.5 and built.size == 4
    assert PARTS.build("class", "train", root="x", size=(3, 4), rate=2, flag=1).size == (3, 4)
