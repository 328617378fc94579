"""Which tokens open and end texts, from the files that say so, and what of it llama.cpp then does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import pytest
from transformers import AutoTokenizer

from convert.models import CHATML, byte_level_tokenizer, llama, to_gguf
from convert.runtime import vocabulary
from edgeft.convert.chat_template import end_of_turn
from edgeft.errors import EdgeftError

TOOL = 461  # the id of <tool> in the vocabulary of these tests


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    byte_level_tokenizer(folder, "llama-bpe", ignore_merges=True, add_bos=True)
    llama(folder)
    return folder


def _edit_json(path: Path, **values: Any) -> None:
    path.write_text(json.dumps((json.loads(path.read_text()) if path.exists() else {}) | values))


def _key(path: Path, name: str) -> Any:
    entry = gguf.GGUFReader(path).fields.get(f"tokenizer.{name}")
    return None if entry is None else entry.contents()


@pytest.mark.parametrize("listed", [[2, 0, TOOL], TOOL])
def test_every_listed_end_ends_generation(checkpoint: Path, listed: Any) -> None:
    _edit_json(checkpoint / "generation_config.json", eos_token_id=listed)
    path = to_gguf(checkpoint, checkpoint / "m.gguf").path
    assert _key(path, "ggml.eos_token_id") == 2  # the tokenizer's own
    assert _key(path, "ggml.eot_token_id") == TOOL  # which llama.cpp would not know as an end
    with vocabulary(path) as vocab:
        assert [number for number in range(576) if vocab.ends(number)] == [0, 2, TOOL]


def test_the_end_of_the_templates_turn_ends_generation(checkpoint: Path) -> None:
    _edit_json(checkpoint / "tokenizer_config.json", eos_token="<|endoftext|>")
    (checkpoint / "chat_template.jinja").write_text(CHATML.replace("<|im_end|>", "</tool>"))
    assert "</tool>" in AutoTokenizer.from_pretrained(checkpoint).chat_template
    _mark_special(checkpoint, "</tool>")
    path = to_gguf(checkpoint, checkpoint / "m.gguf").path
    assert (_key(path, "ggml.eos_token_id"), _key(path, "ggml.eot_token_id")) == (0, TOOL + 1)


def test_a_class_default_is_no_end(checkpoint: Path) -> None:
    _edit_json(checkpoint / "generation_config.json", eos_token_id=300)
    path = to_gguf(checkpoint, checkpoint / "m.gguf").path
    assert _key(path, "ggml.eot_token_id") is None
    with vocabulary(path) as vocab:
        assert not vocab.ends(300)


@pytest.mark.parametrize("framed", [True, False])
@pytest.mark.parametrize("setting", [True, False, None])
def test_a_first_token_is_added_as_transformers_does(checkpoint: Path, setting: bool | None, framed: bool) -> None:
    if setting is not None:
        _edit_json(checkpoint / "tokenizer_config.json", add_bos_token=setting)
    if not framed:
        _edit_json(checkpoint / "tokenizer.json", post_processor=None)
    expected = AutoTokenizer.from_pretrained(checkpoint).encode("hello")
    with vocabulary(to_gguf(checkpoint, checkpoint / "m.gguf").path) as vocab:
        assert vocab.encode("hello", add_special=True) == expected


def test_the_template_is_the_one_transformers_takes(checkpoint: Path) -> None:
    _edit_json(checkpoint / "tokenizer_config.json", chat_template="an older one")
    expected = AutoTokenizer.from_pretrained(checkpoint).chat_template
    path = to_gguf(checkpoint, checkpoint / "m.gguf").path
    assert _key(path, "chat_template") == expected == CHATML


def _mark_special(folder: Path, content: str) -> None:
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    for token in tokenizer["added_tokens"]:
        token["special"] = token["special"] or token["content"] == content
    path.write_text(json.dumps(tokenizer))


_LLAMA_2 = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}{% for m in messages %}"
    "{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'] + ' ' + eos_token }}{% endif %}{% endfor %}"
)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ([{"SpecialToken": {"id": "<|im_start|>"}}, {"Sequence": {"id": "A"}}], "which is not the bos token"),
        ([{"Sequence": {"id": "A"}}, {"SpecialToken": {"id": "<|endoftext|>"}}], "which is not the eos token"),
        ([{"SpecialToken": {"id": "<|begin|>"}}] * 2 + [{"Sequence": {"id": "A"}}], "more than one token"),
    ],
)
def test_frames_that_llama_cpp_cannot_add_are_refused(checkpoint: Path, change: Any, named: str) -> None:
    _edit_json(checkpoint / "tokenizer.json", post_processor={"type": "TemplateProcessing", "single": change})
    with pytest.raises(EdgeftError, match=named):
        to_gguf(checkpoint, checkpoint / "m.gguf")


def test_more_ends_than_a_file_can_name_are_refused(checkpoint: Path) -> None:
    _edit_json(checkpoint / "generation_config.json", eos_token_id=[2, 1, 3, TOOL])
    with pytest.raises(EdgeftError, match="too many end tokens"):
        to_gguf(checkpoint, checkpoint / "m.gguf")


@pytest.mark.parametrize(
    ("template", "end"),
    [
        (CHATML, "<|im_end|>"),
        (_LLAMA_2, "</s>"),
        ("{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}", None),
        ("{{ messages[0]['content'] }}", None),
        ("{{ nothing.here }}", None),
        ("{% broken", None),
        (None, None),
    ],
)
def test_end_of_turn(template: str | None, end: str | None) -> None:
    assert end_of_turn(template, ["<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|im"], "<s>", "</s>") == end
