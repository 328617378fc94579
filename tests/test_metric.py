"""The task metric, against values worked out by hand."""

from __future__ import annotations

import json

import pytest

from edgeft.metric import is_exact, score


@pytest.mark.parametrize(
    ("expected", "answer", "exact"),
    [
        ("yes", "yes", True),
        ("yes", " yes\n", True),
        ("yes", "Yes", False),
        ("yes", "", False),
        ('{"a": 1, "b": [1, 2]}', '{ "b":[1,2],"a":1 }', True),
        ('{"a": 1, "b": [1, 2]}', '{"a": 1, "b": [2, 1]}', False),
        ('{"a": 1}', '{"a": 1.0}', True),
        ('{"a": 1}', '{"a": "1"}', False),
        ('{"a": true}', '{"a": 1}', False),
        ('{"a": [0]}', '{"a": [false]}', False),
        ('{"a": null}', "{}", False),
        ('{"a": 1}', '{"a": 1', False),
        ('{"a": 1}', '{"a": 1} or so', False),
        ('{"a": "\\u00e4"}', '{"a": "ä"}', True),
        ("7", "7.0", True),
        ("1", "true", False),
        ("07", "7", False),
        ("a" * 3, "[" * 5000, False),
        ("[" * 5000, "[" * 5000, True),
    ],
)
def test_exact(expected: str, answer: str, exact: bool) -> None:
    assert is_exact(expected, answer) == exact


def test_plain_text_has_exact_match_alone() -> None:
    result = score(["yes", "no", "no", "yes"], ["yes", "no", "yes", "y"])
    assert (result.records, result.exact_match, result.field_f1, result.field_accuracy) == (4, 0.5, None, {})


def test_objects_by_hand() -> None:
    expected = ['{"intent": "light", "slots": {"room": "hall", "on": true}}', '{"intent": "time", "slots": {}}']
    answers = [
        '{"intent": "light", "slots": {"room": "bath", "on": true, "hue": 3}}',
        '{"intent": "date", "slots": {}}',
    ]
    result = score(expected, answers)
    # Leaves expected 3 + 2, given 4 + 2, in common 2 (intent, on) + 1 (the empty slots).
    assert result.field_f1 == pytest.approx(2 * 3 / (5 + 6))
    assert result.exact_match == 0
    assert result.field_accuracy == {"intent": 0.5}


def test_an_answer_that_is_no_object_costs_recall_only() -> None:
    result = score(['{"a": 1, "b": 2}', '{"a": 1, "b": 3}'], ['{"a": 1, "b": 2}', "nonsense"])
    assert result.field_f1 == pytest.approx(2 * 2 / (4 + 2))
    assert result.field_accuracy == {"a": 0.5, "b": 0.5}
    assert score(['{"a": 1}'], ["[1]"]).field_f1 == 0


def test_lists_are_compared_as_bags() -> None:
    result = score(['{"a": ["x", "x", "y"]}'], ['{"a": ["y", "x", "z"]}'])
    assert result.field_f1 == pytest.approx(2 * 2 / (3 + 3))
    assert result.field_accuracy == {}


def test_nested_leaves_count_at_their_own_path() -> None:
    assert score(['{"a": {"b": 1}, "c": [{"d": 1}]}'], ['{"a": {"c": 1}, "c": [{"d": 1}]}']).field_f1 == 0.5
    assert score(['{"a": {"b": 1}}'], ['{"a.b": 1}']).field_f1 == 0
    assert score(['{"a": [1]}'], ['{"a": {"[]": 1}}']).field_f1 == 0


def test_values_are_compared_as_json() -> None:
    assert score(['{"a": 1}'], ['{"a": 1.0}']).field_f1 == 1
    assert score(['{"a": 1}'], ['{"a": 1.0}']).field_accuracy == {"a": 1}
    for given in ('{"a": true}', '{"a": "1"}', '{"a": [1]}', '{"a": null}'):
        assert score(['{"a": 1}'], [given]).field_f1 == 0
        assert score(['{"a": 1}'], [given]).field_accuracy == {"a": 0}


def test_empty_objects_agree() -> None:
    result = score(["{}", "{}"], ["{}", "{}"])
    assert (result.exact_match, result.field_f1, result.field_accuracy) == (1, 1, {})


def test_one_expected_answer_that_is_no_object_leaves_out_the_fields() -> None:
    result = score(['{"a": 1}', "plain"], ['{"a": 1}', "plain"])
    assert (result.exact_match, result.field_f1, result.field_accuracy) == (1, None, {})


@pytest.mark.parametrize("depth", [900, 980, 5000])
def test_an_answer_nested_beyond_reason_is_a_wrong_answer(depth: int) -> None:
    """What a small model may say when it does not stop."""
    answer = '{"a": ' + "[" * depth + "]" * depth + "}"
    result = score(['{"a": 1}'], [answer])
    assert (result.exact_match, result.field_accuracy) == (0, {"a": 0})
    assert result.field_f1 == 0


def test_answers_have_to_be_as_many_as_questions() -> None:
    with pytest.raises(ValueError, match="shorter"):
        score(["a", "b"], ["a"])


def test_the_report_is_json() -> None:
    result = score(['{"a": 1}'], ['{"a": 1}'])
    assert json.loads(json.dumps(result.to_json())) == {
        "records": 1,
        "exact_match": 1.0,
        "field_f1": 1.0,
        "field_accuracy": {"a": 1.0},
    }
