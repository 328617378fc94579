"""The records on which a file is furthest from the model, both models' tokens side by side."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from edgeft.parity.figures import nats, percent
from edgeft.parity.page.markup import Content, Markup, element, joined, number
from edgeft.parity.page.origin import table
from edgeft.parity.scored import ScoredRecord

MOST_RECORDS = 5
_MOST_TOKENS = 160
_WORST_TOKENS = 4
_LEVELS = (1e-4, 1e-3, 1e-2, 0.1, 1.0)
"""Nats from which on a token has the next colour."""


def worst_first(records: Sequence[ScoredRecord]) -> list[ScoredRecord]:
    """Returns records by their mean divergence, those that are no number first."""
    return sorted(records, key=lambda record: (not math.isnan(record.mean_kld), -record.mean_kld))


def legend() -> Markup:
    """Returns what the colours of tokens mean."""
    named = [f"below {_LEVELS[0]:g}", *(f"from {level:g}" for level in _LEVELS)]
    swatches = [element("span", words, class_=f"t k{level}") for level, words in enumerate(named)]
    marks = [
        element("span", "another token", class_="t other"),
        " where the file prefers another token than the model, ",
        element("span", "italic", class_="t off"),
        " where it is not the record's. Tap a token for its figures.",
    ]
    return element("p", "KLD in nats: ", *(joined(swatch, " ") for swatch in swatches), *marks, class_="legend")


def worst_records(records: Sequence[ScoredRecord], prefix: str) -> Markup:
    """Returns the worst of `records`, which are in that order; each has `prefix` and its number as its id."""
    return joined(*(_record(record, f"{prefix}-record-{record.number}") for record in records[:MOST_RECORDS]))


def _record(record: ScoredRecord, place: str) -> Markup:
    mean, largest = number(nats(record.mean_kld), record.mean_kld, "record.mean_kld"), nats(max(record.kld))
    head = element("h4", f"Record {record.number}", element("small", "mean KLD ", mean, f", largest {largest}"))
    prompt = element("details", element("summary", "prompt"), element("pre", record.prompt))
    shown = _shown(record)
    sides = [
        _side("The merged model says", record, shown, record.top),
        _side("This file says", record, shown, record.file_top),
    ]
    told = element("output", "", class_="told-token")
    return element(
        "article", head, prompt, element("div", *sides, class_="sides"), told, _worst_tokens(record), id=place
    )


def _shown(record: ScoredRecord) -> range:
    """Returns which tokens are shown: all, or of a long answer those around the worst."""
    worst = max(range(len(record.kld)), key=lambda i: (math.isnan(record.kld[i]), record.kld[i]))
    start = max(0, min(worst - _MOST_TOKENS // 2, len(record.kld) - _MOST_TOKENS))
    return range(start, min(start + _MOST_TOKENS, len(record.kld)))


def _side(heading: str, record: ScoredRecord, shown: range, said: Sequence[str]) -> Markup:
    tokens = [
        element("span", spoken(said[i]), class_=_class(record, i, said), title=_told(record, i), data_token=i)
        for i in shown
    ]
    before = "\u2026 " if shown.start else ""
    after = " \u2026" if shown.stop < len(record.kld) else ""
    return element("div", element("h5", heading), element("p", before, *tokens, after, class_="tokens"))


def _class(record: ScoredRecord, i: int, said: Sequence[str]) -> str:
    level = sum(not record.kld[i] < least for least in _LEVELS)
    other = " other" if record.top[i] != record.file_top[i] else ""
    return f"t k{level}{other}" + (" off" if said[i] != record.tokens[i] else "")


def spoken(token: str) -> str:
    """Returns a token with its line ends in sight."""
    return token.replace("\n", "\u21b5\n")


def quoted(token: str) -> str:
    """Returns a token as it is named in a sentence: its spaces in sight, too."""
    return "\u201c" + token.replace("\n", "\u21b5").replace(" ", "\u2423").replace("\t", "\u21e5") + "\u201d"


def _told(record: ScoredRecord, i: int) -> str:
    return (
        f"token {i + 1}, {quoted(record.tokens[i])}: KLD {nats(record.kld[i])}; "
        f"merged model {percent(record.p[i])}, likeliest {quoted(record.top[i])} {percent(record.p_top[i])}; "
        f"this file {percent(record.q[i])}, likeliest {quoted(record.file_top[i])} {percent(record.q_top[i])}"
    )


def _worst_tokens(record: ScoredRecord) -> Markup:
    by_kld = sorted(range(len(record.kld)), key=lambda i: (not math.isnan(record.kld[i]), -record.kld[i]))
    headings = ("token", "KLD", "merged model", "this file", "likeliest in the merged model", "likeliest in this file")
    return table(headings, [tuple(_worst_row(record, i)) for i in by_kld[:_WORST_TOKENS]])


def _worst_row(record: ScoredRecord, i: int) -> Iterator[Content]:
    yield joined(element("small", f"{i + 1} "), element("code", quoted(record.tokens[i])))
    yield number(nats(record.kld[i]), record.kld[i])
    yield from (number(percent(share[i]), share[i]) for share in (record.p, record.q))
    for token, share in ((record.top[i], record.p_top[i]), (record.file_top[i], record.q_top[i])):
        yield joined(element("code", quoted(token)), " ", number(percent(share), share))
