"""Which tokens of a conversation are trained: derived from the chat template by rendering, never by searching text.

A turn starts where the rendering of everything before it, with the generation prompt, ends: exactly what the model is
given at run time. It ends with the first token at which generation would stop.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from edgeft.artifacts import Message
from edgeft.dataset.differences import first_difference, tail
from edgeft.dataset.findings import Finding, FindingsError, Severity
from edgeft.dataset.records import Record
from edgeft.dataset.shown import require_tools_shown
from edgeft.dataset.tokenizer import TokenizerView
from edgeft.errors import EdgeftError

_AGREE = (
    "the chat template must show a turn in a conversation as the model is to say it: use the chat_template.jinja of "
    "another model of this family, leave out of the record what the template leaves out, or do not train this turn: "
    '"weight": 0'
)


@dataclass(frozen=True)
class Example:
    """Token ids of one conversation, and for each whether it carries loss.

    `turns` are the indices of the messages that are trained, ascending; `apart` tells of those that the template shows
    otherwise here, each of which needs an example of its own.
    """

    ids: list[int]
    trained: list[bool]
    turns: tuple[int, ...] = ()
    apart: tuple[Finding, ...] = ()


def tokenize_turns(record: Record, tokenizer: TokenizerView, turns: Collection[int] | None = None) -> list[Example]:
    """Returns the examples in which every turn of `turns` is trained once; unset: as in `tokenize_record`.

    The first is the whole record. An earlier turn that the template shows otherwise later on, without its reasoning for
    example, is trained in the conversation that ends with it, as it is said; so are turns before it that hold there.
    These examples follow in the order of their turns. Raises FindingsError as `tokenize_record`.
    """
    wanted = _asked_for(record) if turns is None else turns
    whole = tokenize_record(record, tokenizer, wanted)
    cuts: list[Example] = []
    left = {*wanted} - {*whole.turns}
    while left:
        cut = replace(record, messages=record.messages[: max(left) + 1])
        cuts.append(tokenize_record(cut, tokenizer, left))
        left -= {*cuts[-1].turns}
    return [whole, *reversed(cuts)]


def tokenize_record(record: Record, tokenizer: TokenizerView, turns: Collection[int] | None = None) -> Example:
    """Returns the ids of a record, with the assistant's turns and their end tokens trained.

    `turns` are the indices of the messages to train, all but those of weight 0 where it is unset. Only what the
    conversation shows as the model says it is trained; the others are told in `Example.apart`. Where a token would
    reach across the start of a turn to train, the text is cut there, as the prompt is at run time. Raises FindingsError
    with the place where the last turn cannot be trained, and where a turn has no end token or shows nothing.
    """
    wanted = _asked_for(record) if turns is None else turns
    if not wanted:
        message = "no turn of the assistant: there is nothing to train"
        raise FindingsError([Finding("error", "nothing-to-train", record.place, message, "add an answer")])
    text = rendered(record, tokenizer, record.messages, prompt=False)
    try:
        return _tokenized(record, tokenizer, text, wanted)
    except EdgeftError:
        again = rendered(record, tokenizer, record.messages, prompt=False)
        if again == text:
            raise
        return _tokenized(record, tokenizer, again, wanted)  # a template that shows the date: it has just changed


def tokenize_last_turn(record: Record, tokenizer: TokenizerView) -> tuple[str, list[int], list[int]]:
    """Returns the last turn's prompt as text and as ids, and the ids of the turn to its end token; raises as above."""
    messages = record.messages
    text = rendered(record, tokenizer, messages, prompt=False)
    walk = _Walk(record, tokenizer, text)
    first = len(messages) - 1
    try:
        turn = walk.turn(first, first + 1)
    except _OtherwiseError as error:
        raise FindingsError([error.finding("error")]) from None
    prompt = rendered(record, tokenizer, messages[:first], prompt=True)
    return prompt, walk.ids[: turn.start], walk.ids[turn]


def _tokenized(record: Record, tokenizer: TokenizerView, text: str, wanted: Collection[int]) -> Example:
    require_tools_shown(record, tokenizer, text)
    walk = _Walk(record, tokenizer, text)
    spans: list[slice] = []
    turns: list[int] = []
    apart: list[Finding] = []
    last = len(record.messages) - 1
    for run in _assistant_runs(record.messages):
        if not any(index in wanted for index in run):
            continue
        for indices, turn in _turns_of(walk, run):
            asked_for = [index for index in indices if index in wanted]
            if not asked_for:
                continue
            if isinstance(turn, slice):
                spans.append(turn)
                turns += asked_for
            elif turn.index == last:
                raise FindingsError([turn.finding("error")])
            else:
                apart.append(turn.finding("info"))
    trained = [False] * len(walk.ids)
    for span in spans:
        trained[span] = [True] * (span.stop - span.start)
    return Example(walk.ids, trained, tuple(turns), tuple(apart))


def _asked_for(record: Record) -> frozenset[int]:
    """Returns the indices of the messages that are to be trained."""
    messages = enumerate(record.messages)
    return frozenset(
        index for index, message in messages if message["role"] == "assistant" and message.get("weight", 1) != 0
    )


def _assistant_runs(messages: Sequence[Message]) -> Iterator[range]:
    """Yields the indices of consecutive messages of the assistant."""
    start = None
    for index, message in enumerate([*messages, {"role": ""}]):
        if message["role"] == "assistant":
            start = index if start is None else start
        elif start is not None:
            yield range(start, index)
            start = None


def _turns_of(walk: _Walk, run: range) -> list[tuple[range, slice | _OtherwiseError]]:
    """Returns the messages of each turn with its tokens, or why it has none.

    A turn is one message, and all of the run where the template merges them into one.
    """
    before = walk.state
    turns: list[tuple[range, slice | _OtherwiseError]] = []
    for index in run:
        try:
            turns.append((range(index, index + 1), walk.turn(index, index + 1)))
        except _OtherwiseError as error:
            turns.append((range(index, index + 1), error))
    if len(run) > 1 and any(isinstance(turn, _OtherwiseError) for _, turn in turns):
        apart, walk.state = walk.state, before
        try:
            merged = walk.turn(run.start, run.stop)
            # Turns that are shown apart have ends, and headers between them that the model does not say.
            if not any(token in walk.tokenizer.end_ids for token in walk.ids[merged][:-1]):
                return [(run, merged)]
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
        """Returns this as an error, or as an info that the turn is trained in an example of its own."""
        field, place = f"messages[{self.index}]", self.record.place
        if severity == "error":
            return Finding("error", "turn-shown-otherwise", place, self.message, _AGREE, field)
        message = f"this turn becomes an example of its own, cut after it: {self.message}"
        remedy = 'nothing, if that is meant; "weight": 0 keeps the turn from being trained'
        return Finding("info", "turn-apart", place, message, remedy, field)


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
            return rendered(self.record, self.tokenizer, self.record.messages[:stop], prompt=prompt)
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

    def _refusal(self, index: int, code: str, message: str, remedy: str) -> FindingsError:
        return FindingsError([Finding("error", code, self.record.place, message, remedy, f"messages[{index}]")])


def rendered(record: Record, tokenizer: TokenizerView, messages: Sequence[Message], *, prompt: bool) -> str:
    """Renders messages of a record with its tools; raises FindingsError where the template refuses them."""
    try:
        return tokenizer.render(messages, prompt, record.tools)
    except EdgeftError as error:
        message, remedy = error.problems[0].what, "change the record to what this template takes, or use another one"
        raise FindingsError([Finding("error", "template-refuses", record.place, message, remedy)]) from error
