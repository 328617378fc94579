"""Byte-level or SentencePiece: what makes the pieces decides, not what the decoder is called."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from convert.models import byte_level_tokenizer, llama_tokenizer, sentencepiece_model
from tokenizers import Tokenizer

from edgeft import hf
from edgeft.config import ConvertConfig
from edgeft.convert.tokenizer import prove_tokenizer
from edgeft.given_template import given_template
from edgeft.pieces import is_byte_level, piece_namer

BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
FALLBACK = [{"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]


def change(folder: Path, edit: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Edits tokenizer.json, and returns it."""
    path = folder / "tokenizer.json"
    described: dict[str, Any] = json.loads(path.read_text())
    edit(described)
    path.write_text(json.dumps(described))
    return described


def as_transformers_loads_gguf(described: dict[str, Any]) -> None:
    """The decoder and the model that transformers 5.17 writes for SmolLM2's GGUF file."""
    described["decoder"] = {"type": "Sequence", "decoders": [*FALLBACK, BYTES]}
    described["model"]["byte_fallback"] = True


def without_decoder(described: dict[str, Any]) -> None:
    described["decoder"] = None


def with_a_fallback_alone(described: dict[str, Any]) -> None:
    described["decoder"] = {"type": "Sequence", "decoders": FALLBACK}
    described["model"]["byte_fallback"] = True


@pytest.mark.parametrize("edit", [as_transformers_loads_gguf, without_decoder, with_a_fallback_alone])
def test_byte_level_by_its_splitting_rules(tmp_path: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    byte_level_tokenizer(tmp_path, "smollm")
    described = change(tmp_path, edit)
    assert is_byte_level(described)
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert piece_namer(tokenizer)("\u0120a\u010a") == b" a\n"
    ids = tokenizer.encode("Äpfel  aß\n", add_special_tokens=False).ids
    assert b"".join(hf.tokenizer_opener(tmp_path)().pieces(ids)) == "Äpfel  aß\n".encode()
    proved = prove_tokenizer(tmp_path, {}, 576, "Model", ConvertConfig(random_texts=50), tuned=False)
    assert (proved.vocabulary.kind, proved.vocabulary.pre, proved.warnings) == ("gpt2", "smollm", ())


def test_a_base_model_without_a_template_is_given_one_by_its_pieces(tmp_path: Path) -> None:
    byte_level_tokenizer(tmp_path, "smollm")
    (tmp_path / "chat_template.jinja").unlink()
    before = given_template(tmp_path)
    change(tmp_path, as_transformers_loads_gguf)
    assert before is not None and given_template(tmp_path) == before


def test_a_normalizer_may_make_bytes() -> None:
    normalizer = {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "ByteLevel"}]}
    assert is_byte_level({"normalizer": normalizer, "pre_tokenizer": None, "decoder": None})


def test_sentencepiece_is_none_whatever_decodes_it(tmp_path: Path) -> None:
    llama_tokenizer(tmp_path, sentencepiece_model(tmp_path / "model"), chat=True)
    described = json.loads((tmp_path / "tokenizer.json").read_text())
    assert not is_byte_level(described)
    assert not is_byte_level(described | {"decoder": BYTES})
    described["decoder"] = BYTES
    assert piece_namer(Tokenizer.from_str(json.dumps(described)))("\u2581a") == b" a"
