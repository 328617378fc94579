"""The best adapter by the task metric: answers to the evaluation's records while training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from template_zoo import SHAPES
from tiny_model import make_model
from tiny_training import CONFIG, SMALL, make_tokens, run

from edgeft import hf
from edgeft.artifacts import Adapter, Checkpoint
from edgeft.config import LoraConfig, TrainConfig
from edgeft.dataset.findings import Place
from edgeft.dataset.mask import Example, tokenize_last_turn
from edgeft.dataset.records import Record
from edgeft.dataset.store import TokenWriter
from edgeft.dataset.tokens import TokenizedExamples
from edgeft.errors import EdgeftError
from edgeft.train.answers import Answers

# Enough training that fields are right: the answers name the room and the state of the question.
LEARNING = CONFIG.model_copy(
    update={"epochs": 30, "accumulation": 1, "learning_rate": 2e-2, "evaluations": 5, "patience": 99, "answers": 4}
    | {"lora": LoraConfig(rank=16), "best_by": "field_f1"}
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tokens(tmp_path_factory.mktemp("train"))


@pytest.mark.parametrize("packing", [False, True], ids=["padded", "packed"])
def test_the_best_is_the_one_that_answers_best(folder: Path, tmp_path: Path, packing: bool) -> None:
    """What was logged at the best step is what the kept adapter, loaded again, answers."""
    config: TrainConfig = LEARNING.model_copy(update={"packing": packing})
    out = run(folder, tmp_path / "out", config)
    lines = [json.loads(line) for line in (out / "logs" / "metrics.jsonl").read_text().splitlines()]
    scores = {line["step"]: line["eval_field_f1"] for line in lines if "eval_field_f1" in line}
    assert len(scores) == 5
    figures = json.loads((out / "training.json").read_text())
    assert figures["best_by"] == {"field_f1": max(scores.values())}
    assert scores[figures["best_step"]] == max(scores.values()) > 0
    base = Checkpoint.open(folder / "base")
    model = hf.load_adapted(base, Adapter.open(out), "cpu")
    again = Answers(base, TokenizedExamples(folder / "run" / "tokens" / "evaluation"), 4, "field_f1")(model)
    assert again == {"field_f1": pytest.approx(scores[figures["best_step"]])}


@pytest.mark.parametrize("packing", [False, True], ids=["padded", "packed"])
def test_answering_between_steps_changes_no_training(folder: Path, tmp_path: Path, packing: bool) -> None:
    config = LEARNING.model_copy(update={"epochs": 2, "packing": packing, "evaluations": 7})
    answering = run(folder, tmp_path / "answering", config)
    quiet = run(folder, tmp_path / "quiet", config.model_copy(update={"best_by": "loss"}))
    assert losses(answering) == losses(quiet)


def losses(adapter: Path) -> list[float]:
    lines = map(json.loads, (adapter / "logs" / "metrics.jsonl").read_text().splitlines())
    return [line[key] for line in lines for key in ("loss", "eval_loss") if key in line]


def write(folder: Path, *examples: Example) -> TokenizedExamples:
    with TokenWriter(folder) as writer:
        for example in examples:
            writer.append(example, Place("train.jsonl", 1))
    return TokenizedExamples(folder)


def test_what_cannot_be_measured_is_said_before_training(folder: Path, tmp_path: Path) -> None:
    base = Checkpoint.open(folder / "base")
    text = write(tmp_path / "text", Example([5, 6, 7], [True, True, True]))
    with pytest.raises(EdgeftError, match="there is no conversation among the evaluation's records"):
        Answers(base, text, 4, "exact_match")
    words = write(tmp_path / "words", Example([5, 6, 7, 8], [False, True, False, True]))
    assert Answers(base, words, 4, "exact_match")
    with pytest.raises(EdgeftError, match="some answers of the evaluation's records are no JSON objects"):
        Answers(base, words, 4, "field_f1")


class Says:
    """Stands for a model that gives these answers, by the ids of their prompts."""

    device = "cpu"
    generation_config = None

    def __init__(self, answers: dict[tuple[int, ...], list[int]]) -> None:
        self.answers = answers

    def generate(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **settings: Any) -> torch.Tensor:
        """Returns prompts and answers, as transformers does."""
        pad = settings["pad_token_id"]
        kept = [tuple(row[mask.bool()].tolist()) for row, mask in zip(input_ids, attention_mask, strict=True)]
        said = [self.answers[prompt] for prompt in kept]
        width = max(map(len, said))
        padded = torch.tensor([ids + [pad] * (width - len(ids)) for ids in said])
        return torch.cat([input_ids, padded], dim=1)


@pytest.mark.parametrize("trained", ["", "<think>\nIt is on.\n</think>\n\n"], ids=["no thoughts", "thoughts"])
def test_thoughts_and_an_empty_one_are_no_part_of_an_answer(trained: str, tmp_path: Path) -> None:
    """Qwen3's kind of template: it wrote an empty thought before each answer, and right answers were none."""
    base = make_model(tmp_path / "base", **SMALL)
    (base.path / "chat_template.jinja").write_text(SHAPES["qwen 3"].plain)
    view = hf.open_tokenizer(base.path)
    answers = [json.dumps({"state": state, "room": room}) for state in ("on", "off") for room in ("hall", "attic")]
    examples, right, wrong = [], {}, {}
    for number, answer in enumerate(answers):
        question = {"role": "user", "content": f"light {number}"}
        record = Record((question, {"role": "assistant", "content": trained + answer}), Place("here", number + 1))
        _, prompt, turn = tokenize_last_turn(record, view)
        examples.append(Example(prompt + turn, [False] * len(prompt) + [True] * len(turn)))
        said = "<think>\nAnother thought.\n</think>\n\n" + answer if trained else answer
        right[tuple(prompt)] = [*view.encode_more(said), *turn[-1:]] if trained else turn
        wrong[tuple(prompt)] = [*view.encode_more(said.replace("o", "0")), *turn[-1:]]
    evaluation = write(tmp_path / "evaluation", *examples)
    for metric in ("exact_match", "field_f1"):
        measured = Answers(base, evaluation, 4, metric)
        assert measured(Says(right)) == {metric: 1.0}
        assert measured(Says(wrong)) == {metric: 0.0}
