"""A worker's tokenizer renders and encodes as transformers does, or transformers is what the worker opens."""

from __future__ import annotations

import pickle
from functools import partial
from pathlib import Path

import chat_templates
import pytest
from tiny_model import make_model, make_tokenizer

from edgeft import hf
from edgeft.artifacts import Message
from edgeft.dataset.tokenizer import PlainTokenizer

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
    texts = ["", "plain text", *(theirs.render(CONVERSATION[:count], count == 1) for count in (1, 2))]
    assert [ours.render(CONVERSATION[:count], count == 1) for count in (1, 2)] == texts[2:]
    assert ours.encode_all is not None
    assert ours.encode_all(texts) == [theirs.encode(text) for text in texts] == [ours.encode(text) for text in texts]
    assert (ours.end_ids, ours.text_end) == (tuple(theirs.end_ids), theirs.text_end)
    if bos:
        bos_id = opener.__self__.bos_id
        assert bos_id is not None
        assert all(ids.count(bos_id) == 1 for ids in ours.encode_all(texts))


def test_where_they_differ_transformers_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = make_model(tmp_path / "model")
    monkeypatch.setattr(PlainTokenizer, "_with_bos", lambda self, ids: [*ids, 0])
    opener = hf.tokenizer_opener(checkpoint.path)
    assert isinstance(opener, partial)
    view = pickle.loads(pickle.dumps(opener))()
    assert view.encode("a b") == hf.open_tokenizer(checkpoint.path).encode("a b")
