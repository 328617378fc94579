"""What a user reads when something is wrong."""

from __future__ import annotations

import pytest

from edgeft.errors import EdgeftError, GateError, Problem, nearest


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (Problem("it broke"), "it broke"),
        (Problem("it broke", "a.jsonl:3"), "a.jsonl:3: it broke"),
        (Problem("it broke", remedy="mend it"), "it broke\n    -> mend it"),
        (Problem("it broke", "a.jsonl:3", "mend it"), "a.jsonl:3: it broke\n    -> mend it"),
    ],
)
def test_a_problem_says_where_what_and_the_remedy(problem: Problem, text: str) -> None:
    assert str(problem) == text


def test_an_error_holds_one_problem_or_many() -> None:
    one = EdgeftError("it broke", where="x", remedy="mend it")
    assert one.problems == [Problem("it broke", "x", "mend it")]
    many = EdgeftError(Problem(what) for what in ("first", "second"))
    assert [problem.what for problem in many.problems] == ["first", "second"]
    assert str(many) == "first\nsecond"


def test_exit_codes() -> None:
    assert EdgeftError("x").exit_code == 1
    assert GateError("x").exit_code == 3
    assert isinstance(GateError("x"), EdgeftError)


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("rnak", "did you mean rank?"),
        ("ALPHA", "did you mean alpha?"),
        ("zzzz", "choose one of: alpha, rank"),
        ("", "choose one of: alpha, rank"),
    ],
)
def test_the_nearest_choice(name: str, remedy: str) -> None:
    assert nearest(name, ["rank", "alpha"]) == remedy
