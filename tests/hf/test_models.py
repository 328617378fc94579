"""Answers are greedy, whatever the base's own settings of generation say."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from edgeft.artifacts import Checkpoint
from edgeft.config import LoraConfig
from edgeft.hf import add_lora, end_token_ids, generate, load_model, load_tokenizer

PROMPTS = [[5, 9, 11], [7, 3, 20, 21, 8]]


def greedy(model: torch.nn.Module, prompt: list[int], ends: list[int], most: int) -> list[int]:
    """Returns the likeliest token after the tokens so far, one after another."""
    ids = list(prompt)
    while len(ids) < len(prompt) + most and ids[-1] not in ends:
        ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(prompt) :]


@pytest.mark.parametrize(
    "settings",
    [{}, {"repetition_penalty": 1.3}, {"no_repeat_ngram_size": 2}, {"num_beams": 4}, {"min_length": 30}],
    ids=str,
)
@pytest.mark.parametrize("adapted", [False, True])
def test_answers_are_greedy(
    settings: dict[str, Any], adapted: bool, tiny_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_checkpoint.path, folder)
    (folder / "generation_config.json").write_text(json.dumps(settings | {"do_sample": True, "temperature": 0.7}))
    model: Any = load_model(Checkpoint.open(folder), "cpu", torch.float32)
    if adapted:
        model = add_lora(model, LoraConfig(rank=2), prepare=False)
    tokenizer = load_tokenizer(folder)
    ends = end_token_ids(tokenizer, folder)
    with torch.inference_mode():
        expected = [greedy(model, prompt, ends, 24) for prompt in PROMPTS]
    assert generate(model, tokenizer, PROMPTS, ends, 24) == expected
    for key, value in settings.items():
        assert getattr(model.generation_config, key) == value
