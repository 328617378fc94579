"""The proof that llama.cpp, on the written file, does with text what the model's own tokenizer does.

It holds on a corpus of many scripts and kinds of text, every byte, every special token glued to text, and random
strings; in conversations as the chat template renders them, which is what a device sees.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from tokenizers import Tokenizer, normalizers
from tokenizers.pre_tokenizers import ByteLevel

from edgeft.convert.chat_template import rendered_exchange
from edgeft.dataset.record import Record
from edgeft.errors import EdgeftError, Problem
from edgeft.llamacpp import Vocabulary
from edgeft.pieces import byte_level_piece
from edgeft.probe_texts import (
    ORDINARY_PROBES,
    RARE_PROBES,
    WARNING_REMEDY,
    Kind,
    decide,
    differing_words,
    every_byte,
    random_texts,
)
from edgeft.template import render_template

_ANSWER = "Done."
_MOST_GLUED = 300  # special tokens: some vocabularies hold thousands that stand for nothing
_MOST_WORDS = 4000  # entries of the vocabulary, which show whether whole words are taken before merges
_MOST_IDS_SHOWN = 24
_FRAMED = "Hello"
_ASCII_SPACE = " \t\n\v\f\r"  # all that llama.cpp strips after a special token
_FIRST_LOOK = 400  # texts, enough to tell splitting rules apart
# llama.cpp makes these visible whatever the file says, for the parsers of the formats that use them.
_ALWAYS_SHOWN = frozenset({"<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"})


@dataclass(frozen=True)
class Expected:
    """What the model's own tokenizer makes of texts, to which a file is held.

    `texts` and `ids`: as they stand, special tokens recognised, nothing added. `prompts` and `prompt_ids`: rendered
    conversations, with exactly one BOS where the tokenizer adds one. `kinds` and `prompt_kinds`: what each text is.
    `before` and `after`: what the tokenizer puts around a text. `ends` end generation, `control` are special tokens
    that the template uses.
    """

    texts: Sequence[str]
    kinds: Sequence[Kind]
    ids: Sequence[Sequence[int]]
    prompts: Sequence[str]
    prompt_kinds: Sequence[Kind]
    prompt_ids: Sequence[Sequence[int]]
    before: Sequence[int]
    after: Sequence[int]
    ends: frozenset[int]
    control: frozenset[int]
    template: str | None


@dataclass(frozen=True)
class Asked:
    """How a model is asked: its template, the tokens that it may name, its BOS, and what ends its answers."""

    template: str | None
    special_tokens: Mapping[str, str]
    bos: int | None
    ends: frozenset[int]


@dataclass(frozen=True)
class _Text:
    text: str
    kind: Kind


def expected(
    tokenizer: Tokenizer, asked: Asked, n_random: int, records: Sequence[Record] = (), *, sentencepiece: bool
) -> Expected:
    """Returns what `tokenizer` makes of the corpus, of `n_random` random strings, and of the user's own records.

    Unicode's NFC, the one normalizer that llama.cpp may do without, is applied first: decomposed text is not covered.
    A SentencePiece vocabulary is proved in conversations where there are some. llama.cpp has one setting for the space
    that goes before a text, at its start and after special tokens alike, and no setting is right for every text. Bytes
    that a byte-level vocabulary lacks are not covered: both leave them out, but before merging or after. Neither is
    Unicode's other whitespace where special tokens strip the space around them.
    """
    normal = tokenizer.normalizer.normalize_str if isinstance(tokenizer.normalizer, normalizers.NFC) else str
    special = [token.content for token in tokenizer.get_added_tokens_decoder().values()][:_MOST_GLUED]
    probes = [_Text(normal(text), "ordinary") for text in ORDINARY_PROBES]
    probes += [_Text(normal(text), "rare") for text in RARE_PROBES]
    prompts = list(_prompts(asked, probes))
    gluing = not sentencepiece or _spaces_nothing(tokenizer, special, [one.text for one in prompts[:1]])
    texts = probes + [_Text(normal(text), "rare") for text in every_byte()]
    texts += [_Text(normal(text), "ordinary" if _is_plain(text) else "rare") for text in _words(tokenizer)]
    scattered = random_texts(n_random, seed=0, between=special if gluing else ())
    texts += [_Text(normal(text), "rare") for text in scattered]
    texts += [_Text(normal(text), "ordinary") for text in _glued(special)] if gluing else []
    if any(token.lstrip or token.rstrip for token in tokenizer.get_added_tokens_decoder().values()):
        texts = [one for one in texts if not _has_other_space(one.text)]
    if sentencepiece and prompts:
        prompts, texts = list(_prompts(asked, texts)), []
    elif sentencepiece:
        texts = [one for one in texts if not one.text.startswith(" ")]
    else:
        lacking = _lacking_bytes(tokenizer)
        texts = [one for one in texts if lacking.isdisjoint(one.text.encode())]
    before, after = _frame(tokenizer)
    bos = before if before == [asked.bos] else []
    n_probes = len(prompts[: len(probes)])
    prompts += [_Text(normal(text), "record") for text in _recorded(asked, records)]
    encoded = _encode_all(tokenizer, [one.text for one in prompts])
    prompt_ids = [ids if ids[:1] == bos else [*bos, *ids] for ids in encoded]
    return Expected(
        texts=[one.text for one in texts],
        kinds=[one.kind for one in texts],
        ids=_encode_all(tokenizer, [one.text for one in texts]),
        prompts=[one.text for one in prompts],
        prompt_kinds=[one.kind for one in prompts],
        prompt_ids=prompt_ids,
        before=before,
        after=after,
        ends=asked.ends,
        control=_used(tokenizer, prompt_ids[:n_probes]),
        template=asked.template,
    )


@dataclass(frozen=True)
class Verdict:
    """What llama.cpp does otherwise than expected; `n_wrong` of the texts tried have other ids."""

    problems: Sequence[Problem]
    n_wrong: int
    warnings: Sequence[Problem] = ()


def examine(path: Path, held: Expected, allowed_share: float, where: str) -> Verdict:
    """Holds a GGUF file to what is expected; its header alone is read.

    `allowed_share` is that of ordinary texts which may have other ids: see `edgeft.probe_texts.decide`. Raises
    EdgeftError when the file cannot be loaded.
    """
    with Vocabulary(path) as vocabulary:
        problems, warnings, n_wrong = text_problems(vocabulary, held, allowed_share, where)
        framed = vocabulary.encode(_FRAMED, framed=True)
        if framed != [*held.before, *vocabulary.encode(_FRAMED), *held.after]:
            what = f"the tokenizer puts {held.before} before a text and {held.after} after it, llama.cpp gives {framed}"
            problems.append(Problem(what, where, "use another base model"))
        problems += _token_failures(vocabulary, held, where)
        if vocabulary.metadata.get("tokenizer.chat_template") != held.template:
            problems.append(Problem("the file's chat template is not the one that was trained", where))
    return Verdict(problems, n_wrong, tuple(warnings))


def _token_failures(vocabulary: Vocabulary, held: Expected, where: str) -> Iterator[Problem]:
    for token in sorted(held.ends):
        if not vocabulary.ends(token):
            yield Problem(f"token {token} ends an answer, and llama.cpp does not stop at it", where)
    for token, key in vocabulary.ends_with_keys().items():
        if key and token not in held.ends:
            text = vocabulary.piece(token, special=True).decode(errors="replace")
            what = f"llama.cpp ends an answer at {text!r} ({token}), at which the model does not: {key}"
            yield Problem(what, where, "use another base model")
    for token in sorted(held.control):
        text = vocabulary.piece(token, special=True).decode(errors="replace")
        if not vocabulary.is_control(token) and text not in _ALWAYS_SHOWN:
            yield Problem(f"llama.cpp takes the special token {text!r} ({token}) for text", where)
    bos = held.prompt_ids[0][:1] if held.prompt_ids else []
    if vocabulary.bos in bos and held.prompt_ids[0][1:2] == bos:
        yield Problem("the chat template puts a second BOS before a conversation", where, "remove it from the template")


@dataclass(frozen=True)
class _Tried:
    text: str
    kind: Kind
    theirs: Sequence[int]
    ours: Sequence[int]


def text_problems(
    vocabulary: Vocabulary, held: Expected, allowed_share: float, where: str
) -> tuple[list[Problem], list[Problem], int]:
    """Returns failures and warnings, each with the shortest text that has other ids, and how many there are.

    Where the first texts fail, the others are not tried.
    """
    encoders = [vocabulary.encode] * len(held.texts) + [vocabulary.encode_prompt] * len(held.prompts)
    texts, kinds = [*held.texts, *held.prompts], [*held.kinds, *held.prompt_kinds]
    listed = list(zip(encoders, texts, kinds, [*held.ids, *held.prompt_ids], strict=True))
    tried: list[_Tried] = []
    for part in (listed[:_FIRST_LOOK], listed[_FIRST_LOOK:]):
        tried += [_Tried(text, kind, theirs, encode(text)) for encode, text, kind, theirs in part]
        wrong = [one for one in tried if list(one.ours) != list(one.theirs)]
        failing, others = decide(tried, wrong, allowed_share)
        if failing:
            return [_differing(failing, len(tried), where)], [], len(wrong)
    warnings = []
    for kind, found in others.items():
        what = differing_words(kind, len(found), sum(one.kind == kind for one in tried))
        warnings.append(Problem(f"{what}: {_example(found)}", where, WARNING_REMEDY))
    return [], warnings, len(wrong)


def _differing(failing: Sequence[_Tried], n_tried: int, where: str) -> Problem:
    own = [one for one in failing if one.kind == "record"]
    if own:
        what = f"llama.cpp splits {len(own)} of your records otherwise than the model's tokenizer: {_example(own)}"
        return Problem(what, where, "use another base model")
    what = (
        f"llama.cpp splits {len(failing)} of {n_tried} texts otherwise than the model's tokenizer: {_example(failing)}"
    )
    remedy = "use another base model, or accept that it is so: convert.differing_texts is the share of texts that may"
    return Problem(what, where, remedy)


def _example(wrong: Sequence[_Tried]) -> str:
    one = min(wrong, key=lambda tried: len(tried.text))
    return f"{one.text!r}\n    tokenizer: {_shown(one.theirs)}\n    llama.cpp: {_shown(one.ours)}"


def _shown(ids: Sequence[int]) -> str:
    return str(list(ids[:_MOST_IDS_SHOWN])) + (" ..." if len(ids) > _MOST_IDS_SHOWN else "")


def _prompts(asked: Asked, contents: Sequence[_Text]) -> Iterator[_Text]:
    for one in contents:
        rendered = rendered_exchange(asked.template, one.text, _ANSWER, asked.special_tokens)
        if rendered is None or (one is contents[0] and one.text not in rendered):
            return
        yield _Text(rendered, one.kind)


def _recorded(asked: Asked, records: Sequence[Record]) -> Iterator[str]:
    """Yields the user's records as the model sees them; those that the template refuses are left to others to name."""
    for record in records:
        if record.is_text:
            yield str(record.messages[0]["content"])
        elif asked.template is not None:
            with suppress(EdgeftError):
                yield render_template(
                    asked.template,
                    record.messages,
                    add_generation_prompt=False,
                    special_tokens=asked.special_tokens,
                    tools=record.tools,
                )


def _is_plain(text: str) -> bool:
    """Tells whether entries of a vocabulary are what people write: ASCII, or letters alone."""
    return text.isascii() or text.replace(" ", "").isalpha()


def _glued(special: Sequence[str]) -> Iterator[str]:
    for text in special:
        yield from (text, f"a{text}b", f" {text} ", f"{text}\n{text}{text} x", text[:-1])


def _words(tokenizer: Tokenizer) -> Iterator[str]:
    """Yields entries of the vocabulary as the text they stand for, evenly spread over it."""
    step = max(1, tokenizer.get_vocab_size() // _MOST_WORDS)
    numbers = set(range(0, tokenizer.get_vocab_size(), step)) - tokenizer.get_added_tokens_decoder().keys()
    words = (tokenizer.decode([number]) for number in sorted(numbers))
    yield from (f"{word} {word}" for word in islice(words, _MOST_WORDS) if word and "\ufffd" not in word)


def _spaces_nothing(tokenizer: Tokenizer, special: Sequence[str], prompts: Sequence[str]) -> bool:
    """Tells whether no space of the tokenizer's own is in a conversation: it opens with a token that none follows."""
    opening = next((text for text in special if prompts and prompts[0].startswith(text)), None)
    if opening is None:
        return False
    return not tokenizer.encode(f"{opening}a", add_special_tokens=False).tokens[1].startswith("\u2581")


def _lacking_bytes(tokenizer: Tokenizer) -> set[int]:
    return {byte_level_piece(char)[0] for char in ByteLevel.alphabet() if tokenizer.token_to_id(char) is None}


def _has_other_space(text: str) -> bool:
    return any(char.isspace() and char not in _ASCII_SPACE for char in text)


def _frame(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    framed, bare = tokenizer.encode(_FRAMED).ids, tokenizer.encode(_FRAMED, add_special_tokens=False).ids
    place = next(place for place in range(len(framed)) if framed[place : place + len(bare)] == bare)
    return framed[:place], framed[place + len(bare) :]


def _encode_all(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    return [entry.ids for entry in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]


def _used(tokenizer: Tokenizer, prompt_ids: Sequence[Sequence[int]]) -> frozenset[int]:
    special = {number for number, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    return frozenset(special & {token for ids in prompt_ids for token in ids})
