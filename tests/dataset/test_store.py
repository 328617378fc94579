"""Stores give back what was written, are whole or absent, and take no memory to open."""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeft.dataset.findings import Place
from edgeft.dataset.mask import Example
from edgeft.dataset.store import TokenizedExamples, TokenWriter, copy_examples
from edgeft.errors import EdgeftError

EXAMPLES = [Example([5, 2**31 - 1, 0], [False, True, True]), Example([], []), Example([7], [False])]
PLACES = [Place("a.jsonl", 3), Place("b.jsonl", 1), Place("a.jsonl", 2**32 - 1)]
examples_strategy = st.lists(
    st.lists(st.tuples(st.integers(0, 2**31 - 1), st.booleans()), max_size=9).map(
        lambda pairs: Example([token for token, _ in pairs], [flag for _, flag in pairs])
    ),
    max_size=12,
)


def write(folder: Path, examples: Sequence[Example]) -> TokenizedExamples:
    """Writes examples, the i-th from line i."""
    with TokenWriter(folder) as writer:
        for line, example in enumerate(examples):
            writer.append(example, Place("made", line))
    return TokenizedExamples(folder)


@settings(deadline=None)
@given(examples_strategy)
def test_what_is_written_is_read(examples: list[Example]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = write(Path(folder) / "store", examples)
        assert [store[index] for index in range(len(store))] == examples
        assert store.lengths.tolist() == [len(example.ids) for example in examples]


@settings(deadline=None)
@given(examples_strategy, st.data())
def test_copies_are_the_chosen_examples_pass_by_pass(examples: list[Example], data: st.DataObject) -> None:
    passes = data.draw(st.lists(st.integers(0, 3), min_size=len(examples), max_size=len(examples)))
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "store", examples)
        with TokenWriter(Path(folder) / "copy") as writer:
            writer.file_number("another")
            copy_examples(Path(folder) / "store", np.array(passes, dtype=np.int64), writer)
        copy = TokenizedExamples(Path(folder) / "copy")
        taken = [index for repetition in range(3) for index, count in enumerate(passes) if count > repetition]
        assert [copy[index] for index in range(len(copy))] == [examples[index] for index in taken]
        assert [copy.place(index) for index in range(len(copy))] == [Place("made", index) for index in taken]


def test_copying_goes_across_blocks(tmp_path: Path) -> None:
    examples = [Example([number] * (number % 5), [True] * (number % 5)) for number in range(10_000)]
    write(tmp_path / "store", examples)
    with TokenWriter(tmp_path / "copy") as writer:
        copy_examples(tmp_path / "store", np.arange(10_000) % 2, writer)
    copy = TokenizedExamples(tmp_path / "copy")
    assert [copy[index] for index in range(len(copy))] == examples[1::2]


def test_places_say_which_record_it_was(tmp_path: Path) -> None:
    with TokenWriter(tmp_path / "store") as writer:
        for removed, (example, place) in enumerate(zip(EXAMPLES, PLACES, strict=True)):
            writer.append(example, place, removed)
    store = TokenizedExamples(tmp_path / "store")
    assert [store.place(index) for index in range(3)] == PLACES
    assert [store.removed_messages(index) for index in range(3)] == [0, 1, 2]
    assert store.files == ["a.jsonl", "b.jsonl"]


def test_arrays_are_plain_little_endian_bytes(tmp_path: Path) -> None:
    write(tmp_path / "store", [Example([1, 258], [False, True])])
    assert (tmp_path / "store" / "ids.bin").read_bytes() == bytes([1, 0, 0, 0, 2, 1, 0, 0])
    assert (tmp_path / "store" / "trained.bin").read_bytes() == bytes([0, 1])
    assert (tmp_path / "store" / "offsets.bin").read_bytes() == bytes([0] * 8 + [2] + [0] * 7)


def test_a_store_is_mapped_and_its_pickle_too(tmp_path: Path) -> None:
    store = write(tmp_path / "store", [Example([1] * 100_000, [True] * 100_000)])
    assert isinstance(store.ids, np.memmap)
    pickled = pickle.dumps(store)
    assert len(pickled) < 1000
    assert pickle.loads(pickled)[0] == store[0]


def test_an_exception_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyError), TokenWriter(tmp_path / "store") as writer:
        writer.append(EXAMPLES[0], PLACES[0])
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    write(tmp_path / "store", EXAMPLES)
    with pytest.raises(EdgeftError, match="already exists"):
        write(tmp_path / "store", EXAMPLES)
    assert len(TokenizedExamples(tmp_path / "store")) == 3


@pytest.mark.parametrize("name", ["ids", "trained", "offsets", "places"])
def test_a_cut_file_is_damage(tmp_path: Path, name: str) -> None:
    write(tmp_path / "store", EXAMPLES)
    path = tmp_path / "store" / f"{name}.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(EdgeftError, match=f"{name}.bin: this file is damaged"):
        TokenizedExamples(tmp_path / "store")


def test_what_is_no_store_is_said(tmp_path: Path) -> None:
    with pytest.raises(EdgeftError, match="no tokenized examples here"):
        TokenizedExamples(tmp_path)
    (tmp_path / "header.json").write_text('{"format": "edgeft tokens 0"}')
    with pytest.raises(EdgeftError, match="another version of edgeft"):
        TokenizedExamples(tmp_path)
