"""Real pretrained models, as others made their files: each is held to the tokenizer that it was made of."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest
from convert.vocabularies import rebuild
from real_models import needs_gemma
from tokenizers import Tokenizer

from edgeft.artifacts import GgufFile
from edgeft.convert.proof import Asked, Verdict, examine, expected

N_RANDOM = 2000
Edit = Callable[[dict[str, Any]], None]


def examined(file: GgufFile, folder: Path, edit: Edit | None = None, *, sentencepiece: bool = False) -> Verdict:
    """Holds a file to the tokenizer.json that its vocabulary is, changed by `edit`."""
    rebuild(file.path, folder)
    described = json.loads((folder / "tokenizer.json").read_text())
    if edit is not None:
        edit(described)
    tokenizer = Tokenizer.from_str(json.dumps(described))
    fields = gguf.GGUFReader(file.path).fields
    keys = {name: field.contents() for name, field in fields.items() if name.startswith("tokenizer.") and "_id" in name}
    eos, bos = keys["tokenizer.ggml.eos_token_id"], keys["tokenizer.ggml.bos_token_id"]
    template = fields["tokenizer.chat_template"].contents() if "tokenizer.chat_template" in fields else None
    names = {"bos_token": str(tokenizer.id_to_token(bos)), "eos_token": str(tokenizer.id_to_token(eos))}
    held = expected(tokenizer, Asked(template, names, bos, frozenset({eos})), N_RANDOM, sentencepiece=sentencepiece)
    assert len(held.texts) > N_RANDOM
    return examine(file.path, held, 0.0, file.path.name)


def _no_space_before(described: dict[str, Any]) -> None:
    described["normalizer"] = described["normalizer"]["normalizers"][1]  # tokenizer.ggml.add_space_prefix is false


def _without_digits(described: dict[str, Any]) -> None:
    """What transformers' own loader of GGUF files makes of SmolLM2: GPT-2's rules, digits not split apart."""
    steps = described["pre_tokenizer"]["pretokenizers"]
    assert [step["type"] for step in steps] == ["Digits", "ByteLevel"]
    del steps[0]


def _lose_merges(described: dict[str, Any]) -> None:
    described["model"]["merges"] = described["model"]["merges"][:20_000]


def test_smollm2_has_the_ids_of_its_tokenizer(smollm2_gguf: GgufFile, tmp_path: Path) -> None:
    assert examined(smollm2_gguf, tmp_path / "m") == Verdict([], 0)


def test_digits_of_rare_scripts_are_a_warning_on_a_published_file(smollm2_gguf: GgufFile, tmp_path: Path) -> None:
    verdict = examined(smollm2_gguf, tmp_path / "m", _without_digits)
    assert verdict.problems == []
    assert ["texts of rare signs" in warning.what for warning in verdict.warnings] == [True]
    assert verdict.n_wrong > 0


def test_lost_merges_hit_what_people_write(smollm2_gguf: GgufFile, tmp_path: Path) -> None:
    (problem,) = examined(smollm2_gguf, tmp_path / "m", _lose_merges).problems
    assert "texts otherwise than the model's tokenizer" in problem.what


@needs_gemma
def test_gemma_has_the_ids_of_its_tokenizer(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    file: GgufFile = request.getfixturevalue("gemma_gguf")
    assert examined(file, tmp_path / "m", _no_space_before, sentencepiece=True) == Verdict([], 0)
