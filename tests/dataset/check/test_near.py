"""Near-duplicates against a reference that compares every pair by its sets."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeft.dataset.check.near import NearDuplicates, merge
from edgeft.dataset.check.shingles import SKETCH, normalised, similarities, sketches
from edgeft.dataset.findings import Place
from edgeft.dataset.records import Record

THRESHOLD = 0.85
# A pair so similar is missed once in twenty million.
SURELY = 0.93


def record(prompt: str, answer: str = "Done.") -> Record:
    return Record(({"role": "user", "content": prompt}, {"role": "assistant", "content": answer}), Place("here"))


def grouped(prompts: Sequence[str], answers: Sequence[str] | None = None) -> list[int]:
    near = NearDuplicates(THRESHOLD)
    for prompt, answer in zip(prompts, answers or ["Done."] * len(prompts), strict=True):
        near.add(record(prompt, answer))
    return list(map(int, near.groups()))


def grams(text: str) -> set[str]:
    padded = f" {normalised(text)} ".ljust(4)
    return {padded[i : i + 4] for i in range(len(padded) - 3)}


def jaccard(left: str, right: str) -> float:
    return len(grams(left) & grams(right)) / len(grams(left) | grams(right))


def components(prompts: Sequence[str], threshold: float) -> list[int]:
    """Returns the reference: the first record of the group of each."""
    label = list(range(len(prompts)))
    for i, left in enumerate(prompts):
        for j in range(i):
            if label[i] != label[j] and jaccard(left, prompts[j]) >= threshold:
                old, new = max(label[i], label[j]), min(label[i], label[j])
                label = [new if one == old else one for one in label]
    return label


WORDS = st.sampled_from(["lamp", "kitchen", "the", "off", "Größe", "light", "ночь", "turn", "7", "窓を開けて", "a"])
SENTENCES = st.lists(WORDS, min_size=0, max_size=14).map(" ".join)


@st.composite
def variants(draw: st.DrawFn) -> list[str]:
    """Draws sentences, and copies of some with a character or two changed."""
    prompts = draw(st.lists(SENTENCES, min_size=1, max_size=12))
    for _ in range(draw(st.integers(0, 12))):
        copy = draw(st.sampled_from(prompts))
        place = draw(st.integers(0, len(copy)))
        prompts.append(copy[:place] + draw(st.sampled_from(["", "x", "!", " ", "É"])) + copy[place + 1 :])
    return prompts


@settings(max_examples=150, deadline=None)
@given(variants())
def test_groups_are_those_of_the_reference(prompts: list[str]) -> None:
    # Nobody says anything: such records are told apart by their answers, which are the same here.
    prompts = [prompt or "Done." for prompt in prompts]
    groups, loose, strict = grouped(prompts), components(prompts, THRESHOLD), components(prompts, SURELY)
    for i in range(len(prompts)):
        for j in range(i):
            if groups[i] == groups[j]:
                assert loose[i] == loose[j]
            if strict[i] == strict[j]:
                assert groups[i] == groups[j]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=60))
def test_merging(links: list[tuple[int, int]]) -> None:
    label = np.arange(31)
    merge(label, np.array([a for a, _ in links], dtype=np.int64), np.array([b for _, b in links], dtype=np.int64))
    expected = list(range(31))
    for left, right in links:
        old, new = max(expected[left], expected[right]), min(expected[left], expected[right])
        expected = [new if one == old else one for one in expected]
    assert label.tolist() == expected


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(max_size=60), min_size=2, max_size=6))
def test_similarities_of_short_texts_are_exact(texts: list[str]) -> None:
    values, lengths = sketches([normalised(text) for text in texts])
    whole, count = lengths < SKETCH, len(texts)
    left, right = np.arange(count - 1), np.arange(1, count)
    found = similarities(values, np.cumsum(lengths) - lengths, lengths, whole, left, right)
    assert np.allclose(found, [jaccard(texts[i], texts[i + 1]) for i in range(count - 1)])


def words(generator: random.Random, count: int) -> list[str]:
    return ["".join(generator.choices("abcdefghijklmnoprstuvw", k=generator.randint(2, 9))) for _ in range(count)]


def test_similarities_of_long_texts_are_near() -> None:
    generator = random.Random(1)
    texts = []
    for changed in (0, 5, 20, 60, 200):
        text = words(generator, 400)
        other = [*words(generator, changed), *text[changed:]]
        texts += [" ".join(text), " ".join(other)]
    values, lengths = sketches(texts)
    left = np.arange(0, len(texts), 2)
    found = similarities(values, np.cumsum(lengths) - lengths, lengths, lengths < SKETCH, left, left + 1)
    assert np.abs(found - [jaccard(texts[i], texts[i + 1]) for i in left]).max() < 0.15


def test_few_pairs_are_missed_among_many() -> None:
    generator = random.Random(2)
    prompts = [" ".join(words(generator, generator.randint(8, 40))) for _ in range(2000)]
    copies = [f"{prompt} {generator.choice(['x', 'yes', 'so'])}" for prompt in prompts]
    groups = grouped(prompts + copies)
    similar = [i for i in range(2000) if jaccard(prompts[i], copies[i]) >= THRESHOLD]
    assert len(similar) > 1500
    assert sum(groups[2000 + i] == i for i in similar) >= 0.998 * len(similar)
    assert len(set(groups[:2000])) == 2000


def test_an_instruction_around_every_question_is_no_likeness() -> None:
    generator = random.Random(3)
    instruction = "Classify the review that follows as good or bad, and say nothing else but that one word: "
    reviews = [" ".join(words(generator, 4)) for _ in range(300)]
    prompts = [instruction + review for review in [*reviews, f"{reviews[7]}!"]]
    assert jaccard(prompts[0], prompts[1]) > 0.5
    assert grouped(prompts) == [*range(300), 7]
    longer = [instruction * 4 + prompt for prompt in prompts]
    assert jaccard(longer[0], longer[1]) > 0.5
    assert grouped(longer) == [*range(300), 7]


def test_a_prompt_that_most_records_share_does_not_tell_them_apart() -> None:
    poems = [f"A poem about {word}." for word in words(random.Random(4), 40)]
    assert grouped(["Write a poem."] * 41, [*poems, poems[3].upper()]) == [*range(40), 3]
    some = [" ".join(words(random.Random(n), 9)) for n in range(60)]
    assert grouped([*some, some[0], some[0]], ["a"] * 60 + ["b", "c"]) == [*range(60), 0, 0]


def test_partners_are_the_earliest() -> None:
    near = NearDuplicates(THRESHOLD)
    prompt = "please turn on every light in the whole of the upper floor"
    for text in ("unlike", prompt, f"{prompt} x", f"{prompt} y", f"{prompt}!"):
        near.add(record(text))
    partners, alike = near.partners()
    assert partners.tolist() == [-1, -1, 1, 1, 1]
    assert alike[4] == 1 > alike[2] >= THRESHOLD


def test_no_records() -> None:
    assert grouped([]) == []
    assert grouped(["?!"]) == [0]
