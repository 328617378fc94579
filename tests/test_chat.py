"""A conversation with a scripted terminal and a real, if random, model."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from edgeft.answer_form import AnswerForm
from edgeft.artifacts import GgufFile, Message
from edgeft.chat import HELP, chat, stream_text
from edgeft.llamacpp import Engine

MAX_NEW = 8


class Script:
    """A terminal whose lines are given beforehand; `spoken` gathers what is said between them."""

    def __init__(self, *lines: str) -> None:
        self._lines = iter(lines)
        self.spoken: list[str] = [""]

    def ask(self) -> str:
        """Returns the next line."""
        line = next(self._lines, None)
        if line is None:
            raise EOFError
        self.spoken.append("")
        return line

    def say(self, text: str) -> None:
        """Keeps a piece of text."""
        self.spoken[-1] += text


class Recorder:
    """Stands before an engine and keeps every conversation that is rendered for a prompt."""

    def __init__(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.histories: list[list[Message]] = []
        render = engine.render

        def recorded(messages: list[Message]) -> str:
            self.histories.append([dict(message) for message in messages])
            return render(messages)

        monkeypatch.setattr(engine, "render", recorded)


@pytest.fixture(scope="module")
def engine(tiny_f32: GgufFile) -> Iterator[Engine]:
    """The tiny model with room for a short conversation."""
    with Engine(tiny_f32, 128, threads=2) as opened:
        yield opened


def answer_to(engine: Engine, history: list[Message]) -> str:
    """Returns what the engine says to a conversation, by its own."""
    ids = engine.encode_prompt(engine.render(history))
    return engine.decode(list(engine.generate(ids, MAX_NEW)))


def test_answers_are_the_engines_and_the_history_grows(engine: Engine) -> None:
    script = Script("turn on the light", "in the garden")
    chat(engine, script, MAX_NEW, "Be brief.")
    history: list[Message] = [{"role": "system", "content": "Be brief."}]
    for line, spoken in zip(("turn on the light", "in the garden"), script.spoken[1:], strict=True):
        history.append({"role": "user", "content": line})
        answer = answer_to(engine, history)
        assert spoken == answer + "\n"
        history.append({"role": "assistant", "content": answer})
    assert script.spoken[1] != script.spoken[2]


def test_what_is_rendered(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(engine, monkeypatch)
    script = Script("  one  ", "", "   ", "two", "/reset", "three")
    chat(engine, script, MAX_NEW, "Be brief.")
    system = {"role": "system", "content": "Be brief."}
    one, two, three = ({"role": "user", "content": text} for text in ("one", "two", "three"))
    first = {"role": "assistant", "content": script.spoken[1].removesuffix("\n")}
    assert recorder.histories == [[system, one], [system, one, first, two], [system, three]]
    assert script.spoken[5] == "(forgotten)\n"


def test_without_a_system_message(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(engine, monkeypatch)
    chat(engine, Script("one"), MAX_NEW)
    assert recorder.histories == [[{"role": "user", "content": "one"}]]


def test_quit_leaves_at_once(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(engine, monkeypatch)
    script = Script(" /quit ", "one")
    chat(engine, script, MAX_NEW)
    assert (recorder.histories, script.spoken) == ([], ["", ""])
    assert script.ask() == "one"


def test_the_end_of_input_leaves(engine: Engine) -> None:
    script = Script()
    chat(engine, script, MAX_NEW)
    assert script.spoken == [""]


def test_an_unknown_command_gets_help_and_is_not_said_to_the_model(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(engine, monkeypatch)
    script = Script("/rest")
    chat(engine, script, MAX_NEW)
    assert (recorder.histories, script.spoken) == ([], ["", f"({HELP})\n"])


def test_a_full_context_forgets_the_oldest_exchange(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(engine, monkeypatch)
    lines = [f"turn on the light in the kitchen {number}" for number in range(8)]
    script = Script(*lines)
    chat(engine, script, MAX_NEW, "Be brief.")
    forgotten = [spoken for spoken in script.spoken if "is full: the oldest 2 messages are forgotten" in spoken]
    assert forgotten
    assert all("longer than the context" not in spoken for spoken in script.spoken)
    for history in recorder.histories:
        roles = [message["role"] for message in history]
        assert roles == ["system", *["user", "assistant"] * (len(roles) // 2 - 1), "user"]
    last = [message["content"] for message in recorder.histories[-1] if message["role"] == "user"]
    assert 1 < len(last) < len(lines)
    assert last == lines[-len(last) :]
    assert len(engine.encode_prompt(engine.render(recorder.histories[-1]))) + MAX_NEW <= engine.n_ctx


def test_a_message_that_never_fits_leaves_the_conversation_as_it_was(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = Script("one", "word " * 500, "two")
    recorder = Recorder(engine, monkeypatch)
    chat(engine, script, MAX_NEW)
    assert script.spoken[2] == "(this is longer than the context of 128 tokens)\n"
    assert [message["content"] for message in recorder.histories[-1] if message["role"] == "user"] == ["one", "two"]


def test_characters_are_streamed_whole() -> None:
    """🙂 comes in four tokens, and what is never finished is marked as such."""
    pieces = [b"a", *(bytes([byte]) for byte in "🙂é".encode()), b"z", b"\xf0\x9f"]

    class Pieces:
        def generate(self, ids: list[int], max_new: int) -> Iterator[int]:
            yield from ids[:max_new]

        def piece(self, token: int) -> bytes:
            return pieces[token]

    texts = list(stream_text(Pieces(), list(range(len(pieces))), 99))  # type: ignore[arg-type]
    assert texts == ["a", "🙂", "é", "z", "\ufffd"]


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (["<think>", "\n\n", "</think>", "\n\n", "It is", " warm."], "It is warm."),
        (["<think>", "\n", "Hm", "\n", "</think>", "\n\n", "Warm."], "<think>\nHm\n</think>\n\nWarm."),
        (["It is", " warm."], "It is warm."),
        (["<think>", "\n\n", "</think>"], ""),
        (["<think>", "\n\n"], "<think>\n\n"),
    ],
)
def test_what_the_template_writes_before_each_answer_is_not_printed(said: list[str], shown: str) -> None:
    """An empty thought is the template's; what is thought is the model's."""

    class Pieces:
        def generate(self, ids: list[int], max_new: int) -> Iterator[int]:
            yield from range(len(said))

        def piece(self, token: int, *, special: bool = False) -> bytes:
            return said[token].encode()

        def decode(self, ids: list[int], *, special: bool = False) -> str:
            return "".join(said[token] for token in ids)

    form = AnswerForm(opening="<think>\n\n</think>\n\n")
    assert "".join(stream_text(Pieces(), [], 99, form)) == shown  # type: ignore[arg-type]
