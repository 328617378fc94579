"""A worker's tokenizer renders and encodes as transformers does, or transformers is what the worker opens."""

from __future__ import annotations

import pickle
from functools import partial
from pathlib import Path
from typing import Any

import chat_templates
import pytest
import template_zoo
from tiny_model import make_model, make_tokenizer

from dataset.zoo import TOOL_USE, WEATHER
from edgeft import hf
from edgeft.artifacts import Message
from edgeft.dataset import tokenizer as tokenizer_module
from edgeft.dataset.tokenizer import PlainTokenizer, TokenizerView
from edgeft.errors import EdgeftError
from edgeft.given_template import CHATML, given_template
from edgeft.template import render_template

CONVERSATION: list[Message] = [
    {"role": "user", "content": ' Café 日本 "q"\n<|im_end|> '},
    {"role": "assistant", "content": '{"a": [1, 2]}\n'},
]


def save(folder: Path, template: str, bos: bool) -> Path:
    """Saves the tiny tokenizer with a template, and where asked for a BOS that it adds of its own."""
    tokenizer = make_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": chat_templates.SPECIAL_TOKENS})
    tokenizer.chat_template = template
    if bos:
        from tokenizers import processors

        tokenizer.bos_token = "<s>"
        number = tokenizer.convert_tokens_to_ids("<s>")
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", number)]
        )
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("bos", [False, True])
@pytest.mark.parametrize("name", chat_templates.ALL)
def test_the_plain_tokenizer_equals_transformers(tmp_path: Path, name: str, bos: bool) -> None:
    folder = save(tmp_path, chat_templates.ALL[name], bos)
    opener = pickle.loads(pickle.dumps(hf.tokenizer_opener(folder)))
    assert isinstance(opener.__self__, PlainTokenizer)
    ours, theirs = opener(), hf.open_tokenizer(folder)
    texts = ["", "plain text", *(theirs.render(CONVERSATION[:count], count == 1, ()) for count in (1, 2))]
    assert [ours.render(CONVERSATION[:count], count == 1, ()) for count in (1, 2)] == texts[2:]
    assert ours.encode_all is not None
    assert ours.encode_all(texts) == [theirs.encode(text) for text in texts] == [ours.encode(text) for text in texts]
    assert [ours.encode_more(text) for text in texts] == [theirs.encode_more(text) for text in texts]
    ids = [number for text in texts for number in theirs.encode(text)]
    assert ours.pieces(ids) == theirs.pieces(ids)
    assert ours.special_ids == theirs.special_ids
    assert (ours.end_ids, ours.text_end) == (tuple(theirs.end_ids), theirs.text_end)
    if bos:
        bos_id = opener.__self__.bos_id
        assert bos_id is not None
        assert all(ids.count(bos_id) == 1 for ids in ours.encode_all(texts))


@pytest.mark.parametrize("template", [None, *(shape.plain for shape in template_zoo.SHAPES.values())])
def test_tools_and_a_given_template(tmp_path: Path, template: str | None) -> None:
    folder = save(tmp_path, template or "", bos=False)
    if template is None:
        (folder / "chat_template.jinja").unlink()
    opener = pickle.loads(pickle.dumps(hf.tokenizer_opener(folder)))
    assert isinstance(opener.__self__, PlainTokenizer)
    ours, theirs = opener(), hf.open_tokenizer(folder)
    assert (given_template(folder) is not None) == (template is None)
    for count in range(1, len(TOOL_USE) + 1):
        for prompt in (True, False):
            arguments = (TOOL_USE[:count], prompt, [WEATHER])
            assert attempt(ours, *arguments) == attempt(theirs, *arguments)


def attempt(view: TokenizerView, *arguments: Any) -> str:
    """Renders; a refusal is said as a text."""
    try:
        return view.render(*arguments)
    except EdgeftError:
        return "refused"


def test_what_a_template_does_with_tools_is_probed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save(tmp_path, CHATML, bos=False)
    monkeypatch.setattr(
        tokenizer_module,
        "render_template",
        lambda *texts, **settings: render_template(*texts, **{**settings, "tools": ()}),
    )
    assert isinstance(hf.tokenizer_opener(folder), partial)


def test_how_a_text_goes_on_is_probed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save(tmp_path, CHATML, bos=False)
    monkeypatch.setattr(tokenizer_module, "encode_after", lambda *_: [1])
    assert isinstance(hf.tokenizer_opener(folder), partial)


def test_where_they_differ_transformers_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = make_model(tmp_path / "model")
    monkeypatch.setattr(PlainTokenizer, "_with_bos", lambda self, ids: [*ids, 0])
    opener = hf.tokenizer_opener(checkpoint.path)
    assert isinstance(opener, partial)
    view = pickle.loads(pickle.dumps(opener))()
    assert view.encode("a b") == hf.open_tokenizer(checkpoint.path).encode("a b")
