"""The tokenizer in the file: token types, end tokens, ids of every text, and the chat template."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from unicodedata import normalize

import numpy as np

from edgeft.errors import EdgeftError
from edgeft.gguf_header import GgufHeader, Strings
from edgeft.llamacpp import EOS_KEY, Vocabulary
from edgeft.parity.ladder import Failure, Rung, listed, rung
from edgeft.parity.reference import ReferenceContent, ReferenceRecord
from edgeft.probe_texts import WARNING_REMEDY, Kind, decide, differing_words

_TYPES, _IDS, _TEMPLATE = "token types", "token ids", "chat template"
_CONVERT_AGAIN = "convert the model again from its own tokenizer files"
_SPACE: Final = "\u2581"


def check_token_types(vocabulary: Vocabulary, content: ReferenceContent) -> Rung:
    """Turn markers must be CONTROL, every token the same text, and the tokens that stop generation the model's ends.

    llama.cpp stops at some tokens by their text, whatever the file says: <|endoftext|>, or the </s> of HTML in Gemma's
    vocabulary. They are a figure, `ends_by_name`, as long as no trained answer holds one before its end.
    """
    ends = vocabulary.ends_with_keys()
    named = [token for token, key in ends.items() if not key and token not in content.end_ids]
    figures = {"tokens": vocabulary.n_vocab, "ends_by_name": [_shown(vocabulary, token) for token in named]}
    return rung(_TYPES, _type_failures(vocabulary, content, ends), figures)


def check_token_ids(
    vocabulary: Vocabulary, header: GgufHeader, content: ReferenceContent, allowed_share: float = 0.0
) -> Rung:
    """Every record's prompt, and what people write, must give the ids that were trained on.

    So many ordinary texts may not; texts of rare signs are a warning: see `edgeft.probe_texts.decide`.

    Some tokenizers compose accents first (Unicode's NFC), which llama.cpp does for none: a text that gets the right ids
    once it is composed is counted, and no fault of the file.
    """
    texts = list(_texts(vocabulary, content))
    other = [one for one in texts if one.theirs != one.ours]
    wrong = [one for one in other if not _right_composed(one, vocabulary)]
    failing, others = decide(texts, wrong, allowed_share)
    failures = [_named(failing, len(texts), vocabulary, header, content)] if failing else []
    figures = {"texts": len(texts), "wrong": len(wrong), "not_normalized": len(other) - len(wrong)}
    warnings = [_warning(kind, found, sum(one.kind == kind for one in texts)) for kind, found in others.items()]
    return rung(_IDS, failures, figures, warnings)


def _warning(kind: Kind, wrong: Sequence[_Text], n_tried: int) -> Failure:
    return Failure(_IDS, differing_words(kind, len(wrong), n_tried), _example(wrong), WARNING_REMEDY)


def _right_composed(one: _Text, vocabulary: Vocabulary) -> bool:
    composed = normalize("NFC", one.text)
    return composed != one.text and vocabulary.encode_prompt(composed) == one.theirs


def check_template(vocabulary: Vocabulary, content: ReferenceContent) -> Rung:
    """The file's own template must render the prompts that were trained, as of the day on which they were recorded.

    A model that has no template can say nothing about the file's.
    """
    if not content.model.has_template:
        return Rung(_TEMPLATE, "skipped")
    failures: list[Failure] = []
    wrong = 0
    for record in content.records:
        failure = _template_failure(vocabulary, record, content)
        wrong += failure is not None
        if failure is not None and not failures:
            failures.append(failure)
    return rung(_TEMPLATE, failures, {"prompts": len(content.records), "wrong": wrong})


def _type_failures(vocabulary: Vocabulary, content: ReferenceContent, ends: Mapping[int, str]) -> Iterator[Failure]:
    other = [
        f"token {token}: {_text(shown)!r} instead of {_text(piece.encode('latin-1'))!r}"
        for token, piece in content.pieces.items()
        if (shown := _piece(vocabulary, int(token))) != piece.encode("latin-1")
    ]
    if other:
        what = f"{len(other)} of {len(content.pieces)} tokens are another text in the file"
        yield Failure(_TYPES, f"the file has another vocabulary: {what}", listed(other[:2]), _CONVERT_AGAIN)
        return
    for token in content.end_ids:
        if token not in ends:
            what = "a trained end token does not stop llama.cpp: answers run on"
            remedy = "set tokenizer.ggml.eos_token_id or eot_token_id to it (gguf-set-metadata), or convert again"
            yield Failure(_TYPES, what, _shown(vocabulary, token), remedy)
    yield from _other_ends(vocabulary, content, ends)
    for token in content.control_ids:
        if not vocabulary.is_control(token):
            what = "a special token of the template is not of type CONTROL in the file: it is matched and shown as text"
            yield Failure(_TYPES, what, _shown(vocabulary, token), _CONVERT_AGAIN)


def _other_ends(vocabulary: Vocabulary, content: ReferenceContent, ends: Mapping[int, str]) -> Iterator[Failure]:
    """Yields the tokens at which llama.cpp stops an answer that goes on in the model."""
    answers = [_before_its_close(record.answer_ids, content) for record in content.records]
    closing = {
        token
        for record, answer in zip(content.records, answers, strict=True)
        for token in record.answer_ids[len(answer) :]
        if vocabulary.is_control(token)
    }
    for token, key in ends.items():
        cut = sum(token in answer for answer in answers)
        if token in content.end_ids or (not cut and (not key or token in closing)):
            continue
        where, text = _shown(vocabulary, token), _text(_piece(vocabulary, token))
        what = f"llama.cpp ends every answer at {text!r}, which is no end token of the model's"
        if not key:
            what = (
                f"llama.cpp ends every answer at {text!r} by its name, and {cut} of {len(answers)} trained ones hold it"
            )
            remedy = "no key of the file prevents it: keep this text out of the answers, or use another base model"
        elif key == EOS_KEY:
            where += f": {key}" + ("" if key in vocabulary.metadata else " is missing, and this is llama.cpp's default")
            right = content.end_ids[0]
            remedy = f"set {key} to {right}, {_text(_piece(vocabulary, right))!r} (gguf-set-metadata), or convert again"
        else:
            where += f": {key}"
            remedy = f"remove {key} (gguf-new-metadata --remove-metadata), or convert again"
        yield Failure(_TYPES, what, where, remedy)


def _before_its_close(answer: Sequence[int], content: ReferenceContent) -> Sequence[int]:
    """Returns an answer without the end tokens, turn markers and whitespace with which it closes."""
    kept = len(answer)
    while kept and _closes(answer[kept - 1], content):
        kept -= 1
    return answer[:kept]


def _closes(token: int, content: ReferenceContent) -> bool:
    return token in (*content.end_ids, *content.control_ids) or not content.pieces[str(token)].strip()


def _piece(vocabulary: Vocabulary, token: int) -> bytes:
    return vocabulary.piece(token, special=True) if token < vocabulary.n_vocab else b""


def _text(piece: bytes) -> str:
    return piece.decode(errors="replace")


def _shown(vocabulary: Vocabulary, token: int) -> str:
    return f"token {token} {_text(_piece(vocabulary, token))!r}"


@dataclass(frozen=True)
class _Text:
    """A text with the ids of both sides; `added` says that what a tokenizer adds on its own is in them."""

    text: str
    kind: Kind
    theirs: list[int]
    ours: list[int]
    added: bool = False


def _texts(vocabulary: Vocabulary, content: ReferenceContent) -> Iterator[_Text]:
    rare = frozenset(content.rare_probes)
    for text, ids in content.probe_ids.items():
        yield _Text(text, "rare" if text in rare else "ordinary", ids, vocabulary.encode_prompt(text))
    yield _Text("", "record", content.added_ids, vocabulary.encode("", framed=True), added=True)
    for record in content.records:
        ours = vocabulary.encode_prompt(record.rendered_prompt)
        yield _Text(record.rendered_prompt, "record", record.prompt_ids, ours)


def _named(
    wrong: Sequence[_Text], count: int, vocabulary: Vocabulary, header: GgufHeader, content: ReferenceContent
) -> Failure:
    """Returns the failure with the likeliest cause: what the file lacks first, then what the ids have in common."""
    what, key = _cause(wrong, vocabulary, header, content)
    cause = f"{what}: {len(wrong)} of {count} texts get other token ids than those trained"
    return Failure(_IDS, cause, f"{key}; {_example(wrong)}", _CONVERT_AGAIN)


def _example(wrong: Sequence[_Text]) -> str:
    """Returns the first text that a user may have written, and the ids from where they differ."""
    one = next((text for text in wrong if not text.added), wrong[0])
    position = next(
        (i for i, (a, b) in enumerate(zip(one.theirs, one.ours, strict=False)) if a != b),
        min(len(one.theirs), len(one.ours)),
    )
    part = slice(position, position + 8)
    ids = f"trained with {one.theirs[part]}, the file gives {one.ours[part]}"
    return f"{one.text[:200]!r} at token {position}: {ids}"


def _cause(
    wrong: Sequence[_Text], vocabulary: Vocabulary, header: GgufHeader, content: ReferenceContent
) -> tuple[str, str]:
    plain = [text for text in wrong if not text.added]
    if added := [text for text in wrong if text.added]:
        return _added_cause(added[0], content)
    merges, scores = header.keys.get("tokenizer.ggml.merges"), header.keys.get("tokenizer.ggml.scores")
    kind = header.keys.get("tokenizer.ggml.model")
    if kind == "gpt2" and content.model.merges is not None:
        found = merges.count if isinstance(merges, Strings) else 0
        if found < content.model.merges:
            return f"{content.model.merges - found} of {content.model.merges} merges are lost", "tokenizer.ggml.merges"
    if kind == "llama" and (not isinstance(scores, np.ndarray) or len(np.unique(scores)) <= 2):
        return "the tokens' scores are lost", "tokenizer.ggml.scores"
    if all(_differs_by_a_space(text, vocabulary) for text in plain):
        return "the space before a text is another", "tokenizer.ggml.add_space_prefix"
    pre = header.keys.get("tokenizer.ggml.pre")
    return f"the text is split otherwise before it is tokenized (pre-tokenizer {pre!r})", "tokenizer.ggml.pre"


def _added_cause(one: _Text, content: ReferenceContent) -> tuple[str, str]:
    """What a tokenizer adds on its own is wrong, and nothing else."""
    bos = content.bos_id
    if bos is not None and one.ours[:1] == [bos] and one.theirs[:1] != [bos]:
        what = "the file adds a BOS that the model's tokenizer does not add, and a template that has one gets two"
        return what, "tokenizer.ggml.add_bos_token"
    if bos is not None and one.theirs[:1] == [bos] and one.ours[:1] != [bos]:
        return "the BOS before a text is missing", "tokenizer.ggml.add_bos_token, tokenizer.ggml.bos_token_id"
    if len(one.ours) > len(one.theirs):
        return (
            "the file adds a token that the model's tokenizer does not add",
            "tokenizer.ggml.add_bos_token, tokenizer.ggml.add_eos_token",
        )
    return "a token that the model's tokenizer adds is missing or another", "tokenizer.ggml.bos_token_id"


def _differs_by_a_space(one: _Text, vocabulary: Vocabulary) -> bool:
    shown = [b"".join(vocabulary.piece(token, special=True) for token in ids) for ids in (one.theirs, one.ours)]
    return shown[0] != shown[1] and shown[0].replace(b" ", b"") == shown[1].replace(b" ", b"")


def _template_failure(vocabulary: Vocabulary, record: ReferenceRecord, content: ReferenceContent) -> Failure | None:
    key = "tokenizer.chat_template"
    try:
        rendered = vocabulary.render(record.messages, tools=record.tools, now=content.now)
    except EdgeftError as error:
        return Failure(_TEMPLATE, error.problems[0].what, key, _CONVERT_AGAIN)
    trained = record.rendered_prompt
    if rendered == trained:
        return None
    start = next((i for i, (a, b) in enumerate(zip(trained, rendered, strict=False)) if a != b), None)
    start = min(len(trained), len(rendered)) if start is None else start
    place = f"{key}: trained {_around(trained, start)}, the file gives {_around(rendered, start)}"
    if vocabulary.adds_bos and content.bos_id is not None:
        bos = _text(_piece(vocabulary, content.bos_id))
        if rendered == bos + trained:
            what = "BOS doubled: the file's chat template writes one, and the file asks for one before every text"
            return Failure(_TEMPLATE, what, place, "take the BOS out of the template, or set add_bos_token to false")
    markers = {content.pieces[str(token)].encode("latin-1").decode(errors="replace") for token in content.control_ids}
    lost = sorted(marker for marker in markers if marker in trained and marker not in rendered)
    remedy = "convert again from the folder with the chat template that was trained, or pass it to the runtime"
    if lost:
        what = f"the file has another model's chat template: it never writes {listed(lost)}"
        return Failure(_TEMPLATE, what, place, remedy)
    said = {str(message.get("role")) for message in record.messages}
    if len(rendered) != len(trained) and "system" not in said and _system_part(trained) != _system_part(rendered):
        what = "the file's chat template puts in another system prompt than the one that was trained"
        return Failure(_TEMPLATE, what, place, remedy)
    return Failure(_TEMPLATE, "the file's chat template renders another prompt than was trained", place, remedy)


def _system_part(rendered: str) -> str:
    """Returns what follows the word "system" before the user's turn; "" where there is none."""
    before = rendered.partition("user")[0]
    return before.partition("system")[2]


def _around(text: str, place: int) -> str:
    return repr(text[max(0, place - 20) : place + 60])
