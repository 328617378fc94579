"""The mask on templates of every shape, over conversations that hypothesis makes up."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from template_zoo import SHAPES
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from dataset.zoo import byte_level, record_of, runs, sentencepiece_like, trained_texts, view_with
from edgeft.artifacts import Message
from edgeft.dataset.mask import tokenize_record, tokenize_turns

_REAL = Path(os.environ.get("EDGEFT_TOKENIZERS", "/nowhere"))
_EDGES = st.sampled_from(["", " ", "\n", "\n\n", "\t", " \n", "\r\n", "\u00a0", "\u3000", "  "])
_CORE = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="<[|\u2581"), max_size=20),
    st.sampled_from(
        ["Done.", '{"a": [1, 2]}', "日本語 🦙🚀", "Äpfel\u0301", "a\n\n\nb", "end", "Łódź", "x = 3333", "\\n", "0"]
    ),
)
TEXTS = st.builds("{}{}{}".format, _EDGES, _CORE, _EDGES)
ANSWERS = TEXTS.filter(lambda text: text.strip() != "")


@st.composite
def conversations(draw: st.DrawFn) -> list[Message]:
    """Conversations of one to three exchanges, with a system message, an empty one or none."""
    messages: list[Message] = []
    if draw(st.booleans()):
        messages.append({"role": "system", "content": draw(TEXTS)})
    for _ in range(draw(st.integers(1, 3))):
        messages.append({"role": "user", "content": draw(TEXTS)})
        messages.append({"role": "assistant", "content": draw(ANSWERS)})
    return messages


@pytest.fixture(scope="module", params=["byte-level", "sentencepiece", "llama-3", "qwen2"])
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerFast:
    """Tokenizers made here, and real ones where there are some."""
    if request.param == "byte-level":
        return byte_level()
    if request.param == "sentencepiece":
        return sentencepiece_like(tmp_path_factory.mktemp("sentencepiece"))
    if not _REAL.is_dir():
        pytest.skip("EDGEFT_TOKENIZERS names no folder")
    made = AutoTokenizer.from_pretrained(_REAL / request.param)
    assert isinstance(made, PreTrainedTokenizerFast)
    special = byte_level().all_special_tokens
    made.add_special_tokens({"additional_special_tokens": [token for token in special if token != "<|endoftext|>"]})
    made.bos_token, made.eos_token = "<s>", "</s>"
    return made


@pytest.mark.parametrize("name", SHAPES)
@given(messages=conversations())
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_exactly_the_answers_and_their_ends(
    tokenizer: PreTrainedTokenizerFast, name: str, messages: list[Message]
) -> None:
    shape = SHAPES[name]
    view = view_with(tokenizer, shape.plain, shape.end, *shape.other_ends)
    example, *cuts = tokenize_turns(record_of(messages), view)
    # A normalizer may change characters: what the ids stand for is compared with what the tokenizer makes of the text.
    told = _text(view.pieces(view.encode(view.render(messages, False, ()))))
    assert _text(view.pieces(example.ids)) == told
    found = runs(example, view)
    answers = [message["content"] for message in messages if message["role"] == "assistant"]
    # This template adds an empty thought to the last answer alone: the earlier ones are examples of their own.
    assert len(example.apart) == len(cuts) == (len(answers) - 1 if name == "qwen 3" else 0)
    normalized = [_normalized(tokenizer, shape.shown(answer) + shape.end) for answer in answers]
    assert [text for flag, text in found if flag] == normalized[len(cuts) :]
    assert [trained_texts(cut, view) for cut in cuts] == [[text] for text in normalized[: len(cuts)]]
    first = next(i for i, message in enumerate(messages) if message["role"] == "assistant")
    if not example.apart:  # the model is given these very tokens
        prompt = view.encode(view.render(messages[:first], True, ()))
        assert example.ids[: len(prompt)] == prompt
        assert example.trained[: len(prompt) + 1] == [False] * len(prompt) + [True]


@pytest.mark.parametrize("name", SHAPES)
@given(messages=conversations())
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_mask_is_the_one_that_transformers_makes_of_marks(
    tokenizer: PreTrainedTokenizerFast, name: str, messages: list[Message]
) -> None:
    shape = SHAPES[name]
    view = view_with(tokenizer, shape.marked, shape.end, *shape.other_ends)
    example = tokenize_record(record_of(messages), view)
    assert view.render(messages, False, ()) == view_with(tokenizer, shape.plain).render(messages, False, ())
    tokenizer.chat_template = shape.marked
    theirs: Any = tokenizer.apply_chat_template(
        messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True, add_special_tokens=False
    )
    if example.ids == theirs["input_ids"] and not example.apart:
        assert example.trained == [bool(flag) for flag in theirs["assistant_masks"]]


def _text(pieces: list[bytes]) -> str:
    return b"".join(pieces).decode("utf-8", "replace")


def _normalized(tokenizer: PreTrainedTokenizerFast, text: str) -> str:
    normalizer = tokenizer.backend_tokenizer.normalizer
    return text if normalizer is None else str(normalizer.normalize_str(text))
