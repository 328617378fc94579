"""What quantization is chosen by are training records: what judges a file is in neither imatrix nor passages."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from tiny_run import make_run

from edgeft.artifacts import Checkpoint, Tokens
from edgeft.cli import main
from edgeft.config import ImatrixConfig
from edgeft.dataset.store import TokenizedExamples
from edgeft.imatrix import measured_texts
from edgeft.quantize.passages import passages

_ALL = 1_000_000


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with its tokens; each record has a number of its own."""
    config = make_run(tmp_path_factory.mktemp("passages"))
    overrides = ["--set", "dataset.evaluation_fraction=0.3"]
    result = CliRunner().invoke(main, ["run", "tokens", "-c", str(config), *overrides], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return config.parent


def held(tokens: Tokens, part: str) -> list[list[int]]:
    examples = TokenizedExamples(tokens.path / part)
    return [list(examples[number].ids) for number in range(len(examples))]


def test_an_importance_matrix_sees_the_training_records_alone(run: Path) -> None:
    tokens, config = Tokens(run / "run" / "tokens"), ImatrixConfig(chunk_tokens=16, tokens=_ALL)
    (chunks,) = measured_texts(Checkpoint.open(run / "base"), tokens, [], config).values()
    seen = [token for chunk in chunks for token in chunk]
    assert seen == [token for ids in held(tokens, "train") for token in ids][: len(seen)]
    text = " ".join(map(str, seen))
    evaluated = held(tokens, "evaluation")
    assert evaluated
    assert not any(" ".join(map(str, ids)) in text for ids in evaluated)


def test_passages_are_records_of_the_part_that_is_asked_for(run: Path) -> None:
    tokens = Tokens(run / "run" / "tokens")
    chosen, judged = ([p.ids for p in passages(tokens, _ALL, part)] for part in ("train", "evaluation"))
    assert sorted(map(list, chosen)) == sorted(held(tokens, "train"))
    assert sorted(map(list, judged)) == sorted(held(tokens, "evaluation"))


def test_passages_are_as_many_as_have_the_places_and_count_answers(run: Path) -> None:
    tokens = Tokens(run / "run" / "tokens")
    some = passages(tokens, 40)
    places = [len(passage.places) for passage in some]
    assert sum(places[:-1]) < 40 <= sum(places)
    examples = TokenizedExamples(tokens.path / "train")
    by_ids = {tuple(examples[number].ids): examples[number].trained for number in range(len(examples))}
    for passage in some:
        trained = by_ids[tuple(passage.ids)]
        assert [place + 1 for place in passage.places] == [n for n in range(1, len(trained)) if trained[n]]
