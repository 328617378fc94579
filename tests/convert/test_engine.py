"""Conversations with models whose memory is not a plain KV cache: sliding windows and recurrent layers."""

from __future__ import annotations

from pathlib import Path

import pytest

from convert.cases import CASES
from convert.models import byte_level_tokenizer, to_gguf
from convert.zoo import make
from edgeft.artifacts import GgufFile
from edgeft.llamacpp import Engine

_IDS = ("LFM2: tied", "Qwen3.5: more value heads, tied", "Gemma 2: window")


def _answer(engine: Engine, ids: list[int]) -> list[int]:
    return list(engine.generate(ids, 8))


@pytest.mark.parametrize("name", _IDS)
def test_a_second_prompt_is_answered_as_if_it_were_the_first(name: str, tmp_path: Path) -> None:
    byte_level_tokenizer(tmp_path / "bpe", "qwen2")
    case = next(case for case in CASES if case.id == name)
    make(case, tmp_path / "model", tmp_path / "bpe")
    gguf: GgufFile = to_gguf(tmp_path / "model", tmp_path / "m.gguf")
    first, second = list(range(20, 120)), [*range(20, 100), *range(300, 320)]
    with Engine(gguf, 256) as engine:
        _answer(engine, first)
        again = _answer(engine, second)
    with Engine(gguf, 256) as engine:
        assert _answer(engine, second) == again
