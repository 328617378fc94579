"""Records whose prompts are the same or hardly differ, found in nearly linear time.

MinHash with banding (Broder 1997; Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, chapter 3) proposes
pairs, and the similarity of their sketches decides. With 14 bands of 5 rows, a pair of similarity 0.85 is proposed with
a probability of 0.9997, one of 0.7 with 0.92 and one of 0.5 with 0.36: lower thresholds would miss too many.

What very many prompts share, as an instruction around every question, would make all of them near-duplicates. So
two prompts have to be alike in the whole and in what few others have, too.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from edgeft.dataset.check.roll import hash64
from edgeft.dataset.check.shingles import SKETCH, normalised, runs, similarities, sketches
from edgeft.dataset.check.texts import asked
from edgeft.dataset.records import Record

_BANDS, _ROWS = 14, 5
_NEIGHBOURS = 8
_BATCH_CHARACTERS = 500_000
_CHUNK = 16_384
_PAIRS_AT_ONCE = 20_000
# A 4-gram is common when this share of the prompts has it, and it takes so many prompts to tell.
_COMMON_SHARE, _LEAST_TO_TELL, _SAMPLE = 0.1, 100, 20_000
# A prompt that this many records have, or this share of them, does not tell them apart: their answers do.
_MOST_ALIKE, _MOST_ALIKE_SHARE = 10, 0.05
# Fewer values than this of a sketch that is a sample tell nothing.
_LEAST_LEFT = 8
_NEARLY = 0.99

_Ints = npt.NDArray[np.int64]


class NearDuplicates:
    """Groups records by their prompts; a plain text is grouped by its text.

    `groups` and `partners` may be asked for once all records are added.
    """

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._prompts = array("Q")
        self._wholes = array("Q")
        self._seen: set[int] = set()
        self._waiting: list[str] = []
        self._characters = 0
        self._values: list[npt.NDArray[np.uint32]] = []
        self._lengths: list[_Ints] = []
        self._found: tuple[_Ints, _Ints, npt.NDArray[np.float32]] | None = None

    def add(self, record: Record) -> None:
        """Adds the next record."""
        text = normalised(asked(record))
        prompt = hash64(text)
        self._prompts.append(prompt)
        self._wholes.append(hash64(f"{text}\n{normalised(record.answer)}"))
        if prompt in self._seen:
            return
        self._seen.add(prompt)
        self._waiting.append(text)
        self._characters += len(text)
        if self._characters > _BATCH_CHARACTERS:
            self._sketch()

    def groups(self) -> _Ints:
        """Returns for each record, in order of adding, the number of the first record of its group.

        Records whose prompts are the same but for case and punctuation are of one group, and those that are linked by
        near-duplicates.
        """
        return self._result()[0]

    def partners(self) -> tuple[_Ints, npt.NDArray[np.float32]]:
        """Returns for each record an earlier one that is its near-duplicate, and how similar it is; -1 for none.

        It is the earliest that there is, as far as it was seen: so records of one split are best added before those
        that are compared with them.
        """
        return self._result()[1:]

    def _sketch(self) -> None:
        if self._waiting:
            values, lengths = sketches(self._waiting)
            self._values.append(values)
            self._lengths.append(lengths)
            self._waiting, self._characters = [], 0

    def _result(self) -> tuple[_Ints, _Ints, npt.NDArray[np.float32]]:
        if self._found is None:
            self._sketch()
            self._seen.clear()
            self._found = self._find()
            self._values.clear()
        return self._found

    def _find(self) -> tuple[_Ints, _Ints, npt.NDArray[np.float32]]:
        count = len(self._prompts)
        partner, similarity = np.full(count, -1, dtype=np.int64), np.zeros(count, dtype=np.float32)
        if not count:
            return np.zeros(0, dtype=np.int64), partner, similarity
        first, sizes = first_of(np.frombuffer(self._prompts, dtype=np.uint64))
        everyday = (sizes > max(_MOST_ALIKE, _MOST_ALIKE_SHARE * count)) | (sizes * 2 > count)
        label = np.where(everyday, first_of(np.frombuffer(self._wholes, dtype=np.uint64))[0], first)
        numbers = np.arange(count)
        same = label != numbers
        partner[same], similarity[same] = label[same], 1
        distinct = np.flatnonzero(first == numbers)  # sketch i is of record distinct[i]
        prompts = _Prompts(np.concatenate(self._values), np.concatenate(self._lengths))
        for left, right, alike in prompts.pairs(self._threshold):
            earlier, later = distinct[left], distinct[right]
            merge(label, earlier, later)
            order = np.argsort(-earlier, kind="stable")  # of several for one record, the last one written stays
            earlier, later = earlier[order], later[order]
            alike = np.minimum(alike[order], _NEARLY)  # 1 is for the same text
            better = (partner[later] < 0) | (earlier < partner[later])
            partner[later[better]], similarity[later[better]] = earlier[better], alike[better]
        return label, partner, similarity


class _Prompts:
    """The sketches of distinct prompts, and the part of each that is not common."""

    def __init__(self, values: npt.NDArray[np.uint32], lengths: _Ints) -> None:
        self._values, self._lengths = values, lengths
        self._starts = np.cumsum(lengths) - lengths
        self._whole = lengths < SKETCH
        common = self._common()
        self._told_by = values if common is None else values[~common]
        self._told_lengths = lengths
        if common is not None:
            sums = np.concatenate(([0], np.cumsum(~common)))
            self._told_lengths = sums[self._starts + lengths] - sums[self._starts]
        self._told_starts = np.cumsum(self._told_lengths) - self._told_lengths
        self._compared = np.flatnonzero(self._told_lengths >= np.where(self._whole, 1, _LEAST_LEFT))

    def pairs(self, threshold: float) -> Iterator[tuple[_Ints, _Ints, npt.NDArray[np.float64]]]:
        """Yields numbers of pairs at least so similar, the lower one first; a pair may come again."""
        random = np.random.default_rng(0)
        for _ in range(_BANDS):
            left, right = _neighbours(self._band(random.integers(1, 2**32, (2, _ROWS), dtype=np.uint32)))
            left, right = self._compared[left], self._compared[right]
            for start in range(0, len(left), _PAIRS_AT_ONCE):
                part = slice(start, start + _PAIRS_AT_ONCE)
                yield self._alike(left[part], right[part], threshold)

    def _alike(self, left: _Ints, right: _Ints, threshold: float) -> tuple[_Ints, _Ints, npt.NDArray[np.float64]]:
        short, long = np.sort((self._lengths[left], self._lengths[right]), axis=0)
        possible = short >= threshold * long  # of samples the lengths are the same
        left, right = left[possible], right[possible]
        told = similarities(self._told_by, self._told_starts, self._told_lengths, self._whole, left, right)
        left, right = left[told >= threshold], right[told >= threshold]
        alike = similarities(self._values, self._starts, self._lengths, self._whole, left, right)
        kept = alike >= threshold
        return left[kept], right[kept], alike[kept]

    def _band(self, factors: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint64]:
        """Returns one hash of `_ROWS` minima for each sketch that is compared."""
        keys = np.zeros(len(self._compared), dtype=np.uint64)
        for start in range(0, len(keys), _CHUNK):
            numbers = self._compared[start : start + _CHUNK]
            lengths = self._told_lengths[numbers]
            values = self._told_by[runs(self._told_starts[numbers], lengths)]
            firsts = np.cumsum(lengths) - lengths
            for factor, mask in factors.T:
                minima = np.minimum.reduceat((values ^ mask) * (factor | np.uint32(1)), firsts)
                keys[start : start + _CHUNK] = keys[start : start + _CHUNK] * np.uint64(0x9E3779B97F4A7C15) + minima
        return keys

    def _common(self) -> npt.NDArray[np.bool_] | None:
        """Returns which values are common ones, None when none is."""
        count = len(self._lengths)
        if count < _LEAST_TO_TELL:
            return None
        sample = np.arange(0, count, -(-count // _SAMPLE))
        seen = self._values[runs(self._starts[sample], self._lengths[sample])]
        values, counts = np.unique(seen, return_counts=True)
        common = values[counts > _COMMON_SHARE * len(sample)]
        if not len(common):
            return None
        found = np.zeros(len(self._values), dtype=np.bool_)
        for start in range(0, len(found), 2**20):
            part = self._values[start : start + 2**20]
            found[start : start + 2**20] = common[np.minimum(np.searchsorted(common, part), len(common) - 1)] == part
        return found


def first_of(hashes: npt.NDArray[np.uint64]) -> tuple[_Ints, _Ints]:
    """Returns for each hash the number of the first one that equals it, and how many do."""
    _, first, inverse, counts = np.unique(hashes, return_index=True, return_inverse=True, return_counts=True)
    return first[inverse], counts[inverse]


def merge(label: _Ints, left: _Ints, right: _Ints) -> None:
    """Gives the groups of the linked records `left` and `right` one label, the lowest, in place."""
    while True:
        ours, theirs = label[left], label[right]
        if np.array_equal(ours, theirs):
            return
        np.minimum.at(label, np.maximum(ours, theirs), np.minimum(ours, theirs))
        while not np.array_equal(further := label[label], label):
            label[:] = further


def _neighbours(keys: npt.NDArray[np.uint64]) -> tuple[_Ints, _Ints]:
    """Returns pairs of numbers with the same key: each with the first of them and with the next few.

    All pairs of a key that very many share would be too many. What matters holds together by these.
    """
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    starts = np.concatenate(([True], ordered[1:] != ordered[:-1]))
    first = np.flatnonzero(starts)[np.cumsum(starts) - 1] if len(keys) else order
    far = np.flatnonzero(np.arange(len(keys)) - first > _NEIGHBOURS)
    lefts, rights = [order[first[far]]], [order[far]]
    for step in range(1, _NEIGHBOURS + 1):
        same = np.flatnonzero(ordered[step:] == ordered[:-step])
        lefts.append(order[same])
        rights.append(order[same + step])
    return np.concatenate(lefts), np.concatenate(rights)


def near_groups(records: Iterable[Record], threshold: float) -> npt.NDArray[np.int64]:
    """Returns the number of each record's group of near-duplicates, those at least so similar, (records,)."""
    near = NearDuplicates(threshold)
    for record in records:
        near.add(record)
    return near.groups()
