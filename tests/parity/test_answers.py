"""Greedy answers: those that cross the end of the context, and when lost answers are a failure of the task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_model import make_model

from edgeft.artifacts import Checkpoint, GgufFile, Reference
from edgeft.config import ConvertConfig, ParityConfig, ParityThresholds
from edgeft.convert import convert
from edgeft.dataset.findings import Place
from edgeft.dataset.records import Record
from edgeft.errors import EdgeftError
from edgeft.llamacpp import Engine
from edgeft.parity.ladder import Rung
from edgeft.parity.record import record_reference
from edgeft.parity.reference import ModelFacts, OpenReference, ReferenceContent, ReferenceRecord
from edgeft.parity.rungs.answers import Answer, answers_of, check_answers, check_ending, check_task
from edgeft.progress import silent
from edgeft.weights import CheckpointWeights
from parity.exports import checked
from parity.gguf_edit import Parts

_ANYTHING = ParityThresholds(mean_kld=9.0, top1=0.0, ppl_ratio=99.0)
CONFIG = ParityConfig(records=3, max_new_tokens=128, layers=True, conversion=_ANYTHING)
_END, _RIGHT, _WRONG = 2, [5, 6, 2], [5, 7, 2]


def _conversation(words: int, number: int) -> Record:
    asked, said = "turn on the light in the garden, " * words, '{"room": "kitchen", "state": "on"}'
    return Record(({"role": "user", "content": asked}, {"role": "assistant", "content": said}), Place("test", number))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """Returns a model that rarely ends an answer by itself, with a context of 192 tokens."""
    return make_model(tmp_path_factory.mktemp("answers") / "model", max_position_embeddings=192)


@pytest.fixture(scope="module")
def gguf(model: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> GgufFile:
    config = ConvertConfig.model_validate({"dtype": "f32"})
    return convert(CheckpointWeights(model), model, config, tmp_path_factory.mktemp("answers") / "model.gguf")


def _recorded(model: Checkpoint, out: Path, words: tuple[int, ...]) -> Reference:
    records = [_conversation(count, number) for number, count in enumerate(words)]
    return record_reference(model, None, records, CONFIG, "cpu", out)


def test_answers_are_recorded_up_to_the_end_of_the_context(model: Checkpoint, gguf: GgufFile, tmp_path: Path) -> None:
    reference = _recorded(model, tmp_path / "reference.npz", (1, 9, 90))
    records = OpenReference(reference).content.records
    assert len(records) == 2  # the third's prompt fills the context
    room = 192 - len(records[1].prompt_ids)
    assert 0 < room < 128
    assert len(records[0].greedy_ids) > room >= len(records[1].greedy_ids)
    assert all(len(record.ids) <= 192 for record in records)
    report = checked(reference, gguf, CONFIG)
    assert report["verdict"] == "pass", report["failures"]
    assert report["greedy"]["same"] == 2


def test_a_model_that_has_no_room_for_any_answer_is_told(model: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(EdgeftError, match="no record's prompt leaves room for an answer"):
        _recorded(model, tmp_path / "reference.npz", (90,))


def _with_context(gguf: GgufFile, n_ctx: int, out: Path) -> GgufFile:
    parts = Parts(gguf.path)
    parts.keys["llama.context_length"].value = n_ctx
    return GgufFile(parts.write(out))


def test_a_reference_beyond_the_context_of_the_file_is_judged(
    model: Checkpoint, gguf: GgufFile, tmp_path: Path
) -> None:
    """The file's context ends before answers, and before one record's scored tokens, do."""
    reference = _recorded(model, tmp_path / "reference.npz", (1, 9))
    content = OpenReference(reference).content
    prompts = [len(record.prompt_ids) for record in content.records]
    for n_ctx, judged in ((prompts[1] + 4, 2), (prompts[1] - 4, 1)):
        shorter = _with_context(gguf, n_ctx, tmp_path / f"{n_ctx}.gguf")
        report = checked(reference, shorter, CONFIG)
        assert report["verdict"] == "pass", report["failures"]
        assert report["greedy"]["same"] == report["greedy"]["records"] == judged
        scored = sum(max(0, min(one.n_scored, n_ctx - one.first_scored)) for one in content.records)
        assert report["logits"]["positions"] == scored < sum(one.n_scored for one in content.records)
    report = checked(reference, _with_context(gguf, 8, tmp_path / "8.gguf"), CONFIG)
    assert (report["verdict"], report["rung"]) == ("undecided", "logits")
    assert "context of 8 tokens" in report["cause"]


def test_what_the_context_cut_is_not_counted_as_running_on(model: Checkpoint, gguf: GgufFile, tmp_path: Path) -> None:
    """All answers end in the reference, at their ninth token, where the file goes on and has no room to end."""
    content = OpenReference(_recorded(model, tmp_path / "reference.npz", (9,))).content
    record = content.records[0]
    greedy = [*record.greedy_ids[:8], content.end_ids[0]]
    ended = replace(record, greedy_ids=greedy, greedy_margins=record.greedy_margins[:9])
    content = replace(content, records=[ended] * 8)
    assert content.end_ids[0] not in record.greedy_ids
    found = {}
    for most in (40, 20):
        limited = replace(content, max_new_tokens=most)
        with Engine(gguf, len(record.prompt_ids) + 20, threads=1) as engine:
            answers = answers_of(engine, limited, silent)
            assert check_answers(answers, limited.records).figures["same"] == 0
            found[most] = check_ending(answers, engine, limited)
    assert (found[40].status, found[40].figures["expected_end"]) == ("pass", 0)
    assert (found[20].status, found[20].figures) == ("fail", {"expected_end": 8, "ended": 0})


def test_an_answer_is_known_to_be_right_or_wrong_wherever_it_leaves(
    model: Checkpoint, gguf: GgufFile, tmp_path: Path
) -> None:
    """More of them than are finished: the file says its own four tokens whatever the reference said."""
    content = OpenReference(_recorded(model, tmp_path / "reference.npz", (1,))).content
    record = content.records[0]
    end, prompt = content.end_ids[0], record.prompt_ids
    with Engine(gguf, 256, threads=1) as engine:
        said = record.greedy_ids[:4]
        other = [*said[:2], said[2] + 1, *said[3:]]
        cases = {
            "same": (said, said, True),
            "left a right one": (other, other, False),
            "left a wrong one for the right one": (other, said, True),
            "left what was wrong before": (other, [said[0] + 1, *said[1:]], False),
            "left for another wrong one": (other, [*said[:2], said[2] + 2, said[3]], False),
        }
        for name, (greedy, wanted, is_exact) in cases.items():
            # Whatever token ends them: here the last of each.
            ends = replace(content, end_ids=[greedy[-1]], max_new_tokens=4)
            one = replace(record, greedy_ids=greedy, greedy_margins=[1.0] * 4, ids=[*prompt, *wanted])
            found = answers_of(engine, replace(ends, records=[one] * 20), silent)
            assert [answer.exact for answer in found] == [is_exact] * 20, name
        long = replace(record, greedy_ids=[*said, end], greedy_margins=[1.0] * 5, ids=[*prompt, *said, end])
        found = answers_of(engine, replace(content, records=[long], max_new_tokens=4), silent)
        assert found[0].exact is False  # no model says an answer that is longer than it may say


def _task(theirs: Sequence[bool], ours: Sequence[bool | None], most_lost: float = 0.05) -> Rung:
    records = [
        ReferenceRecord([], "", [1], [1, *_RIGHT], 0, 3, _RIGHT if right else _WRONG, [1.0] * 3) for right in theirs
    ]
    answers = [Answer(number, None, None, None, right) for number, right in enumerate(ours)]
    facts: Any = ModelFacts({}, {}, 8, None, True)
    now = "2026-01-01T00:00:00"
    content = ReferenceContent(records, {}, [], {}, [_END], [], None, 8, now, facts, [], {})
    return check_task(answers, content, most_lost)


def test_total_loss_fails_however_few_were_right() -> None:
    found = _task([True] * 6 + [False] * 58, [False] * 64)
    assert found.status == "fail"
    assert found.failures[0].where == "6 of 6 right answers lost, 0 gained"
    assert "0.0% of 64 answers are exactly right, 9.4% in the reference" in found.failures[0].cause


def test_all_losses_are_counted() -> None:
    found = _task([True] * 60, [False] * 40 + [True] * 20)
    assert (found.status, found.figures["records"]) == ("fail", 60)
    assert found.figures["lost"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("right", "lost", "gained", "most_lost", "status"),
    [
        (1, 1, 0, 0.05, "pass"),  # one record says nothing
        (5, 5, 0, 0.0, "pass"),
        (6, 6, 0, 0.0, "fail"),
        (60, 6, 0, 0.05, "pass"),  # chance explains it: 5% of 60 are 3
        (60, 8, 0, 0.05, "fail"),
        (60, 12, 9, 0.05, "pass"),  # near-ties go both ways
        (60, 20, 1, 0.05, "fail"),
        (60, 20, 1, 0.5, "pass"),
        (2000, 300, 0, 0.05, "fail"),
        (2000, 1000, 950, 0.05, "pass"),
        (60, 60, 0, 1.0, "pass"),
    ],
)
def test_what_is_lost_beyond_chance_fails(right: int, lost: int, gained: int, most_lost: float, status: str) -> None:
    theirs = [True] * right + [False] * gained
    ours = [*([False] * lost), *([True] * (right - lost + gained))]
    found = _task(theirs, ours, most_lost)
    assert found.status == status
    assert (found.figures["lost_answers"], found.figures["gained_answers"]) == (lost, gained)


def test_what_is_not_known_is_not_counted() -> None:
    found = _task([True] * 8, [None] * 4 + [True] * 4)
    assert (found.status, found.figures["records"], found.figures["exact"]) == ("pass", 4, 1.0)
    assert _task([True] * 3, [None] * 3).status == _task([False] * 3, [False] * 3).status == "skipped"
