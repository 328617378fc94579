"""The best adapter by the task metric: answers to the evaluation's records while training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_training import CONFIG, make_tokens, run

from edgeft import hf
from edgeft.artifacts import Adapter, Checkpoint
from edgeft.config import LoraConfig, TrainConfig
from edgeft.dataset.findings import Place
from edgeft.dataset.mask import Example
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
