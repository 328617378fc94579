"""GGUF file -> a conversation in the terminal, streamed, with history."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator
from itertools import dropwhile
from typing import TYPE_CHECKING, Protocol

from edgeft.answer_form import AnswerForm
from edgeft.artifacts import Message

if TYPE_CHECKING:  # the command line says how threads wait before llama.cpp is loaded
    from edgeft.llamacpp import Engine

_NO_FORM = AnswerForm()
HELP = "/reset forgets the conversation, /quit (or Ctrl-D) leaves"


class Terminal(Protocol):
    """Where a conversation happens: `ask` for a line (EOFError at the end), `say` a piece of text without newline."""

    def ask(self) -> str: ...

    def say(self, text: str) -> None: ...


def chat(
    engine: Engine,
    terminal: Terminal,
    max_new: int,
    system: str | None = None,
    form: AnswerForm = _NO_FORM,
) -> None:
    """Talks until /quit or the end of input. A conversation that no longer fits the context loses its oldest turns.

    What `form` says that the chat template writes before each answer, an empty thought for example, is not printed.
    """
    start: list[Message] = [{"role": "system", "content": system}] if system else []
    history = list(start)
    for line in _lines(terminal.ask):
        if line == "/quit":
            return
        if line == "/reset":
            history = list(start)
            terminal.say("(forgotten)\n")
            continue
        if line.startswith("/"):
            terminal.say(f"({HELP})\n")
            continue
        history.append({"role": "user", "content": line})
        ids, dropped = _fit(engine, history, len(start), max_new)
        if not ids:
            terminal.say(f"(this is longer than the context of {engine.n_ctx} tokens)\n")
            history.pop()
            continue
        if dropped:
            del history[len(start) : len(start) + dropped]
            terminal.say(
                f"(the context of {engine.n_ctx} tokens is full: the oldest {dropped} messages are forgotten)\n"
            )
        answer = ""
        for text in stream_text(engine, ids, max_new, form):
            terminal.say(text)
            answer += text
        terminal.say("\n")
        history.append({"role": "assistant", "content": answer})


def stream_text(engine: Engine, ids: list[int], max_new: int, form: AnswerForm = _NO_FORM) -> Iterator[str]:
    """Yields an answer as text, whole characters at a time: a token may hold part of one."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for token in _after_opening(engine, engine.generate(ids, max_new), form):
        if text := decoder.decode(engine.piece(token)):
            yield text
    if rest := decoder.decode(b"", final=True):
        yield rest


def _after_opening(engine: Engine, tokens: Iterator[int], form: AnswerForm) -> Iterator[int]:
    """Yields the tokens of an answer without the opening that the template writes before it, where it is said."""
    held: list[int] = []
    begins: bool | None = None if form.opening.strip() else False
    while begins is None and (token := next(tokens, None)) is not None:
        held.append(token)
        begins = form.begins(engine.decode(held, special=True))
    if begins:
        yield from dropwhile(lambda token: not engine.piece(token, special=True).strip(), tokens)
        return
    yield from held
    yield from tokens


def _lines(ask: Callable[[], str]) -> Iterator[str]:
    while True:
        try:
            line = ask().strip()
        except EOFError:
            return
        if line:
            yield line


def _fit(engine: Engine, history: list[Message], start: int, max_new: int) -> tuple[list[int], int]:
    """Returns the ids without the oldest exchanges, so that prompt and answer fit, and how many messages that drops.

    No ids when the last message alone is too long.
    """
    room = engine.n_ctx - min(max_new, engine.n_ctx // 2)
    for dropped in range(0, len(history) - start, 2):
        ids = engine.encode_prompt(engine.render(history[:start] + history[start + dropped :]))
        if len(ids) <= room:
            return ids, dropped
    return [], 0
