"""The proof that llama.cpp, on the written file, does with text what the model's own tokenizer does.

It holds on a corpus of many scripts and kinds of text, every byte, every special token glued to text, and random
strings; in conversations as the chat template renders them, which is what a device sees.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from tokenizers import Tokenizer, normalizers
from tokenizers.pre_tokenizers import ByteLevel

from edgeft.convert.chat_template import rendered_exchange
from edgeft.dataset.pieces import byte_level_piece
from edgeft.errors import Problem
from edgeft.llamacpp import Vocabulary
from edgeft.probe_texts import PROBES, every_byte, random_texts

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
    conversations, with exactly one BOS where the tokenizer adds one. `before` and `after`: what the tokenizer puts
    around a text. `ends` end generation, `control` are special tokens that the template uses.
    """

    texts: Sequence[str]
    ids: Sequence[Sequence[int]]
    prompts: Sequence[str]
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


def expected(tokenizer: Tokenizer, asked: Asked, n_random: int, *, sentencepiece: bool) -> Expected:
    """Returns what `tokenizer` makes of the corpus and of `n_random` random strings.

    Unicode's NFC, the one normalizer that llama.cpp may do without, is applied first: decomposed text is not covered.
    A SentencePiece vocabulary is proved in conversations where there are some. llama.cpp has one setting for the space
    that goes before a text, at its start and after special tokens alike, and no setting is right for every text. Bytes
    that a byte-level vocabulary lacks are not covered: both leave them out, but before merging or after. Neither is
    Unicode's other whitespace where special tokens strip the space around them.
    """
    normal = tokenizer.normalizer.normalize_str if isinstance(tokenizer.normalizer, normalizers.NFC) else str
    special = [token.content for token in tokenizer.get_added_tokens_decoder().values()][:_MOST_GLUED]
    plain = [normal(text) for text in (*PROBES, *every_byte(), *_words(tokenizer))]
    prompts = list(_prompts(asked, plain[: len(PROBES)]))
    gluing = not sentencepiece or _spaces_nothing(tokenizer, special, prompts)
    plain += [normal(text) for text in random_texts(n_random, seed=0, between=special if gluing else ())]
    texts = plain + [normal(text) for text in _glued(special)] if gluing else plain
    if any(token.lstrip or token.rstrip for token in tokenizer.get_added_tokens_decoder().values()):
        texts = [text for text in texts if not _has_other_space(text)]
    if sentencepiece and prompts:
        prompts, texts = list(_prompts(asked, texts)), []
    elif sentencepiece:
        texts = [text for text in texts if not text.startswith(" ")]
    else:
        lacking = _lacking_bytes(tokenizer)
        texts = [text for text in texts if lacking.isdisjoint(text.encode())]
    before, after = _frame(tokenizer)
    bos = before if before == [asked.bos] else []
    prompt_ids = [ids if ids[:1] == bos else [*bos, *ids] for ids in _encode_all(tokenizer, prompts)]
    return Expected(
        texts=texts,
        ids=_encode_all(tokenizer, texts),
        prompts=prompts,
        prompt_ids=prompt_ids,
        before=before,
        after=after,
        ends=asked.ends,
        control=_used(tokenizer, prompt_ids[: len(PROBES)]),
        template=asked.template,
    )


@dataclass(frozen=True)
class Verdict:
    """What llama.cpp does otherwise than expected; `n_wrong` of the texts tried have other ids."""

    problems: Sequence[Problem]
    n_wrong: int


def examine(path: Path, held: Expected, most_wrong: float, where: str) -> Verdict:
    """Holds a GGUF file to what is expected; its header alone is read.

    `most_wrong` is the share of texts that may have other ids. Raises EdgeftError when the file cannot be loaded.
    """
    with Vocabulary(path) as vocabulary:
        problems, n_wrong = text_problems(vocabulary, held, most_wrong, where)
        framed = vocabulary.encode(_FRAMED, framed=True)
        if framed != [*held.before, *vocabulary.encode(_FRAMED), *held.after]:
            what = f"the tokenizer puts {held.before} before a text and {held.after} after it, llama.cpp gives {framed}"
            problems.append(Problem(what, where, "use another base model"))
        problems += _token_failures(vocabulary, held, where)
        if vocabulary.metadata.get("tokenizer.chat_template") != held.template:
            problems.append(Problem("the file's chat template is not the one that was trained", where))
    return Verdict(problems, n_wrong)


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


def text_problems(vocabulary: Vocabulary, held: Expected, most_wrong: float, where: str) -> tuple[list[Problem], int]:
    """Returns the shortest text that has other ids, with both lists of ids, and how many there are.

    `most_wrong` is the share of texts that may have other ids.
    """
    encoders = [vocabulary.encode] * len(held.texts) + [vocabulary.encode_prompt] * len(held.prompts)
    tried = list(zip(encoders, [*held.texts, *held.prompts], [*held.ids, *held.prompt_ids], strict=True))
    for part in (tried[:_FIRST_LOOK], tried):
        wrong = [(text, theirs, ours) for encode, text, theirs in part if (ours := encode(text)) != theirs]
        if len(wrong) > most_wrong * len(part):
            text, theirs, ours = min(wrong, key=lambda entry: len(entry[0]))
            what = (
                f"llama.cpp splits {len(wrong)} of {len(part)} texts otherwise than the model's tokenizer: {text!r}\n"
                f"    tokenizer: {_shown(theirs)}\n    llama.cpp: {_shown(ours)}"
            )
            remedy = (
                "use another base model, or accept that it is so: convert.differing_texts is the share of such texts"
            )
            return [Problem(what, where, remedy)], len(wrong)
    return [], len(wrong)


def _shown(ids: Sequence[int]) -> str:
    return str(list(ids[:_MOST_IDS_SHOWN])) + (" ..." if len(ids) > _MOST_IDS_SHOWN else "")


def _prompts(asked: Asked, contents: Sequence[str]) -> Iterator[str]:
    for content in contents:
        rendered = rendered_exchange(asked.template, content, _ANSWER, asked.special_tokens)
        if rendered is None or (content == contents[0] and content not in rendered):
            return
        yield rendered


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
