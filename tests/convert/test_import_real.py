"""Real models out of GGUF files that others made: SmolLM2 (Q4_1), and Gemma 3 (Q4_K_M) where it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import pytest
import real_models
import torch

from convert.models import to_gguf
from convert.runtime import logits
from edgeft import hf
from edgeft.artifacts import Checkpoint
from edgeft.convert.from_gguf import Imported, import_gguf, read_model
from edgeft.llamacpp import Vocabulary
from edgeft.llamacpp.blocks import quantize_rows
from edgeft.probe_texts import PROBES, every_byte, random_texts

# Both sum in float32, in another order: measured 5e-12 for SmolLM2. With Gemma, llama.cpp besides looks GELU up in a
# table of half precision (test_families.py): measured 4e-7.
_MAX_NMSE = {"smollm2": 1e-9, "gemma3": 2e-6}
# The file itself is computed with activations rounded to 8 bits, block by block: measured 2.1e-3 for SmolLM2 and
# 4.8e-3 for Gemma.
_MAX_NMSE_AS_IT_IS = 2e-2
_TEXT = "The capital of France is Paris, and the capital of Italy is Rome. Water boils at 100 degrees."


@dataclass(frozen=True)
class Real:
    """A file that others made, the checkpoint that it becomes, and the F32 file of that."""

    name: str
    file: Path
    imported: Imported
    exact: Path

    @property
    def folder(self) -> Path:
        return self.imported.checkpoint.path


_FILES: dict[str, Callable[[], Path]] = {"smollm2": real_models.smollm2_path, "gemma3": real_models.gemma_path}


@pytest.fixture(scope="module", params=_FILES)
def real(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Real:
    name: str = request.param
    file = _FILES[name]()
    out = tmp_path_factory.mktemp(name) / "imported"
    out.mkdir()
    imported = import_gguf(read_model(file), out)
    return Real(name, file, imported, to_gguf(out, out.parent / "f32.gguf", "f32").path)


def test_the_tensors_are_what_gguf_dequantizes(real: Real) -> None:
    theirs = {tensor.name: tensor for tensor in gguf.GGUFReader(real.file).tensors}
    ours = {tensor.name: tensor for tensor in gguf.GGUFReader(real.exact).tensors}
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        other = gguf.quants.dequantize(theirs[name].data, theirs[name].tensor_type)
        assert tensor.data.tobytes() == other.astype(np.float32).tobytes(), name


def test_quantized_again_the_codes_are_the_files(real: Real, record_property: Callable[[str, object], None]) -> None:
    """Where a block has its extremes in use, as a quantizer that rounds to nearest leaves it, its scale comes back.

    K-quants search their scales, and find others among values that are rounded already.
    """
    shares: dict[str, list[float]] = {}
    exact = {tensor.name: tensor for tensor in gguf.GGUFReader(real.exact).tensors}
    for tensor in gguf.GGUFReader(real.file).tensors:
        kind = tensor.tensor_type.name
        if kind != "F32":
            rows = exact[tensor.name].data.reshape(-1, tensor.shape[0])[:512]
            codes = quantize_rows(np.ascontiguousarray(rows), kind)
            theirs = tensor.data.reshape(-1, codes.shape[1])[:512]
            shares.setdefault(kind, []).append(float((codes == theirs).mean()))
    found = {kind: float(np.mean(values)) for kind, values in shares.items()}
    record_property("codes", found)
    assert found["Q8_0"] > 0.999, found
    assert found.get("Q4_1", 1.0) > 0.999, found


def test_llama_cpp_computes_what_transformers_does(real: Real, record_property: Callable[[str, object], None]) -> None:
    with Vocabulary(real.file) as vocabulary:
        ids = vocabulary.encode(_TEXT, framed=True)
    model = hf.load_model(real.imported.checkpoint, "cpu", torch.float32)
    expected = hf.logits(model, ids).double().numpy()

    def distance(path: Path) -> float:
        return float(np.mean((logits(path, ids) - expected) ** 2) / expected.var())

    exact, as_it_is = distance(real.exact), distance(real.file)
    record_property("nmse", (exact, as_it_is))
    assert exact < _MAX_NMSE[real.name], (exact, as_it_is)
    assert as_it_is < _MAX_NMSE_AS_IT_IS, (exact, as_it_is)


def test_ids_are_those_of_the_file(real: Real) -> None:
    tokenizer = hf.load_tokenizer(real.folder)
    special = [token.content for token in tokenizer.added_tokens_decoder.values()][:300]
    glued = [text for token in special for text in (token, f"a{token}b", f" {token} ", f"{token}\n{token}{token} x")]
    with Vocabulary(real.file) as vocabulary:
        for text in [*PROBES, *every_byte(), *glued, *random_texts(2000, seed=1, between=special)]:
            assert tokenizer(text)["input_ids"] == vocabulary.encode(text, framed=True), repr(text)


def test_it_answers_as_it_is_known_to(real: Real) -> None:
    if real.name != "smollm2":
        pytest.skip("a base model, which has no chat template")
    tokenizer = hf.load_tokenizer(real.folder)
    rendered = hf.render(tokenizer, [{"role": "user", "content": "What is the capital of France?"}], True)
    model = hf.load_model(Checkpoint.open(real.folder), "cpu", torch.float32)
    ends = hf.end_token_ids(tokenizer, real.folder)
    (answer,) = hf.generate(model, tokenizer, [hf.encode(tokenizer, rendered)], ends, 16)
    assert tokenizer.decode(answer, skip_special_tokens=True) == "The capital of France is Paris."
