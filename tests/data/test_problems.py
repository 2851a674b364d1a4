"""Problems: fatal ones raise at once, others are counted; `strict` makes all fatal, `collect` only records."""

import pytest

from data.problems import Problem, Problems

DROPPED = Problem("zero-area box", "a.xml", "object 3", "4, 4, 4, 4", "The box is dropped")
FATAL = Problem("unknown class", "b.xml", "object 1", "'dgo'", "Name it in class_names", fatal=True)


def test_a_fatal_problem_names_file_record_value_and_remedy():
    with pytest.raises(ValueError, match="b.xml: object 1: unknown class: 'dgo'. Name it in class_names"):
        Problems().add(FATAL)


def test_others_are_counted_and_the_first_of_a_kind_named():
    problems = Problems()
    for _ in range(5):
        problems.add(DROPPED)
    lines = problems.summary(first=2).splitlines()
    assert lines[0] == "5 x zero-area box" and len(lines) == 3 and "a.xml: object 3" in lines[1]
    assert problems.counts() == {"zero-area box": 5}


def test_strict_makes_every_problem_an_error_and_says_how_to_undo_it():
    with pytest.raises(ValueError, match="a.xml: object 3: .*unset data.strict"):
        Problems(strict=True).add(DROPPED)


def test_collecting_raises_nothing():
    problems = Problems(collect=True, strict=True)
    problems.add(FATAL)
    problems.add(DROPPED)
    assert problems.items == [FATAL, DROPPED]
