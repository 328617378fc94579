"""llama.cpp through edgeft's engine is the model that transformers runs in float32."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_model import make_model
from transformers import PreTrainedTokenizerFast

from edgeft import hf
from edgeft.artifacts import Checkpoint, GgufFile, Message
from edgeft.config import ConvertConfig
from edgeft.convert import convert
from edgeft.errors import EdgeftError
from edgeft.llamacpp import Engine
from edgeft.probe_texts import PROBES
from edgeft.weights import CheckpointWeights

N_CTX = 256
MESSAGES: list[Message] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What is the temperature in the garden? 🙂"},
]


@pytest.fixture(scope="module")
def engine(tiny_f32: GgufFile) -> Iterator[Engine]:
    """The tiny model in llama.cpp with everything in float32."""
    with Engine(tiny_f32, N_CTX, exact_kv=True, threads=2) as opened:
        yield opened


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Checkpoint) -> hf.PreTrainedModel:
    """The tiny model in transformers, float32."""
    return hf.load_model(tiny_checkpoint, "cpu", torch.float32)


@pytest.fixture(scope="module")
def tokenizer(tiny_checkpoint: Checkpoint) -> hf.Tokenizer:
    """The tiny model's tokenizer."""
    return hf.load_tokenizer(tiny_checkpoint.path)


def nmse(reference: np.ndarray, tested: np.ndarray) -> float:
    """Returns the mean square error over the reference's variance."""
    return float(((reference - tested) ** 2).mean() / reference.var())


@pytest.mark.parametrize("text", [*PROBES, "", "a<|im_end|>b", "<|im_start|>user\nhi<|im_end|>\n"])
def test_ids_are_those_of_transformers(engine: Engine, tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    ids = engine.encode(text)
    assert ids == tokenizer(text, add_special_tokens=False)["input_ids"]
    assert b"".join(engine.piece(token, special=True) for token in ids).decode() == text


def test_special_tokens_are_recognised_only_when_asked(engine: Engine) -> None:
    (end,) = engine.encode("<|im_end|>")
    assert engine.ends(end)
    assert engine.is_control(end)
    assert engine.piece(end) == b""
    assert engine.piece(end, special=True) == b"<|im_end|>"
    plain = engine.encode("<|im_end|>", special=False)
    assert end not in plain
    assert engine.decode(plain) == "<|im_end|>"
    assert not engine.ends(plain[0])
    assert not engine.is_control(plain[0])


@pytest.mark.parametrize("prompt", [True, False])
def test_prompts_are_those_of_transformers(engine: Engine, tokenizer: hf.Tokenizer, prompt: bool) -> None:
    rendered = engine.render(MESSAGES, prompt)
    assert rendered == hf.render(tokenizer, MESSAGES, prompt)
    assert engine.encode_prompt(rendered) == hf.encode(tokenizer, rendered)
    assert not engine.adds_bos


def test_logits_are_those_of_transformers(engine: Engine, model: hf.PreTrainedModel, tokenizer: hf.Tokenizer) -> None:
    ids = hf.encode(tokenizer, hf.render(tokenizer, MESSAGES, True)) * 3
    theirs = hf.logits(model, ids).numpy()
    ours = engine.logits(ids)
    assert ours.shape == theirs.shape == (len(ids), engine.n_vocab)
    # Both sum in float32 in different orders: 1e-11 measured. A wrong rotation or norm gives more than 1e-3.
    assert nmse(theirs, ours) < 1e-9


def test_logits_over_several_batches(tmp_path: Path) -> None:
    checkpoint = make_model(tmp_path / "model", max_position_embeddings=1024, num_hidden_layers=1)
    gguf = convert(CheckpointWeights(checkpoint), checkpoint, ConvertConfig(dtype="f32"), tmp_path / "m.gguf")
    with Engine(gguf, 1024, exact_kv=True, threads=2) as engine:
        ids = _random_ids(engine, 700)
        ours = engine.logits(ids)
    theirs = hf.logits(hf.load_model(checkpoint, "cpu", torch.float32), ids).numpy()
    assert nmse(theirs, ours) < 1e-9  # as above


def _random_ids(engine: Engine, count: int) -> list[int]:
    ids: list[int] = np.random.default_rng(0).integers(3, engine.n_vocab, count).tolist()
    return ids


def test_f16_is_near(tiny_f16: GgufFile, model: hf.PreTrainedModel, tokenizer: hf.Tokenizer) -> None:
    ids = hf.encode(tokenizer, hf.render(tokenizer, MESSAGES, True))
    with Engine(tiny_f16, N_CTX, threads=2) as engine:
        assert engine.file_type == "F16"
        error = nmse(hf.logits(model, ids).numpy(), engine.logits(ids))
    # Matrices and KV rounded to 11 bits: (2^-12)^2 = 6e-8 for each of some dozen operations. Above zero: it is F16.
    assert 0 < error < 1e-5


def test_greedy_answers_are_those_of_transformers(
    engine: Engine, model: hf.PreTrainedModel, tokenizer: hf.Tokenizer
) -> None:
    for text in ("turn on the light", "x", "What is 21 degrees?"):
        prompt = engine.encode_prompt(engine.render([{"role": "user", "content": text}]))
        (theirs,) = hf.generate(model, tokenizer, [prompt], [tokenizer.eos_token_id], 24)
        assert list(engine.generate(prompt, 24)) == theirs


def test_generation_stops_after_the_end_token(engine: Engine, tokenizer: hf.Tokenizer) -> None:
    """A prompt of which the model says the end token next; found by search, as the model is random."""
    end = tokenizer.eos_token_id
    sequence = _random_ids(engine, N_CTX)
    found = np.flatnonzero(engine.logits(sequence).argmax(axis=-1) == end)
    if not len(found):  # tied embeddings: a model fed with the end token is likely to say it again
        sequence = [token for other in sequence[: N_CTX // 2] for token in (other, end)]
        found = np.flatnonzero(engine.logits(sequence).argmax(axis=-1) == end)
    assert len(found)
    assert list(engine.generate(sequence[: found[0] + 1], 5)) == [end]


def test_a_prefix_is_reused_without_a_trace(tiny_f32: GgufFile, engine: Engine) -> None:
    base = engine.encode("turn on the light in the kitchen and the garden")
    other = engine.encode("What is it?")
    prompts = [base, base[:6], base, [*base, *other], [*base[:4], *other], other, base]
    answers = [list(engine.generate(prompt, 12)) for prompt in prompts]
    for prompt, answer in zip(prompts, answers, strict=True):
        with Engine(tiny_f32, N_CTX, exact_kv=True, threads=2) as fresh:
            assert answer == list(fresh.generate(prompt, 12))
    assert len({tuple(answer) for answer in answers}) > 1


def test_an_answer_left_in_the_middle_and_logits_between_leave_no_trace(engine: Engine) -> None:
    prompt = engine.encode("turn on the light")
    whole = list(engine.generate(prompt, 12))
    assert list(islice(engine.generate(prompt, 12), 2)) == whole[:2]
    assert list(engine.generate(prompt, 12)) == whole
    before = engine.logits(prompt)
    assert list(engine.generate(prompt, 12)) == whole
    assert np.array_equal(engine.logits(prompt), before)


def test_an_answer_ends_where_the_context_does(tiny_f32: GgufFile) -> None:
    with Engine(tiny_f32, 64, threads=2) as engine:
        prompt = _random_ids(engine, 64)
        assert len(list(engine.generate(prompt[:60], 50))) == 4
        with pytest.raises(EdgeftError, match="do not fit a context of 64"):
            list(engine.generate(prompt, 50))


def test_a_context_is_at_most_what_the_model_was_trained_for(tiny_f32: GgufFile) -> None:
    with Engine(tiny_f32, 100_000) as engine:
        assert engine.n_ctx == 512


def test_a_file_that_is_no_gguf(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"PK\x03\x04" * 100)
    with pytest.raises(EdgeftError, match="this is not a GGUF file"):
        GgufFile.open(path)
    with pytest.raises(EdgeftError, match="no such file"):
        GgufFile.open(tmp_path / "nowhere.gguf")


@pytest.mark.parametrize("share", [0.9, 0.5, 0.001])
def test_a_truncated_file(tiny_f32: GgufFile, tmp_path: Path, share: float) -> None:
    path = tmp_path / "model.gguf"
    content = tiny_f32.path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(EdgeftError, match=r"model\.gguf: llama\.cpp cannot load this file: \S+"):
        Engine(GgufFile.open(path), N_CTX)


def test_a_file_without_a_chat_template(tiny_checkpoint: Checkpoint, tiny_f32: GgufFile) -> None:
    with Engine(tiny_f32, N_CTX) as engine:
        del engine.metadata["tokenizer.chat_template"]
        with pytest.raises(EdgeftError, match="has no chat template"):
            engine.render(MESSAGES)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux's list of what is mapped")
@pytest.mark.parametrize("mapped", [True, False])
def test_weights_are_mapped_or_read(mapped: bool, tiny_f32: GgufFile, tmp_path: Path) -> None:
    gguf = GgufFile(Path(shutil.copy(tiny_f32.path, tmp_path)))
    with Engine(gguf, 64, mapped=mapped) as engine:
        assert (str(gguf.path) in Path("/proc/self/maps").read_text()) == mapped
        assert len(list(engine.generate([5, 6, 7], 4))) > 0


def test_a_template_for_tools_is_taken_where_there_are_tools(tmp_path: Path) -> None:
    """As transformers chooses it."""
    checkpoint = make_model(tmp_path / "model")
    (checkpoint.path / "additional_chat_templates").mkdir()
    template = "{% for tool in tools %}{{ tool.function.name }};{% endfor %}{{ messages[0].content }}"
    (checkpoint.path / "additional_chat_templates" / "tool_use.jinja").write_text(template)
    config = ConvertConfig(dtype="f32", random_texts=100)
    made = convert(CheckpointWeights(checkpoint), checkpoint, config, tmp_path / "model.gguf")
    tools: list[Any] = [{"type": "function", "function": {"name": "look", "parameters": {}}}]
    asked: list[Message] = [{"role": "user", "content": "hello"}]
    tokenizer = hf.load_tokenizer(checkpoint.path)
    with Engine(made, 128) as engine:
        for given in ([], tools):
            expected = tokenizer.apply_chat_template(asked, tools=given or None, tokenize=False)
            assert engine.render(asked, False, given) == expected
            assert ("look;hello" in expected) == bool(given)
