"""A measurement that was interrupted is gone on with where it is the same one, and begun anew where it is another."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from adapters import make_adapter
from gguf import GGUFReader
from peft import LoraConfig
from tiny_model import make_model
from tiny_run import make_run

from edgeft import hf, imatrix
from edgeft.artifacts import Adapter, Checkpoint, Tokens
from edgeft.config import ImatrixConfig, load_config
from edgeft.convert import tensor_names
from edgeft.graph.importance import write_importance
from edgeft.imatrix import make_imatrix, measured_texts
from edgeft.imatrix_file import Imatrix, read_imatrix
from edgeft.merge import load_merged
from edgeft.progress import Progress

CONFIG = ImatrixConfig(chunk_tokens=32, tokens=512, batch_size=2)
STOPPED_AT = 4


class Attempt:
    """Measures a file `im.gguf`; `begun_at` is the chunk that the last attempt began with."""

    def __init__(self, folder: Path) -> None:
        self.out = folder / "im.gguf"
        self.begun_at: float = -1

    def _reporter(self, stop: bool) -> Progress:
        def report(done: float, total: float, status: str = "") -> None:
            if self.begun_at < 0:
                self.begun_at = done
            if stop and done >= STOPPED_AT:
                raise KeyboardInterrupt

        return report

    def __call__(self, measure: Callable[[Path, Progress], object], *, stop: bool = False) -> Imatrix | None:
        """Measures, to the end or until it is stopped."""
        self.begun_at = -1
        if stop:
            with pytest.raises(KeyboardInterrupt):
                measure(self.out, self._reporter(stop))
            assert not self.out.exists()
            return None
        measure(self.out, self._reporter(stop))
        assert [path.name for path in self.out.parent.glob("im.*")] == ["im.gguf"]
        return read_imatrix(self.out)


@pytest.fixture
def attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Attempt:
    """Attempts that save after each batch."""
    monkeypatch.setattr(imatrix, "_SAVE_SECONDS", 0)
    (tmp_path / "attempt").mkdir()
    return Attempt(tmp_path / "attempt")


def measuring(
    checkpoint: Checkpoint, texts: dict[str, list[list[int]]], config: ImatrixConfig = CONFIG
) -> Callable[[Path, Progress], Imatrix]:
    load = partial(hf.load_model, checkpoint, "cpu", torch.float32)

    def measure(out: Path, progress: Progress) -> Imatrix:
        return make_imatrix(load, tensor_names(checkpoint), texts, config, out, progress)

    return measure


def chunks(seed: int) -> dict[str, list[list[int]]]:
    """Random tokens under one name, and as many of them whatever the seed."""
    return {"some.txt": np.random.default_rng(seed).integers(3, 300, (12, 32)).tolist()}


def test_the_same_measurement_is_gone_on_with(tiny_checkpoint: Checkpoint, attempt: Attempt) -> None:
    measure = measuring(tiny_checkpoint, chunks(0))
    attempt(measure, stop=True)
    attempt(measure)
    assert attempt.begun_at == STOPPED_AT
    assert not [key for key in GGUFReader(attempt.out).fields if key.startswith("edgeft")]


@pytest.mark.parametrize("what", ["text", "model", "one weight", "output matrix"])
def test_another_measurement_is_begun_anew(
    what: str, tiny_checkpoint: Checkpoint, attempt: Attempt, tmp_path: Path
) -> None:
    """The text has the name and the length of that before, the model its shape."""
    if what == "one weight":
        model = hf.load_model(tiny_checkpoint, "cpu", torch.float32)
        with torch.no_grad():
            model.get_parameter("model.layers.1.mlp.up_proj.weight")[100, 100] += 1
        model.save_pretrained(tmp_path / "changed")
        hf.load_tokenizer(tiny_checkpoint.path).save_pretrained(tmp_path / "changed")
    changed = {
        "text": lambda: measuring(tiny_checkpoint, chunks(1)),
        "model": lambda: measuring(make_model(tmp_path / "other", seed=1), chunks(0)),
        "one weight": lambda: measuring(Checkpoint.open(tmp_path / "changed"), chunks(0)),
        "output matrix": lambda: measuring(tiny_checkpoint, chunks(0), CONFIG.model_copy(update={"output": True})),
    }[what]()
    attempt(measuring(tiny_checkpoint, chunks(0)), stop=True)
    got = attempt(changed)
    assert attempt.begun_at == 0
    alone = changed(tmp_path / "alone.gguf", lambda done, total, status="": None)
    assert got is not None and got.squares.keys() == alone.squares.keys()
    for name, squares in alone.squares.items():
        assert np.array_equal(got.squares[name].counts, squares.counts)
        np.testing.assert_array_equal(got.squares[name].sums, squares.sums)


def test_what_is_no_importance_matrix_is_not_gone_on_with(tiny_checkpoint: Checkpoint, attempt: Attempt) -> None:
    attempt.out.with_name("im.gguf.partial").write_bytes(b"something else")
    attempt(measuring(tiny_checkpoint, chunks(0)))
    assert attempt.begun_at == 0


def test_the_stage_of_a_run_is_gone_on_with(attempt: Attempt, tmp_path: Path) -> None:
    """The model is merged again, to the same weights."""
    asked = ["text=some.txt", "records=false", "chunk_tokens=32", "batch_size=2"]
    config = load_config(make_run(tmp_path / "run"), [f"imatrix.{setting}" for setting in asked])
    (tmp_path / "run" / "some.txt").write_text("turn on the light in the garden. " * 60)
    base = Checkpoint.open(tmp_path / "run" / "base")
    adapter: Adapter = make_adapter(base, LoraConfig(task_type="CAUSAL_LM", r=4), tmp_path / "adapter")

    def measure(out: Path, progress: Progress) -> None:
        load = partial(load_merged, base, adapter, "original", "cpu")
        write_importance(config, base, Tokens(tmp_path), load, out, progress)

    attempt(measure, stop=True)
    attempt(measure)
    assert attempt.begun_at == STOPPED_AT


def test_files_of_one_name_are_all_measured(tiny_checkpoint: Checkpoint, tmp_path: Path) -> None:
    """One that is named twice counts once."""
    paths = [tmp_path / folder / "t.txt" for folder in ("a", "b")]
    for path, words in zip(paths, ("turn on the light. ", "what is the temperature? "), strict=True):
        path.parent.mkdir()
        path.write_text(words * 40)
    alone = [measured_texts(tiny_checkpoint, None, [path], CONFIG)["t.txt"] for path in paths]
    got = measured_texts(tiny_checkpoint, None, [*paths, tmp_path / "b" / ".." / "a" / "t.txt"], CONFIG)
    assert list(got) == ["t.txt", "t.txt (2)"]
    assert list(got.values()) == alone
