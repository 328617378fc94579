"""Requests with slots: open values behind cue phrases, in any order.

Each slot kind has the keys that people give it, the phrases that announce it, and the maker of its values. A request
combines an action with a random set of slots.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from base_model import words
from base_model.draw import Draw
from base_model.style import Style


@dataclass(frozen=True, slots=True)
class Slot:
    """A kind of value: its usual keys, cue phrases with `{}` for the value, and how a value is drawn."""

    keys: tuple[str, ...]
    cues: tuple[str, ...]
    make: Callable[[Draw], str]


AMOUNT_UNITS = (*words.UNITS, "percent", "euros", "dollars", "hours", "minutes", "days")


def _count(draw: Draw) -> str:
    return (
        str(draw.integer(2, 99)) if draw.chance(0.8) else draw.pick(("two", "three", "four", "five", "a dozen", "ten"))
    )


def _amount(draw: Draw) -> str:
    return f"{draw.integer(2, 900)} {draw.pick(AMOUNT_UNITS)}"


def _spot(draw: Draw) -> str:
    place = draw.pick(words.PLACES)
    roll = draw.random()
    if roll < 0.4:
        return place
    if roll < 0.8:
        return f"{draw.pick(words.ADJECTIVES + words.COLOURS + words.JOBS)} {place}"
    return f"{draw.word()} {place}"


def _colour(draw: Draw) -> str:
    colour = draw.pick(words.COLOURS)
    return colour if draw.chance(0.6) else f"{draw.pick(('dark', 'light', 'pale', 'deep', 'warm'))} {colour}"


SLOTS = {
    "person": Slot(
        ("name", "person", "who", "customer", "client", "recipient", "contact", "owner"),
        (
            "for {}",
            "to my friend {}",
            "with {}",
            "by {}",
            "on behalf of {}",
            "under the name {}",
            "and tell {} about it",
        ),
        lambda d: d.person() if d.chance(0.6) else d.first_name(),
    ),
    "town": Slot(
        ("city", "town", "destination", "place", "location", "where"),
        ("in {}", "to {}", "near {}", "from {}", "at the {} office", "towards {}", "out of {}"),
        Draw.place,
    ),
    "spot": Slot(
        ("area", "room", "spot", "site", "zone", "place"),
        ("in the {}", "at the {}", "from the {}", "near the {}", "to the {}", "behind the {}", "for the {}"),
        _spot,
    ),
    "code": Slot(
        ("code", "id", "ref", "reference", "number", "order_id", "ticket"),
        ("number {}", "with code {}", "ref {}", "under {}", "reference {}", "({})", "with the id {}", "marked {}"),
        Draw.code,
    ),
    "title": Slot(
        ("title", "name", "label", "subject", "topic"),
        ("called {}", "titled {}", "named {}", 'called "{}"', "with the title {}", "known as {}", "labelled {}"),
        Draw.title,
    ),
    "time": Slot(("time", "at", "hour", "when"), ("at {}", "by {}", "around {}", "before {}", "after {}"), Draw.clock),
    "date": Slot(("date", "day", "on", "when"), ("on {}", "for {}", "by {}", "before {}", "starting {}"), Draw.date),
    "count": Slot(("count", "quantity", "amount", "people"), ("for {} people", "{} times", "in {} copies"), _count),
    "amount": Slot(
        ("amount", "value", "level", "size", "limit"), ("of {}", "to {}", "at {}", "up to {}", "by {}"), _amount
    ),
    "thing": Slot(
        ("item", "object", "product", "thing", "what"),
        ("the {}", "a {}", "my {}", "our {}", "that {}", "one {}", "some {}", "another {}"),
        Draw.thing,
    ),
    "colour": Slot(("color", "colour", "shade"), ("in {}", "to {}", "painted {}", "as {}"), _colour),
    "company": Slot(
        ("company", "supplier", "vendor", "firm"), ("from {}", "with {}", "by {}", "through {}"), Draw.company
    ),
    "list": Slot(
        ("list", "folder", "group", "category", "collection"),
        (
            "on the {} list",
            "to my {} list",
            "in the {} folder",
            "to the {} group",
            "under {}",
            "into the {} collection",
        ),
        lambda d: d.title() if d.chance(0.3) else d.noun() if d.chance(0.6) else d.word(),
    ),
    "task": Slot(
        ("task", "text", "message", "note", "what", "todo"),
        ("to {}", "that we must {}", "saying {}", "about how to {}", "so that I {}", "and {}"),
        Draw.clause,
    ),
    "email": Slot(("email", "mail", "address"), ("at {}", "to {}", "with a copy to {}", "via {}"), Draw.email),
    "phone": Slot(("phone", "tel", "mobile"), ("on {}", "at {}", "phone {}", "whose number is {}"), Draw.phone),
    "word": Slot(
        ("tag", "keyword", "code_word", "alias", "brand"),
        ("tagged {}", "with the word {}", "as {}", "brand {}", "using {}", "under the alias {}"),
        Draw.word,
    ),
}
KINDS = tuple(SLOTS)
ACTIONS = words.entries(
    """
    add archive arrange assign attach book borrow bring call cancel change charge check close collect confirm
    copy count create deliver describe dispatch draft extend file find fix forward get give hand inspect invite
    label lend list load lock log look make mark measure meet move note notify open order pack paint park pay
    pick plan post prepare print publish put raise read register remind remove rename renew rent repair replace
    report request reserve return review schedule send ship show sign sort stack start stop store submit switch
    take tell transfer turn unload update visit wash write
    """
)
OBJECT_NOUNS = words.entries(
    """
    appointment badge bill case claim contract crate delivery desk document event file form invoice job locker
    meeting note order package page parcel payment permit pick-up plan record refund repair report request
    reservation room seat shipment slot sticker task test ticket tour trip visit workshop
    """
)
NEST_KEYS = ("slots", "fields", "details", "args", "parameters", "values", "entities", "data")
ACTION_KEYS = ("intent", "action", "type", "command", "kind", "request", "task", "operation")


@dataclass(frozen=True, slots=True)
class Request:
    """An utterance, its action as `verb_object`, and its values by slot kind in order of mention."""

    text: str
    action: str
    values: dict[str, str]


def make_request(draw: Draw, kinds: list[str] | None = None, action: tuple[str, str] | None = None) -> Request:
    """A request with the given slot kinds, or one to four random ones."""
    style = Style(draw)
    kinds = kinds if kinds is not None else draw.sample(KINDS, draw.integer(1, 4))
    verb, noun = action or (draw.pick(ACTIONS), draw.pick(OBJECT_NOUNS))
    values = {kind: style.value(SLOTS[kind].make(draw)) for kind in draw.shuffled(kinds)}
    phrases: list[str] = []
    used: set[str] = set()
    for kind, value in values.items():
        cue = draw.pick([cue for cue in SLOTS[kind].cues if cue not in used] or SLOTS[kind].cues)
        used.add(cue)
        before, after = cue.split("{}")
        phrases.append(style.carrier(before) + value + style.carrier(after))
    head = (
        verb
        if "thing" in kinds and draw.chance(0.5)
        else f"{verb} {draw.pick(('the', 'a', 'my', 'this', 'one'))} {noun}"
    )
    head = style.carrier(head)
    if "thing" in kinds and head == style.carrier(verb):
        first = list(values).index("thing")
        phrases.insert(0, phrases.pop(first))
        values = {"thing": values["thing"], **values}
    if len(phrases) > 1 and draw.chance(0.15):
        text = f"{phrases.pop()}{draw.pick((', ', ' '))}{head} {' '.join(phrases)}"
    else:
        text = f"{head} {' '.join(phrases)}"
    return Request(style.polite(text.strip()), f"{verb}_{noun.replace('-', '_')}", values)
