"""A preview on paper: readable without colours, no wider than a terminal, nothing of the text lost."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text
from tiny_model import make_tokenizer

from edgeft import hf
from edgeft.artifacts import Message
from edgeft.dataset.findings import Place
from edgeft.dataset.fitting import Limit
from edgeft.dataset.preview import RecordPreview, Selection, preview_records
from edgeft.dataset.records import Record
from edgeft.token_view import print_previews, visible

MESSAGES: list[Message] = [
    {"role": "system", "content": "[bold]Be  brief.\u200b"},
    {"role": "user", "content": "the light\tin\r\nthe garden \U0001f680"},
    {"role": "assistant", "content": "on\nand off"},
]
PLAIN = """\
train.jsonl:7  8 of 58 tokens trained
  ⟨<|im_start|>⟩system⏎
  [bold]Be··brief.\\u200b⟨<|im_end|>⟩⏎
  ⟨<|im_start|>⟩user⏎
  the·light→in␍⏎
  the·garden·\U0001f680⟨<|im_end|>⟩⏎
  ⟨<|im_start|>⟩assistant⏎
  ⟦on⏎
  and·off⟨<|im_end|>⟩⟧⏎

⟦trained⟧  ⟨special⟩  ⏎ newline  · space  → tab
"""


def previews(messages: list[Message], most: int = 1000) -> list[RecordPreview]:
    """Returns the preview of one record."""
    record = Record(tuple(messages), Place("train.jsonl", 7))
    return preview_records(
        [record], hf.tokenizer_view(make_tokenizer(), Path("nowhere")), Limit(most, "error"), Selection()
    )


def printed(shown: list[RecordPreview], *, ids: bool = False, whole: bool = False, terminal: bool = False) -> str:
    """Returns what is printed on 80 columns or in a pipe."""
    console = Console(
        file=io.StringIO(),
        width=80 if terminal else 1000,
        force_terminal=terminal,
        color_system="truecolor" if terminal else None,
        highlight=False,
    )
    print_previews(console, shown, ids=ids, whole=whole)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_in_a_pipe() -> None:
    lines = printed(previews(MESSAGES)).splitlines()
    assert lines[1:] == PLAIN.splitlines()[1:]
    assert lines[0].startswith("train.jsonl:7  ")


def test_ids() -> None:
    text = printed(previews(MESSAGES), ids=True)
    assert "⟨<|im_start|>⟩₍₁₎" in text
    assert "₊" in next(line for line in text.splitlines() if "\U0001f680" in line)


@pytest.mark.parametrize("ids", [True, False])
def test_on_a_terminal(ids: bool) -> None:
    answer: Message = {"role": "assistant", "content": "turn on the light " * 20 + "\u65e5\u672c" * 30}
    text = printed(previews([*MESSAGES, MESSAGES[1], answer]), ids=ids, whole=True, terminal=True)
    lines = [Text.from_ansi(line) for line in text.splitlines()]
    assert max(cell_len(line.plain) for line in lines) <= 80
    assert "⟦" not in text
    trained = "".join(
        line.plain[span.start : span.end]
        for line in lines[:-1]
        for span in line.spans
        if getattr(span.style, "bgcolor", None)
    )
    assert trained.replace("·", " ") == f"on⏎and off<|im_end|>{answer['content']}<|im_end|>"


def test_a_long_record_is_shortened_in_the_middle() -> None:
    shown = previews([MESSAGES[1], {"role": "assistant", "content": "light " * 300}])
    text = printed(shown)
    (gap,) = [line for line in text.splitlines() if "⋯" in line]
    hidden = int(gap.split()[1].replace(",", ""))
    assert hidden == shown[0].n_tokens - sum(len(cell.ids) for cell in (*shown[0].cells[:120], *shown[0].cells[-120:]))
    assert text.count("⟦") == text.count("⟧") == 3
    whole = printed(shown, whole=True)
    assert "⋯" not in whole
    assert whole.count("light") == 301


def test_the_limit_is_marked() -> None:
    text = printed(previews(MESSAGES, most=20))
    assert "over dataset.max_tokens" in text.splitlines()[0]
    assert "  ✂ 20 tokens: the rest is over dataset.max_tokens" in text.splitlines()


def test_problems_and_notes_are_told() -> None:
    text = printed(previews(MESSAGES[:1]))
    assert "  error no turn of the assistant" in text
    assert "-> add an answer" in text


def test_signs() -> None:
    assert visible(" \n\t\r\u200b\x00e\u0301\u3000") == "·⏎→␍\\u200b\\x00e\u0301\\u3000"
