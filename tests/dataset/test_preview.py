"""What a preview holds: every token once, its flags, and characters put together again."""

from __future__ import annotations

import json

import pytest
import template_zoo

from dataset.zoo import byte_level, record_of, view_with
from edgeft.artifacts import Message
from edgeft.dataset.findings import Place
from edgeft.dataset.fitting import Limit
from edgeft.dataset.mask import tokenize_record
from edgeft.dataset.preview import RecordPreview, Selection, preview_records
from edgeft.dataset.records import Record
from edgeft.dataset.tokenizer import TokenizerView
from edgeft.errors import EdgeftError

ASK: Message = {"role": "user", "content": "light"}
ROCKET: list[Message] = [ASK, {"role": "assistant", "content": "a\u00e9 \U0001f680\u65e5<|im_end|>"}]


@pytest.fixture(scope="module")
def view() -> TokenizerView:
    """Qwen 3's shape on a byte-level tokenizer."""
    return view_with(byte_level(), template_zoo.SHAPES["qwen 3"].plain, "<|im_end|>")


def only(messages: list[Message], view: TokenizerView, most: int = 1000) -> RecordPreview:
    """Returns the preview of one record as a whole."""
    return preview_records([record_of(messages)], view, Limit(most, "error"), Selection())[0]


def numbered(count: int) -> list[Record]:
    """Returns records on every second line."""
    return [Record((ASK, {"role": "assistant", "content": f"{n}"}), Place("made", 2 * n)) for n in range(1, count + 1)]


def test_every_token_is_there_with_its_flags(view: TokenizerView) -> None:
    preview, example = only(ROCKET, view), tokenize_record(record_of(ROCKET), view)
    cells = preview.cells
    assert [token for cell in cells for token in cell.ids] == example.ids
    assert [cell.trained for cell in cells for _ in cell.ids] == example.trained
    assert "".join(cell.text for cell in cells) == view.render(ROCKET, False, ())
    assert (preview.n_tokens, preview.n_trained) == (len(example.ids), sum(example.trained))
    assert {cell.text for cell in cells if cell.special} == {"<|im_start|>", "<|im_end|>"}


def test_bytes_of_a_character_are_put_together(view: TokenizerView) -> None:
    by_text = {cell.text: cell for cell in only(ROCKET, view).cells}
    assert len(by_text["\U0001f680"].ids) == 4
    assert len(by_text["\u65e5"].ids) == 3
    assert len(by_text["a"].ids) == 1


def test_bytes_that_make_no_character_are_escapes(view: TokenizerView) -> None:
    half = [ASK, {"role": "assistant", "content": "\U0001f680"}]
    place = tokenize_record(record_of(half), view).trained.index(True) + len(view.encode("<think>\n\n</think>\n\n"))
    cells = only(half, view, most=place + 2).cells
    split = [cell for cell in cells if "\\x" in cell.text]
    assert [(cell.text, cell.cut) for cell in split] == [("\\xf0\\x9f", False), ("\\x9a", True), ("\\x80", True)]


def test_what_is_over_the_limit_is_cut(view: TokenizerView) -> None:
    preview = only(ROCKET, view, most=9)
    assert [cell.cut for cell in preview.cells for _ in cell.ids] == [place >= 9 for place in range(preview.n_tokens)]


def test_selections(view: TokenizerView) -> None:
    records = numbered(50)

    def lines(selection: Selection) -> list[int]:
        return [preview.place.line for preview in preview_records(records, view, Limit(100, "error"), selection)]

    assert lines(Selection()) == [2, 4, 6]
    assert lines(Selection(count=99)) == [2 * n for n in range(1, 51)]
    assert lines(Selection(count=4, seed=1)) == lines(Selection(count=4, seed=1)) == sorted(lines(Selection(4, 1)))
    assert lines(Selection(count=4, seed=1)) != lines(Selection(count=4, seed=2))
    assert lines(Selection(lines=(8, 2))) == [8, 2]
    with pytest.raises(EdgeftError, match="no record on line 3, 777"):
        lines(Selection(lines=(2, 3, 777)))
    assert preview_records([], view, Limit(100, "error"), Selection(seed=1)) == []


def test_a_record_that_cannot_be_trained_has_its_problems(view: TokenizerView) -> None:
    preview = only([ASK], view)
    assert preview.cells == ()
    assert [problem.where for problem in preview.problems] == ["train.jsonl:7"]


def test_turns_that_are_examples_of_their_own_are_noted_and_shown(view: TokenizerView) -> None:
    record = record_of([*ROCKET, *ROCKET])
    whole, cut = preview_records([record], view, Limit(1000, "error"), Selection(count=1))
    assert [(note.code, note.field) for note in whole.notes] == [("turn-apart", "messages[1]")]
    assert [(p.example, p.examples, p.turns) for p in (whole, cut)] == [(1, 2, (3,)), (2, 2, (1,))]
    assert cut.cells == only(ROCKET, view).cells
    assert cut.notes == ()


def test_what_is_shortened_is_shown_as_it_is_trained(view: TokenizerView) -> None:
    record = record_of([*ROCKET, *ROCKET])
    most = len(tokenize_record(record_of(ROCKET), view).ids)
    parts = preview_records([record], view, Limit(most, "truncate"), Selection())
    assert [(part.removed, part.cells) for part in parts] == [
        (2, only(ROCKET, view).cells),
        (0, only(ROCKET, view).cells),
    ]
    (whole, *_) = preview_records([record], view, Limit(most - 1, "truncate"), Selection())
    assert whole.removed == 0
    assert "its last exchange alone is longer than" in whole.problems[0].what
    assert any(cell.cut for cell in whole.cells)


def test_json(view: TokenizerView) -> None:
    preview = only([*ROCKET, *ROCKET], view, most=20)
    content = json.loads(json.dumps(preview.to_json()))
    assert list(content) == [
        *("file", "line", "example", "examples", "turns", "messages_removed", "tokens", "tokens_trained", "max_tokens"),
        *("notes", "problems", "cells"),
    ]
    assert (content["file"], content["line"], content["max_tokens"]) == ("train.jsonl", 7, 20)
    assert content["cells"][0] == {"ids": [1], "text": "<|im_start|>", "trained": False, "special": True, "cut": False}
    assert sum(len(cell["ids"]) for cell in content["cells"]) == content["tokens"] == preview.n_tokens
    assert json.loads(json.dumps(only([ASK], view).to_json()))["problems"][0]["where"] == "train.jsonl:7"
