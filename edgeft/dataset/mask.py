"""Which tokens of a conversation are trained: derived from the chat template by rendering, never by searching text.

A turn starts where the rendering of everything before it, with the generation prompt, ends: exactly what the model is
given at run time. It ends with the first token at which generation would stop.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgeft.artifacts import Message
from edgeft.dataset.differences import first_difference, tail
from edgeft.dataset.findings import Finding, Severity
from edgeft.dataset.records import Record
from edgeft.dataset.shown import require_tools_shown
from edgeft.dataset.tokenizer import TokenizerView
from edgeft.errors import EdgeftError, Problem

_AGREE = (
    "the chat template must show a turn in a conversation as the model is to say it: use the chat_template.jinja of "
    "another model of this family, or leave out of the record what the template leaves out"
)


@dataclass(frozen=True)
class Example:
    """Token ids of one conversation, and for each whether it carries loss; `notes` tell what is not trained."""

    ids: list[int]
    trained: list[bool]
    notes: tuple[Finding, ...] = ()


def tokenize_record(record: Record, tokenizer: TokenizerView) -> Example:
    """Returns the ids of a record, with the assistant's turns and their end tokens trained, but those of weight 0.

    Only what the conversation shows as the model says it is trained: an earlier turn that the template shows otherwise
    later on, without its reasoning for example, is left out, and a note says so. Where a token would reach across the
    start of a turn, the text is cut there, as the prompt is at run time. Raises EdgeftError with the place where the
    last turn cannot be trained, and where a turn has no end token or shows nothing.
    """
    text = _rendered(record, tokenizer, record.messages, prompt=False)
    try:
        return _tokenized(record, tokenizer, text)
    except EdgeftError:
        again = _rendered(record, tokenizer, record.messages, prompt=False)
        if again == text:
            raise
        return _tokenized(record, tokenizer, again)  # a template that shows the date: it has just changed


def tokenize_last_turn(record: Record, tokenizer: TokenizerView) -> tuple[str, list[int], list[int]]:
    """Returns the last turn's prompt as text and as ids, and the ids of the turn to its end token; raises as above."""
    messages = record.messages
    text = _rendered(record, tokenizer, messages, prompt=False)
    walk = _Walk(record, tokenizer, text)
    first = len(messages) - 1
    try:
        turn = walk.turn(first, first + 1)
    except _OtherwiseError as error:
        raise EdgeftError([error.finding("error").problem()]) from None
    prompt = _rendered(record, tokenizer, messages[:first], prompt=True)
    return prompt, walk.ids[: turn.start], walk.ids[turn]


def _tokenized(record: Record, tokenizer: TokenizerView, text: str) -> Example:
    require_tools_shown(record, tokenizer, text)
    walk = _Walk(record, tokenizer, text)
    spans: list[slice] = []
    notes: list[Finding] = []
    runs = list(_assistant_runs(record.messages))
    if not runs:
        raise EdgeftError("no turn of the assistant: there is nothing to train", record.where, "add an answer")
    for run in runs:
        turns = _turns_of(walk, run)
        weights = [record.messages[index].get("weight", 1) for index in run]
        if len(weights) != len(turns):
            weights = [max(weights)] * len(turns)
        for turn, weight in zip(turns, weights, strict=True):
            if weight == 0:
                continue
            if isinstance(turn, slice):
                spans.append(turn)
            elif turn.index == runs[-1].stop - 1:
                raise EdgeftError([turn.finding("error").problem()])
            else:
                notes.append(turn.finding("warning"))
    trained = [False] * len(walk.ids)
    for span in spans:
        trained[span] = [True] * (span.stop - span.start)
    return Example(walk.ids, trained, tuple(notes))


def _assistant_runs(messages: Sequence[Message]) -> Iterator[range]:
    """Yields the indices of consecutive messages of the assistant."""
    start = None
    for index, message in enumerate([*messages, {"role": ""}]):
        if message["role"] == "assistant":
            start = index if start is None else start
        elif start is not None:
            yield range(start, index)
            start = None


def _turns_of(walk: _Walk, run: range) -> list[slice | _OtherwiseError]:
    """Returns each turn's tokens, or why it has none; a run that the template merges into one turn is one."""
    before = walk.state
    turns: list[slice | _OtherwiseError] = []
    for index in run:
        try:
            turns.append(walk.turn(index, index + 1))
        except _OtherwiseError as error:
            turns.append(error)
    if len(run) > 1 and any(isinstance(turn, _OtherwiseError) for turn in turns):
        apart, walk.state = walk.state, before
        try:
            merged = walk.turn(run.start, run.stop)
            # Turns that are shown apart have ends, and headers between them that the model does not say.
            if not any(token in walk.tokenizer.end_ids for token in walk.ids[merged][:-1]):
                return [merged]
        except _OtherwiseError:
            pass
        walk.state = apart
    return turns


class _OtherwiseError(Exception):
    """A turn that the conversation does not show as the model is given it or says it."""

    def __init__(self, record: Record, index: int, message: str) -> None:
        super().__init__(message)
        self.record, self.index, self.message = record, index, message

    def finding(self, severity: Severity) -> Finding:
        """Returns this as an error, or as a warning that the turn is not trained."""
        field, place = f"messages[{self.index}]", self.record.place
        if severity == "error":
            return Finding("error", "turn-shown-otherwise", place, self.message, _AGREE, field)
        message = f"this turn is not trained: {self.message}"
        remedy = "end the record with this turn to train it: the last turn is shown in full"
        return Finding("warning", "turn-not-trained", place, message, remedy, field)


@dataclass(frozen=True)
class _State:
    """The ids of the whole conversation, of which `fixed` are those of the text up to `offset`."""

    ids: list[int]
    fixed: list[int]
    offset: int


class _Walk:
    """Goes through a conversation turn by turn; what is before a turn is never tokenized anew."""

    def __init__(self, record: Record, tokenizer: TokenizerView, text: str) -> None:
        self.record, self.tokenizer, self.text = record, tokenizer, text
        self.state = _State(tokenizer.encode(text), [], 0)

    @property
    def ids(self) -> list[int]:
        """The ids of the whole conversation."""
        return self.state.ids

    def turn(self, first: int, stop: int) -> slice:
        """Returns the tokens of the turn that the messages from `first` to before `stop` make, its end included."""
        prompt = self._shown(first, first, prompt=True)
        self._require_start(prompt, self.text, first, "what the model is given before this turn", "the conversation")
        prompt_ids = self._encode(prompt)
        if self.ids[: len(prompt_ids)] != prompt_ids:
            self._cut(prompt, prompt_ids, first)
        whole = stop == len(self.record.messages)
        shown = self.text if whole else self._shown(first, stop, prompt=False)
        self._require_start(prompt, shown, first, "what the model is given before this turn", "the finished turn")
        ids = self.ids if whole else self._encode(shown)
        end = self._end(ids, len(prompt_ids), shown, stop - 1)
        if self.ids[: end + 1] != ids[: end + 1]:
            what = first_difference(shown, self.text, "the turn as the model says it", "the conversation")
            raise _OtherwiseError(self.record, stop - 1, what)
        return slice(len(prompt_ids), end + 1)

    def _shown(self, index: int, stop: int, prompt: bool) -> str:
        try:
            return _rendered(self.record, self.tokenizer, self.record.messages[:stop], prompt=prompt)
        except EdgeftError as error:
            raise _OtherwiseError(self.record, index, error.problems[0].what) from error

    def _require_start(self, part: str, whole: str, index: int, part_name: str, whole_name: str) -> None:
        if not whole.startswith(part):
            raise _OtherwiseError(self.record, index, first_difference(part, whole, part_name, whole_name))

    def _encode(self, text: str) -> list[int]:
        """Returns the ids of a text that begins as the conversation does, at least to the offset."""
        if not self.state.offset:
            return self.tokenizer.encode(text)
        return self.state.fixed + self.tokenizer.encode_more(text[self.state.offset :])

    def _cut(self, prompt: str, prompt_ids: list[int], index: int) -> None:
        """Tokenizes the rest of the conversation on its own: a token would reach across the start of the turn."""
        ids = prompt_ids + self.tokenizer.encode_more(self.text[len(prompt) :])
        if b"".join(self.tokenizer.pieces(ids)) != b"".join(self.tokenizer.pieces(self.ids)):
            after = self.text[len(prompt) : len(prompt) + 20]
            what = f"a token reaches across the start of this turn, between {tail(prompt)} and {after!r}, and the text"
            raise _OtherwiseError(self.record, index, f"{what} cannot be cut there: its tokens stand for other text")
        self.state = _State(ids, prompt_ids, len(prompt))

    def _end(self, ids: Sequence[int], start: int, shown: str, index: int) -> int:
        """Returns the place of the token that ends a turn: the first of the end tokens with which it closes.

        Whitespace may be between them and after them. An end token that the answer itself spells is not the end.
        """
        end: int | None = None
        for place in range(len(ids) - 1, start - 1, -1):
            if ids[place] in self.tokenizer.end_ids:
                end = place
            elif self.tokenizer.pieces([ids[place]])[0].strip():
                break
        if end is None:
            raise self._refusal(
                index,
                "turn-without-end",
                f"the template closes this turn without an end-of-generation token: it ends with {tail(shown)}",
                "the model would never stop: list the token that closes a turn as eos_token_id in "
                "generation_config.json, or give the tokenizer an eos_token that its chat template uses",
            )
        says_something = any(self.tokenizer.pieces([token])[0].strip() for token in ids[start:end])
        message = self.record.messages[index]
        if not says_something and (message.get("tool_calls") or str(message.get("content") or "").strip()):
            what = f"the template shows nothing of this turn: the conversation up to it ends with {tail(shown)}"
            raise self._refusal(index, "turn-not-shown", what, "use a chat template that shows such turns")
        return end

    def _refusal(self, index: int, code: str, message: str, remedy: str) -> EdgeftError:
        finding = Finding("error", code, self.record.place, message, remedy, f"messages[{index}]")
        return EdgeftError([finding.problem()])


def _rendered(record: Record, tokenizer: TokenizerView, messages: Sequence[Message], *, prompt: bool) -> str:
    """Renders messages of a record with its tools; a refusal by the template gets the record's place."""
    try:
        return tokenizer.render(messages, prompt, record.tools)
    except EdgeftError as error:
        remedy = "change the record to what this template takes, or use another chat template"
        raise EdgeftError([Problem(error.problems[0].what, record.where, remedy)]) from error
