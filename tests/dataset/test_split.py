"""What the split guarantees, held to random records, groups and additions."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeft.dataset.findings import Place
from edgeft.dataset.records import Record
from edgeft.dataset.split import are_labels, hash_key, prompt_key, split

SHARE = 0.3
# A record is (prompt, near-duplicates): each number it is linked by joins it with all others that have it.
PROMPTS = st.integers(0, 40)
LINKS = st.frozensets(st.integers(0, 12), max_size=2)
RECORDS = st.lists(st.tuples(PROMPTS, LINKS), min_size=1, max_size=40)


def keys(numbers: Any) -> npt.NDArray[np.uint64]:
    """Returns the hashes of numbers."""
    return np.array([hash_key(str(number)) for number in numbers], dtype=np.uint64)


def components(links: list[frozenset[int]]) -> npt.NDArray[np.int64]:
    """Returns the group of each record: the connected parts of "they have a link in common"."""
    groups = list(range(len(links)))
    for i, mine in enumerate(links):
        for j in range(i):
            if mine & links[j] and groups[i] != groups[j]:
                groups = [groups[i] if group == groups[j] else group for group in groups]
    return np.array(groups, dtype=np.int64)


def by_hash(records: list[tuple[int, frozenset[int]]]) -> npt.NDArray[np.bool_]:
    """Returns the sides that hashes and groups give; a record of its own hash in evaluation keeps need away."""
    prompts = keys([HELD_PROMPT, *(prompt for prompt, _ in records)])
    groups = components([frozenset(), *(links for _, links in records)])
    sides = split(prompts, SHARE, groups=groups)
    assert sides.by_need == 0
    return sides.evaluation[1:]


HELD_PROMPT = next(number for number in range(-1, -100, -1) if hash_key(str(number)) < SHARE * 2**64)


@given(RECORDS, RECORDS, st.randoms(use_true_random=False))
def test_adding_records_never_moves_one_from_evaluation_to_training(
    before: list[tuple[int, frozenset[int]]], added: list[tuple[int, frozenset[int]]], rng: Any
) -> None:
    order = list(range(len(before) + len(added)))
    rng.shuffle(order)
    everything = [*before, *added]
    after = np.empty(len(order), dtype=np.bool_)
    after[order] = by_hash([everything[index] for index in order])
    held = by_hash(before)
    assert not (held & ~after[: len(before)]).any()
    moved = set(np.flatnonzero(~held & after[: len(before)]).tolist())
    own = keys([prompt for prompt, _ in everything]) < SHARE * 2.0**64
    groups = components([links | {1000 + prompt} for prompt, links in everything])
    for index in moved:  # only by a new record that joins its group to one that is held out
        members = np.flatnonzero(groups == groups[index])
        assert members.max() >= len(before)
        assert own[members].any()


@given(RECORDS)
def test_groups_and_equal_prompts_are_on_one_side(records: list[tuple[int, frozenset[int]]]) -> None:
    sides = by_hash(records)
    groups = components([links | {1000 + prompt} for prompt, links in records])
    for group in set(groups.tolist()):
        assert len(set(sides[groups == group].tolist())) == 1


@given(RECORDS)
def test_without_groups_each_record_has_the_side_of_its_own_prompt(records: list[tuple[int, frozenset[int]]]) -> None:
    prompts = keys([HELD_PROMPT, *(prompt for prompt, _ in records)])
    sides = split(prompts, SHARE)
    assert sides.evaluation.tolist() == (prompts < SHARE * 2.0**64).tolist()
    assert (sides.by_group, sides.by_need) == (0, 0)


@given(RECORDS, st.floats(0.01, 0.98), st.floats(0.01, 0.98))
def test_a_larger_share_only_adds(records: list[tuple[int, frozenset[int]]], one: float, other: float) -> None:
    prompts, groups = keys([prompt for prompt, _ in records]), components([links for _, links in records])
    less, more = (split(prompts, share, groups=groups) for share in sorted((one, other)))
    if less.by_need == 0:
        assert not (less.evaluation & ~more.evaluation).any()


def test_the_share_is_that_asked_for() -> None:
    for share in (0.01, 0.1, 0.5):
        held = np.count_nonzero(split(keys(range(20_000)), share).evaluation)
        # Four standard deviations of a binomial count; the hashes are fixed.
        assert abs(held - 20_000 * share) < 4 * (20_000 * share * (1 - share)) ** 0.5


def test_every_label_is_in_evaluation_and_most_of_it_in_training() -> None:
    labels = [*["many"] * 500, *["some"] * 60, *["rare"] * 4, *["two"] * 2, "once"]
    sides = split(keys(range(len(labels))), 0.02, answers=keys(labels))
    held = {label: sum(sides.evaluation[i] for i, one in enumerate(labels) if one == label) for label in set(labels)}
    assert held["rare"] == held["two"] == 1
    assert held["some"] >= 1
    assert held["once"] == 0
    assert held["many"] <= 20
    assert sides.by_need >= 2


def test_only_labels_in_need_are_touched() -> None:
    prompts, answers = keys(range(1000)), keys([number % 4 for number in range(1000)])
    assert split(prompts, 0.1, answers=answers).evaluation.tolist() == split(prompts, 0.1).evaluation.tolist()


def test_a_need_takes_whole_groups() -> None:
    prompts = keys(range(6))
    groups = np.array([0, 0, 0, 1, 1, 1])
    sides = split(prompts, 1e-9, groups=groups)
    assert sides.evaluation.tolist() in ([True] * 3 + [False] * 3, [False] * 3 + [True] * 3)
    assert sides.by_need == 3


def test_labels_are_few_answers_given_often() -> None:
    assert are_labels(keys([number % 5 for number in range(50)]))
    assert not are_labels(keys(range(50)))
    assert not are_labels(keys([1] * 50))
    assert not are_labels(keys([]))


def record(*turns: str, system: str = "") -> Record:
    """Returns a conversation of turns in alternation."""
    roles = ["user", "assistant"] * len(turns)
    head = ({"role": "system", "content": system},) if system else ()
    rest = tuple({"role": role, "content": turn} for role, turn in zip(roles, turns, strict=False))
    return Record((*head, *rest), Place("made"))


@pytest.mark.parametrize(
    "other",
    [record("turn  ON the\nlight ", "Done."), record("turn on the light", "No."), record("ｔurn on the light", "Ok")],
)
def test_case_space_form_and_answer_make_no_difference(other: Record) -> None:
    assert prompt_key(other) == prompt_key(record("turn on the light", "Done."))


@pytest.mark.parametrize(
    "other",
    [
        record("turn on the light!", "Done."),
        record("turn on the light", "Done.", "again", "Done."),
        record("turn on the light", "Done.", system="Be brief."),
        Record(({"role": "text", "content": "turn on the light"},), Place("made")),
    ],
)
def test_other_prompts_have_other_keys(other: Record) -> None:
    assert prompt_key(other) != prompt_key(record("turn on the light", "Done."))
