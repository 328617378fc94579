"""Texts -> sketches of their character 4-grams, many texts at a time.

A sketch holds the `SKETCH` smallest of the hashes of a text's distinct 4-grams. It is the whole set where there are no
more, and then similarities are exact; else it is a sample of the set that is fair across texts (bottom-k sketches,
Cohen and Kaplan 2007), so the Jaccard similarity can be estimated from it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

SKETCH = 96
_GRAM = 4
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xD6E8FEB86659FD93)
_HALF = np.uint64(32)
_NO_LETTERS = re.compile(r"[\W_]+")


def normalised(text: str) -> str:
    """Returns a text without what hardly makes a difference: case, punctuation, white space, compatibility forms."""
    folded = unicodedata.normalize("NFKC", text).casefold() if not text.isascii() else text.lower()
    return _NO_LETTERS.sub(" ", folded).strip() or folded.strip()


def sketches(texts: Sequence[str]) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]:
    """Returns the sketches of normalised texts, ascending and one after another, and the length of each."""
    padded = [f" {text} ".ljust(_GRAM) for text in texts]
    owners = np.repeat(np.arange(len(padded), dtype=np.uint64), [len(text) for text in padded])
    codes = np.frombuffer("".join(padded).encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(np.uint64)
    count = len(codes) - _GRAM + 1
    hashes = codes[:count].copy()
    for place in range(1, _GRAM):
        hashes *= _SPREAD
        hashes += codes[place : place + count]
    within = owners[:count] == owners[_GRAM - 1 :]
    keys = (owners[:count] << _HALF) | (_mixed(hashes) >> _HALF)
    keys = np.sort(keys[within])
    keys = keys[np.concatenate(([True], keys[1:] != keys[:-1]))]
    bounds = np.searchsorted(keys >> _HALF, np.arange(len(padded) + 1, dtype=np.uint64))
    lengths = np.diff(bounds)
    rank = np.arange(len(keys)) - np.repeat(bounds[:-1], lengths)
    values = (keys[rank < SKETCH] & np.uint64(0xFFFFFFFF)).astype(np.uint32)
    return values, np.minimum(lengths, SKETCH).astype(np.int64)


def similarities(
    values: npt.NDArray[np.uint32],
    starts: npt.NDArray[np.int64],
    lengths: npt.NDArray[np.int64],
    whole: npt.NDArray[np.bool_],
    left: npt.NDArray[np.int64],
    right: npt.NDArray[np.int64],
) -> npt.NDArray[np.float64]:
    """Returns the Jaccard similarity of the sketches numbered `left` and `right`, pair by pair.

    Sketch i is `values[starts[i] : starts[i] + lengths[i]]`; `whole[i]` says that it is the whole set.
    """
    both = np.concatenate((left, right))
    pairs = np.tile(np.arange(len(left), dtype=np.uint64), 2)
    keys = np.sort((np.repeat(pairs, lengths[both]) << _HALF) | values[runs(starts[both], lengths[both])])
    again = np.concatenate(([False], keys[1:] == keys[:-1]))
    pair = (keys >> _HALF).astype(np.int64)
    bounds = np.searchsorted(pair, np.arange(len(left) + 1))
    nth = np.cumsum(~again) - 1  # the how-manieth distinct value, over all pairs
    first = np.concatenate((nth, [0]))[bounds[:-1]]
    # The union is known as far as the shorter of two sketches reaches that are samples.
    reach = np.where(whole, np.iinfo(np.int64).max, lengths)
    known = nth - np.repeat(first, np.diff(bounds)) < np.repeat(np.minimum(reach[left], reach[right]), np.diff(bounds))
    union = np.bincount(pair[known & ~again], minlength=len(left))
    common = np.bincount(pair[known & again], minlength=len(left))
    return np.divide(common, union, out=np.zeros(len(left)), where=union > 0)


def runs(starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Returns the numbers from each start on, as many as its length, one after another."""
    ends: npt.NDArray[np.int64] = np.cumsum(lengths)
    within: npt.NDArray[np.int64] = np.arange(lengths.sum()) - np.repeat(ends - lengths, lengths)
    return within + np.repeat(starts, lengths)


def _mixed(hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    for _ in range(2):
        hashes ^= hashes >> _HALF
        hashes *= _MIX
    return hashes ^ (hashes >> _HALF)
