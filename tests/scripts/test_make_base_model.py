"""The base model's maker: its families say the truth, its shards are reproducible, and a small version runs through."""

from __future__ import annotations

import json
import random
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS))

from base_model import words  # noqa: E402
from base_model.bpe import train_tokenizer  # noqa: E402
from base_model.documents import Family, Turn, render  # noqa: E402
from base_model.draw import Draw, is_held_out  # noqa: E402
from base_model.evaluation import copy_prompts  # noqa: E402
from base_model.families import FAMILIES, record_kinds, requests, slots  # noqa: E402
from base_model.model import build_config, build_model, next_token_logits, weighted_loss  # noqa: E402
from base_model.shards import ANSWER_WEIGHT, CONTEXT_WEIGHT, Markup, ShardPlan, loss_weights, make_shard  # noqa: E402
from base_model.training import Trainer, TrainingConfig, learning_rate, save_checkpoint  # noqa: E402

FORBIDDEN = (
    "thermostat",
    "turn on the light",
    "set an alarm",
    "set a timer",
    "playlist",
    "rate this book",
    "weather in",
)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(seed=3, vocab_size=1024, sample_bytes=400_000)


@pytest.fixture(scope="module")
def tokenizer_path(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tokenizer.save(str(path))
    return path


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_family_writes_wellformed_documents(family: Family) -> None:
    draw = Draw(random.Random(7))
    for _ in range(150):
        document = family.make(draw)
        text = render(document)
        assert not any(phrase in text.lower() for phrase in FORBIDDEN)
        if isinstance(document, str):
            assert "<|" not in document
            continue
        roles = [turn.role for turn in document]
        asked = roles[1:] if roles[0] == "system" else roles
        assert asked == ["user", "assistant"] * (len(asked) // 2) and asked
        for turn in document:
            assert "<|" not in turn.content
            assert turn.role == "system" or turn.content.strip()
            assert turn.role != "assistant" or turn.content[0] not in " \n"


def test_same_seed_same_documents() -> None:
    for family in FAMILIES:
        one, two = (family.make(Draw(random.Random(11))) for _ in range(2))
        assert one == two


def test_families_answer_with_spans_of_the_request() -> None:
    draw = Draw(random.Random(5))
    for _ in range(300):
        request = requests.make_request(draw)
        for value in request.values.values():
            assert value in request.text
    for kind in record_kinds.RECORDS:
        for _ in range(40):
            text, stated, _keys = record_kinds.write(draw, kind)
            assert stated
            for value in stated.values():
                assert value in text


def test_bare_requests_answer_with_valid_json() -> None:
    draw = Draw(random.Random(6))
    for _ in range(200):
        document = slots.request_bare(draw)
        assert not isinstance(document, str)
        answer = document[-1].content
        assert json.dumps(json.loads(answer), ensure_ascii=False) == answer


def test_values_keep_out_of_the_held_out_pool() -> None:
    makers = (Draw.word, Draw.person, Draw.place, Draw.code, Draw.digits, Draw.title, Draw.email, Draw.thing)
    draw = Draw(random.Random(1))
    assert not any(is_held_out(make(draw)) for make in makers for _ in range(400))
    wanted = [pair for cell in copy_prompts(1, 20).values() for pair in cell]
    for prompt, answer in wanted:
        value = next(iter(json.loads(answer).values())) if answer.startswith("{") else answer
        assert is_held_out(value) and value in prompt


def test_word_lists_have_no_doubles() -> None:
    for name in ("FIRST_NAMES", "SURNAMES", "CITIES", "OBJECTS", "FOODS", "ANIMALS", "JOBS", "ADJECTIVES", "ABSTRACT"):
        entries = getattr(words, name)
        assert len(entries) == len(set(entries)), name


def test_tokenizer_is_lossless(tokenizer: Tokenizer) -> None:
    for text in (
        "Zoë's\r\n\tcafé 2041  x",
        "e\u0301 is not é",
        "日本 \U0001f600",
        " a  b ",
        "".join(map(chr, range(1, 256))),
    ):
        assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text


def test_loss_weights_mark_answers_with_their_end(tokenizer: Tokenizer) -> None:
    turns = [
        Turn("system", "Be brief."),
        Turn("user", "hi 12"),
        Turn("assistant", "Hello!"),
        Turn("user", "bye"),
        Turn("assistant", "so long"),
    ]
    ids = np.array(tokenizer.encode(render(turns)).ids, np.uint16)
    weights = loss_weights(ids, Markup.of(tokenizer))
    answered = tokenizer.decode(ids[weights == ANSWER_WEIGHT].tolist(), skip_special_tokens=False)
    assert answered == "Hello!<|im_end|>so long<|im_end|>"
    assert set(weights.tolist()) == {ANSWER_WEIGHT, CONTEXT_WEIGHT}


def test_shards_depend_on_seed_and_number_alone(tokenizer: Tokenizer, tokenizer_path: Path, tmp_path: Path) -> None:
    plan = ShardPlan(seed=2, rows=24, context=512, tokenizer=tokenizer_path, folder=tmp_path)
    one, again, other = make_shard(plan, 4, tokenizer), make_shard(plan, 4, tokenizer), make_shard(plan, 5, tokenizer)
    assert all((one[name] == again[name]).all() for name in one)
    assert (one["tokens"] != other["tokens"]).any()
    assert one["tokens"].shape == one["weights"].shape == (24, 512)
    text = [tokenizer.decode(row.tolist(), skip_special_tokens=False) for row in one["tokens"]]
    for row in text:
        for document in row.rstrip().split("<|endoftext|>"):
            assert document.count("<|im_start|>") == document.count("<|im_end|>")


def test_logits_and_loss_equal_transformers_own() -> None:
    config = build_config(vocab_size=300, hidden=64, layers=2, heads=2, context=64, end_of_text=0, turn_end=2)
    model = build_model(config, seed=1, device="cpu")
    tokens = torch.randint(3, 300, (3, 40), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        mine = next_token_logits(model, tokens)
        theirs = model(input_ids=tokens, labels=tokens)
        loss, _ = weighted_loss(model, tokens, torch.full(tokens.shape, 10, dtype=torch.uint8))
    # Both run the same modules in float32 on one machine; only the order of the causal mask's sums may differ.
    torch.testing.assert_close(mine, theirs.logits, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(loss, theirs.loss, rtol=1e-5, atol=1e-5)


def test_learning_rate_rises_stays_and_falls_to_zero() -> None:
    config = TrainingConfig(tokens=1, batch=1, learning_rate=1.0, warmup=10)
    rates = [learning_rate(config, step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and rates[9:75] == [1.0] * 66
    assert rates[75:] == sorted(rates[75:], reverse=True) and rates[-1] == pytest.approx(0.04)


def test_a_resumed_training_gives_the_same_weights(tmp_path: Path) -> None:
    config = build_config(vocab_size=64, hidden=32, layers=1, heads=1, context=16, end_of_text=0, turn_end=2)
    plan = ShardPlan(1, rows=2, context=16, tokenizer=tmp_path / "none", folder=tmp_path)
    training = TrainingConfig(tokens=6 * 32, batch=2, learning_rate=0.01)
    batches = torch.randint(3, 64, (6, 2, 16), generator=torch.Generator().manual_seed(2))
    weights = torch.full((2, 16), 10, dtype=torch.uint8)

    def run(path: Path, steps: range) -> Trainer:
        trainer = Trainer(build_model(config, seed=1, device="cpu"), training, plan, path, "cpu")
        assert trainer.progress.step == steps.start
        for at in steps:
            trainer.step(batches[at], weights)
        save_checkpoint(path, trainer.model, trainer.optimizer, trainer.progress)
        return trainer

    whole = run(tmp_path / "whole.safetensors", range(6))
    run(tmp_path / "parts.safetensors", range(3))
    resumed = run(tmp_path / "parts.safetensors", range(3, 6))
    for one, two in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(one, two)


def _make(work: Path, out: Path, *more: str) -> str:
    command = [sys.executable, str(SCRIPTS / "make_base_model.py"), "--work", str(work), "--out", str(out)]
    command += shlex.split(
        "--device cpu --layers 1 --hidden 32 --heads 1 --vocab 512 --context 512 --batch 4 --tokens 20480"
    )
    command += shlex.split("--rows-per-shard 8 --workers 1 --tokenizer-sample-mb 0.4 --eval-documents 1 --copy-count 1")
    done = subprocess.run([*command, *more], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_small_version_stops_resumes_and_saves_a_model_that_loads(tmp_path: Path) -> None:
    work, out = tmp_path / "work", tmp_path / "models" / "base"
    # Less than the reserve for the checkpoint: it must stop before its first step, and say how to go on.
    assert "resume with the same command" in _make(work, out, "--max-minutes", "0.01")
    assert not out.exists()
    assert f"saved {out}" in _make(work, out)
    assert {path.name for path in out.iterdir()} == {
        "model.safetensors", "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
        "chat_template.jinja", "README.md",
    }  # fmt: skip
    model = AutoModelForCausalLM.from_pretrained(out)
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert model.config.tie_word_embeddings and model.dtype == torch.bfloat16
    assert (tokenizer.eos_token, tokenizer.pad_token, tokenizer.bos_token) == ("<|im_end|>", "<|endoftext|>", None)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "hi"}], tokenize=False, add_generation_prompt=True
    )
    assert prompt == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    card = (out / "README.md").read_text(encoding="utf-8")
    assert all(family.name in card for family in FAMILIES) and "10 x 4 x 512" in card
    assert not list((work / "shards").glob("*.partial"))
