"""Tasks given by examples alone: the rule and the output format must be inferred from the prompt."""

from __future__ import annotations

import json
from collections.abc import Callable

from base_model import words
from base_model.documents import Document, Turn, ask
from base_model.draw import Draw
from base_model.families.copying import VALUES, sentence
from base_model.families.record_kinds import RECORDS, write


def _rule(draw: Draw) -> tuple[Callable[[], str], Callable[[str], str]]:
    """A maker of inputs and the function that the examples show."""
    tag, other, key = draw.word(), draw.word(), draw.noun()
    left, right = draw.pick((("<", ">"), ("[", "]"), ('"', '"'), ("(", ")"), ("** ", " **"), ("{", "}")))
    make = draw.pick(VALUES)
    one = draw.pick((draw.word, draw.noun, draw.first_name, draw.surname))
    inputs: dict[str, tuple[Callable[[], str], Callable[[str], str]]] = {
        "wrap": (lambda: make(draw), lambda text: f"{left}{text}{right}"),
        "prefix": (lambda: make(draw), lambda text: f"{tag} {text}"),
        "suffix": (lambda: make(draw), lambda text: f"{text} {tag}"),
        "same": (lambda: make(draw), lambda text: text),
        "upper": (one, str.upper),
        "first letter": (one, lambda text: text[0]),
        "twice": (one, lambda text: f"{text} {text}"),
        "json": (lambda: make(draw), lambda text: json.dumps({key: text}, ensure_ascii=False)),
        "typed": (lambda: make(draw), lambda text: json.dumps({"type": tag, key: text}, ensure_ascii=False)),
        "swap": (lambda: f"{one()} {one()}", lambda text: " ".join(text.split()[::-1])),
        "last": (lambda: " ".join(one() for _ in range(draw.integer(2, 4))), lambda text: text.split()[-1]),
        "head": (lambda: " ".join(one() for _ in range(draw.integer(2, 4))), lambda text: text.split()[0]),
        "commas": (lambda: " ".join(one() for _ in range(draw.integer(2, 5))), lambda text: ", ".join(text.split())),
        "member": (
            lambda: draw.pick(words.FOODS if draw.chance(0.5) else words.ANIMALS),
            lambda text: tag if text in words.FOODS else other,
        ),
        "digit": (lambda: str(draw.integer(0, 99)), lambda text: str(int(text) + 1)),
    }
    return inputs[draw.pick(list(inputs))]


def mapping(draw: Draw) -> Document:
    """Two to six pairs of one random rule, then one more input."""
    make, rule = _rule(draw)
    items = draw.distinct(make, draw.integer(3, 7))
    pairs = [(item, rule(item)) for item in items]
    if draw.chance(0.4):
        return [Turn(role, text) for pair in pairs for role, text in zip(("user", "assistant"), pair, strict=True)]
    arrow = draw.pick((" -> ", " => ", ": ", " = ", "\nAnswer: ", " | "))
    shots = "\n".join(f"{given}{arrow}{answer}" for given, answer in pairs[:-1])
    return ask(f"{shots}\n{pairs[-1][0]}{arrow.rstrip()}", pairs[-1][1])


def labels(draw: Draw) -> Document:
    """Sentences labelled with invented words by their subject; the last label is asked for."""
    kinds = draw.sample(("food", "animal", "job", "place", "colour", "material"), draw.integer(2, 3))
    names = dict(zip(kinds, draw.distinct(draw.word, len(kinds)), strict=True))
    patterns = ("I like the {}.", "We talked about the {} all day.", "the {} again", "Is this about a {}?", "{}")
    pairs = [
        (draw.pick(patterns).format(draw.pick(words.MEMBERS[kind])), names[kind])
        for kind in [*kinds, *kinds, draw.pick(kinds)]
    ]
    pairs = draw.shuffled(pairs[:-1]) + pairs[-1:]
    if draw.chance(0.5):
        return [Turn(role, text) for pair in pairs for role, text in zip(("user", "assistant"), pair, strict=True)]
    shots = "\n".join(f"{text} -> {label}" for text, label in pairs[:-1])
    return ask(f"{shots}\n{pairs[-1][0]} ->", pairs[-1][1])


def records_by_example(draw: Draw) -> Document:
    """One kind of record, keys renamed and format chosen at random, shown twice or more and then asked for."""
    kind = draw.pick(list(RECORDS))
    rounds = [write(draw, kind) for _ in range(draw.integer(3, 5))]
    keys = rounds[0][2]
    names = {key: draw.word() if draw.chance(0.3) else key.upper() if draw.chance(0.1) else key for key in keys}
    form, mark = draw.pick(("json", "json", "pairs", "values", "typed")), draw.pick((" | ", "; ", " / ", ", "))

    def shape(stated: dict[str, str]) -> str:
        renamed = {names[key]: given for key, given in stated.items()}
        if form == "json":
            return json.dumps(renamed, ensure_ascii=False)
        if form == "typed":
            return json.dumps({"kind": kind, "fields": renamed}, ensure_ascii=False)
        return mark.join(renamed.values() if form == "values" else (f"{k}={v}" for k, v in renamed.items()))

    pairs = [(text, shape(stated)) for text, stated, _ in rounds]
    return [Turn(role, text) for pair in pairs for role, text in zip(("user", "assistant"), pair, strict=True)]


def span_by_example(draw: Draw) -> Document:
    """A marker word shows which part of a sentence is wanted."""
    marker = draw.word() if draw.chance(0.5) else draw.noun()
    makers = draw.pick(VALUES)
    pairs = []
    for _ in range(draw.integer(3, 5)):
        wanted = makers(draw)
        head, tail = sentence(draw).split(" ", 1)
        where = draw.integer(0, 1)
        text = f"{head} {tail} {marker}: {wanted}" if where else f"{marker}: {wanted}. {head} {tail}"
        pairs.append((text, wanted))
    return [Turn(role, text) for pair in pairs for role, text in zip(("user", "assistant"), pair, strict=True)]
