"""Lists and strings: sort, reverse, filter, pick; letters, spelling and small edits."""

from __future__ import annotations

import json
from collections.abc import Callable

from base_model import words
from base_model.documents import Document, ask
from base_model.draw import LETTERS, Draw
from base_model.families.copying import sentence, value

ORDINALS = words.entries("first second third fourth fifth sixth seventh eighth")


def _items(draw: Draw, low: int, high: int) -> list[str]:
    maker: Callable[[], str] = draw.pick((draw.noun, draw.word, draw.first_name, draw.place, draw.thing, draw.title))
    return draw.distinct(maker, draw.integer(low, high))


def _show(draw: Draw, items: list[str]) -> tuple[str, str]:
    """The list as text, and the separator in which the answer is written."""
    form = draw.integer(0, 3)
    if form == 0:
        return "\n".join(items), "\n"
    if form == 1:
        return "\n".join(f"- {item}" for item in items), "\n- "
    return (", ".join(items), ", ") if form == 2 else ("; ".join(items), "; ")


def _join(items: list[str], separator: str) -> str:
    return ("- " if separator == "\n- " else "") + separator.join(items)


def list_order(draw: Draw) -> Document:
    """Sort by the alphabet, reverse, or put by length."""
    items = draw.distinct(draw.pick((draw.noun, draw.word)), draw.integer(2, 6))
    text, separator = _show(draw, items)
    kind = draw.pick(("sort", "reverse", "reverse", "z to a"))
    lead = {"sort": "Sort alphabetically:", "reverse": "Reverse the order:", "z to a": "Sort from z to a:"}[kind]
    done = sorted(items) if kind == "sort" else sorted(items, reverse=True) if kind == "z to a" else items[::-1]
    return ask(f"{lead}\n{text}", _join(done, separator))


def list_pick(draw: Draw) -> Document:
    """The n-th, first, last, longest; all but one."""
    items = _items(draw, 3, 8)
    text, separator = _show(draw, items)
    kind, at = draw.integer(0, 4), draw.integer(0, len(items) - 1)
    if kind == 0:
        return ask(f"What is the {ORDINALS[at]} item?\n{text}", items[at])
    if kind == 1:
        return ask(f"{text}\n\nGive item number {at + 1}.", items[at])
    if kind == 2:
        return ask(f"Remove {items[at]} from the list.\n{text}", _join(items[:at] + items[at + 1 :], separator))
    if kind == 3:
        new = value(draw)
        return ask(f"Add {new} at the end of the list.\n{text}", _join([*items, new], separator))
    count = draw.integer(1, len(items) - 1)
    return ask(f"Keep only the first {count}:\n{text}", _join(items[:count], separator))


def list_filter(draw: Draw) -> Document:
    """The members of a category, without doubles, those that start with a letter, those in both lists."""
    kind = draw.integer(0, 3)
    if kind == 0:
        name, other = draw.sample(("food", "animal", "job", "colour", "month", "weekday", "city"), 2)
        wanted, rest = (
            draw.sample(words.MEMBERS[name], draw.integer(1, 4)),
            draw.sample(words.MEMBERS[other], draw.integer(1, 4)),
        )
        items = draw.shuffled(wanted + rest)
        return ask(
            f"Which of these are of the kind {name}? {', '.join(items)}", ", ".join(i for i in items if i in wanted)
        )
    if kind == 1:
        items = [draw.pick(base) for base in [_items(draw, 2, 4)] for _ in range(draw.integer(4, 7))]
        text, separator = _show(draw, items)
        return ask(f"Remove the duplicates:\n{text}", _join(list(dict.fromkeys(items)), separator))
    items = draw.distinct(lambda: draw.noun() if draw.chance(0.7) else draw.word(), draw.integer(4, 9))
    if kind == 2:
        letter = draw.pick(items)[0]
        return ask(
            f"Which words start with {letter}? {', '.join(items)}", ", ".join(i for i in items if i[0] == letter)
        )
    half = len(items) // 2
    both = draw.sample(items, draw.integer(1, 2))
    one, two = (
        draw.shuffled(list(dict.fromkeys(items[:half] + both))),
        draw.shuffled(list(dict.fromkeys(items[half:] + both))),
    )
    return ask(
        f"A: {', '.join(one)}\nB: {', '.join(two)}\nWhich words are in both?", ", ".join(i for i in one if i in two)
    )


def list_form(draw: Draw) -> Document:
    """From one list notation into another."""
    items = _items(draw, 2, 7)
    forms = {
        "a numbered list": "\n".join(f"{i}. {item}" for i, item in enumerate(items, 1)),
        "bullet points": "\n".join(f"- {item}" for item in items),
        "a JSON array": json.dumps(items, ensure_ascii=False),
        "one line with commas": ", ".join(items),
        "lines": "\n".join(items),
        "a sentence with and": f"{', '.join(items[:-1])} and {items[-1]}",
    }
    source, target = draw.sample(list(forms), 2)
    return ask(
        f"{draw.pick(('Write this as', 'Turn this into', 'Make this'))} {target}:\n{forms[source]}", forms[target]
    )


def spelling(draw: Draw) -> Document:
    """Spell out, join letters, first and last letters, length, backwards."""
    text = draw.pick((draw.word, draw.noun, draw.first_name))()
    kind = draw.integer(0, 6)
    mark = draw.pick((" ", "-", ", ", "."))
    if kind == 0:
        return ask(
            draw.pick(("Spell {}.", "Spell out the word {}.", "How do you spell {}?")).format(text), " ".join(text)
        )
    if kind == 1:
        return ask(f"Write {text} with '{mark}' between the letters.", mark.join(text))
    if kind == 2:
        return ask(f"Join these letters: {mark.join(text)}", text)
    if kind == 3:
        return ask(f"What is the first letter of {text}?", text[0])
    if kind == 4:
        return ask(f"What is the last letter of {text}?", text[-1])
    if kind == 5:
        return ask(f"How many letters has {text}?", f"{'-'.join(text)}: {len(text)}")
    return ask(f"Write {text} backwards.", text[::-1])


def initials(draw: Draw) -> Document:
    names = [f"{draw.first_name()} {draw.surname()}" for _ in range(draw.integer(1, 3))]
    answer = "\n".join(".".join(part[0] for part in name.split()) + "." for name in names)
    return ask(f"{draw.pick(('Give the initials:', 'Initials of'))}\n" + "\n".join(names), answer)


def alphabet(draw: Draw) -> Document:
    at = draw.integer(1, 24)
    kind = draw.integer(0, 3)
    if kind == 0:
        return ask(f"Which letter comes after {LETTERS[at]}?", LETTERS[at + 1])
    if kind == 1:
        return ask(f"Which letter comes before {LETTERS[at]}?", LETTERS[at - 1])
    if kind == 2:
        end = min(25, at + draw.integer(2, 9))
        return ask(f"Write the letters from {LETTERS[at]} to {LETTERS[end]}.", " ".join(LETTERS[at : end + 1]))
    one, two = draw.distinct(draw.noun, 2)
    return ask(f"Which word comes first in a dictionary, {one} or {two}?", min(one, two))


def string_edit(draw: Draw) -> Document:
    """One word of a sentence replaced, removed, doubled, put first, or written in capitals."""
    text = sentence(draw)
    parts = text[:-1].split(" ")
    singles = [part for part in parts if parts.count(part) == 1 and part.isalpha()]
    if not singles:
        return ask(f"Repeat: {text}", text)
    old = draw.pick(singles)
    at = parts.index(old)
    kind = draw.integer(0, 4)
    if kind == 0:
        new = draw.word() if draw.chance(0.5) else draw.noun()
        lead, parts[at] = f"Replace {old} with {new}:", new
    elif kind == 1:
        lead = f"Remove the word {old}:"
        del parts[at]
    elif kind == 2:
        lead, parts[at] = f"Write {old} in capitals, nothing else changes:", old.upper()
    elif kind == 3:
        lead, parts[at] = f"Put quotes around {old}:", f'"{old}"'
    else:
        new = draw.word()
        lead = f"Put {new} after {old}:"
        parts.insert(at + 1, new)
    return ask(f"{lead}\n{text}", " ".join(parts) + ".")


def letter_case(draw: Draw) -> Document:
    """Upper, lower, title and snake case of phrases."""
    text = draw.title() if draw.chance(0.6) else sentence(draw)[:-1]
    plain = "".join(c if c.isalnum() or c == " " else "" for c in text)
    forms = {
        "upper case": text.upper(), "lower case": text.lower(), "capitals": text.upper(), "small letters": text.lower(),
        "snake_case": "_".join(plain.lower().split()), "kebab-case": "-".join(plain.lower().split()),
        "title case": " ".join(w[0].upper() + w[1:].lower() for w in plain.split()),
    }  # fmt: skip
    name = draw.pick(list(forms))
    shown = plain if "case" in name and name[0] in "skt" else text
    return ask(f"{draw.pick(('Write in', 'Change to', 'Put this in'))} {name}: {shown}", forms[name])
