"""Which languages and scripts the prompts are in, by a sample that is fair and always the same."""

from __future__ import annotations

import heapq
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterator
from functools import cache
from typing import Any

from py3langid.langid import MODEL_FILE, LanguageIdentifier

from edgeft.dataset.check.texts import asked
from edgeft.dataset.findings import Finding, Place
from edgeft.dataset.records import Record

_SAMPLE = 2000
_MOST_CHARACTERS = 300
_SURE = 0.95
_LEAST_LETTERS = {"Latin": 20}  # alphabets of one or few languages need fewer
_LEAST_LETTERS_ELSE = 6
# What has to be seen of a language before its absence elsewhere is worth a word.
_LEAST_RECORDS, _LEAST_SHARE, _LEAST_SURE = 3, 0.02, 30
_SCRIPTS = {
    "cjk": "Han", "hiragana": "Japanese", "katakana": "Japanese", "halfwidth": "Japanese", "fullwidth": "Latin"
}  # fmt: skip


class Languages:
    """The languages of the prompts of one split."""

    def __init__(self, split: str) -> None:
        self.split = split
        self._records = 0
        self._sample: list[tuple[int, int, str, Place]] = []
        self._told: tuple[Counter[str], Counter[str], dict[str, Place]] | None = None

    def add(self, record: Record) -> Iterator[Finding]:
        """Takes a record in: into the sample, if its hash is among the lowest."""
        text = asked(record)[:_MOST_CHARACTERS]
        rank = -zlib.crc32(text.encode("utf-8", "surrogatepass"))
        self._records += 1
        if len(self._sample) < _SAMPLE:
            heapq.heappush(self._sample, (rank, -self._records, text, record.place))
        elif rank > self._sample[0][0]:
            heapq.heapreplace(self._sample, (rank, -self._records, text, record.place))
        return iter(())

    def tell(self) -> tuple[Counter[str], Counter[str], dict[str, Place]]:
        """Returns how many of the sample are in each language, as far as one is sure, and in each script.

        And for each language and script the first of the sample that is in it.
        """
        if self._told is None:
            languages: Counter[str] = Counter()
            scripts: Counter[str] = Counter()
            places: dict[str, Place] = {}
            for _, _, text, place in sorted(self._sample, key=lambda one: -one[1]):
                script, letters = _script(text)
                if script:
                    scripts[script] += 1
                    places.setdefault(script, place)
                if letters >= _LEAST_LETTERS.get(script, _LEAST_LETTERS_ELSE):
                    language, probability = _identifier().classify(text)
                    if probability >= _SURE:
                        languages[language] += 1
                        places.setdefault(language, place)
            self._told = languages, scripts, places
        return self._told

    def figures(self) -> dict[str, Any]:
        """Returns the shares of languages, among the prompts long enough to be sure, and of scripts."""
        languages, scripts, _ = self.tell()
        return {"sampled": len(self._sample), "languages": _shares(languages), "scripts": _shares(scripts)}

    def findings(self) -> Iterator[Finding]:
        """Yields the languages as something worth knowing, when they are several."""
        languages, _, _ = self.tell()
        shares = {name: share for name, share in _shares(languages).items() if share >= _LEAST_SHARE}
        if len(shares) > 1:
            mix = ", ".join(f"{share:.0%} {name}" for name, share in shares.items())
            message = f"the languages of the {self.split} prompts, by a sample: {mix}"
            place = Place(self._sample[0][3].file)
            yield Finding("info", "language-mix", place, message, "nothing, if that is meant")

    def lacking(self, train: Languages) -> Iterator[Finding]:
        """Yields what this split holds and the training split does not."""
        languages, scripts, places = self.tell()
        known_languages, known_scripts, _ = train.tell()
        strange = set()
        for script, count in scripts.items():
            if _counts(count, scripts.total()) and script not in known_scripts:
                strange.add(places[script])
                yield self._lack("script", script, count / scripts.total(), places[script])
        if known_languages.total() < _LEAST_SURE:
            return
        for language, count in languages.items():
            if (
                _counts(count, languages.total())
                and language not in known_languages
                and places[language] not in strange
            ):
                yield self._lack("language", language, count / languages.total(), places[language])

    def _lack(self, what: str, name: str, share: float, place: Place) -> Finding:
        message = f"{share:.0%} of the {self.split} prompts are in the {what} {name!r}, and no training prompt is"
        remedy = f"add training records in it, or take these out of {self.split}"
        return Finding("warning", f"{what}-not-trained", place, message, remedy)


@cache
def _identifier() -> Any:
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


@cache
def _script_of(letter: str) -> str:
    # The names of letters begin with their script, as "LATIN SMALL LETTER A".
    word = unicodedata.name(letter, "").partition(" ")[0].partition("-")[0].lower()
    return _SCRIPTS.get(word, word.capitalize())


def _script(text: str) -> tuple[str, int]:
    """Returns the script of most letters, and how many letters there are."""
    letters = [c for c in text if c.isalpha()]
    if not letters:
        return "", 0
    if text.isascii():
        return "Latin", len(letters)
    counts = Counter(map(_script_of, letters))
    # Japanese is written with Han characters, too, and often with more of them.
    script = "Japanese" if counts["Japanese"] * 10 > len(letters) else counts.most_common(1)[0][0]
    return script, len(letters)


def _counts(count: int, total: int) -> bool:
    return count >= _LEAST_RECORDS and count >= _LEAST_SHARE * total


def _shares(counts: Counter[str]) -> dict[str, float]:
    return {name: round(count / counts.total(), 4) for name, count in counts.most_common()}
