"""Copying: strings never seen before, repeated exactly, looked up, or found between other words."""

from __future__ import annotations

import json
from collections.abc import Callable

from base_model.documents import Document, ask
from base_model.draw import Draw
from base_model.style import Style

VALUES: tuple[Callable[[Draw], str], ...] = (
    Draw.word,
    Draw.person,
    Draw.invented_name,
    Draw.code,
    Draw.code,
    Draw.digits,
    Draw.title,
    Draw.title,
    Draw.thing,
    Draw.email,
    Draw.place,
    Draw.company,
    Draw.clause,
    Draw.phone,
)

REPEATS = (
    "Repeat exactly: {}",
    "Copy this: {}",
    "Say {}",
    "Write {} and nothing else.",
    'Repeat "{}".',
    "Echo: {}",
    "Repeat after me: {}",
    "Type this exactly as it is:\n{}",
    "Copy the text below.\n\n{}",
    'Output only "{}"',
    "Please write down {}",
    "Give this back to me unchanged: {}",
    "say exactly {}",
    "copy {}",
    "{}\n\nRepeat the line above.",
    "What did I write here? {}",
    "Return the string <{}>",
    "Print `{}`",
    "echo {}",
    "Your answer must be: {}",
)


def value(draw: Draw) -> str:
    return draw.pick(VALUES)(draw)


def sentence(draw: Draw) -> str:
    """A sentence of common and odd words with a name or code inside."""
    return draw.pick(
        (
            "{p} put the {t} next to the {n} in {c}.", "The {n} of {c} belongs to {p}.", "On {d}, {p} sold a {t}.",
            "We saw {p} with the {t} at {k}.", "{c} is known for its {n} and its {w}.",
            "Nobody told {p} about the {w}.",
            "The note says {o}, but {p} reads {w}.", "At {k} the {n} from {c} fell on the {t}.",
        )
    ).format(
        p=draw.person(), t=draw.thing(), n=draw.common(), c=draw.place(), d=draw.date(), k=draw.clock(), w=draw.word(),
        o=draw.code(),
    )  # fmt: skip


def repeat_value(draw: Draw) -> Document:
    text = Style(draw).value(value(draw))
    return ask(draw.pick(REPEATS).format(text), text)


def repeat_sentence(draw: Draw) -> Document:
    text = " ".join(sentence(draw) for _ in range(draw.integer(1, 3)))
    return ask(draw.pick(REPEATS).format(text), text)


def repeat_lines(draw: Draw) -> Document:
    """A list copied line by line, numbered, bulleted, joined or as a JSON array."""
    lines = [Style(draw).value(value(draw)) for _ in range(draw.integer(2, 8))]
    block = "\n".join(lines)
    form = draw.pick(("same", "number", "bullet", "comma", "json", "first", "last"))
    if form == "same":
        return ask(f"{draw.pick(('Copy these lines:', 'Repeat the list.', 'Write these again:'))}\n{block}", block)
    if form == "number":
        return ask(f"Number these lines:\n{block}", "\n".join(f"{i}. {line}" for i, line in enumerate(lines, 1)))
    if form == "bullet":
        return ask(f"Make bullet points:\n{block}", "\n".join(f"- {line}" for line in lines))
    if form == "comma":
        return ask(f"Put these on one line, separated by semicolons:\n{block}", "; ".join(lines))
    if form == "json":
        return ask(f"Write these lines as a JSON array of strings:\n{block}", json.dumps(lines, ensure_ascii=False))
    if form == "first":
        return ask(f"Copy only the first line:\n{block}", lines[0])
    return ask(f"Copy only the last line:\n{block}", lines[-1])


def random_sequence(draw: Draw) -> Document:
    """Random tokens repeated: nothing but copying can predict the second time."""
    makers = draw.sample((Draw.word, Draw.code, Draw.digits, Draw.noun, Draw.first_name, Draw.surname), 2)
    items = [draw.pick(makers)(draw) for _ in range(draw.integer(4, 14))]
    text = draw.pick((" ", ", ", "\n", " | ", " / ")).join(items)
    if draw.chance(0.4):
        return "\n".join([text] * draw.integer(2, 3))
    return ask(draw.pick(REPEATS).format(text), text)


def quoted(draw: Draw) -> Document:
    """What stands in quotes, brackets or after a mark."""
    inside, other = value(draw), sentence(draw)
    left, right, name = draw.pick(
        (
            ('"', '"', "quotes"),
            ("(", ")", "brackets"),
            ("[", "]", "square brackets"),
            ("<", ">", "angle brackets"),
            ("'", "'", "single quotes"),
            ("*", "*", "asterisks"),
            ("{", "}", "braces"),
        )
    )
    parts = other.split(" ")
    parts.insert(draw.integer(1, len(parts)), f"{left}{inside}{right}")
    lead = draw.pick(
        ("What is in {}?", "Give the text in {}.", "Extract what stands between {}.", "text in {}:")
    ).format(name)
    text = " ".join(parts)
    return ask(f"{lead}\n{text}" if draw.chance(0.6) else f"{text}\n{lead}", inside)


def lookup(draw: Draw) -> Document:
    """A small table of keys and values, and one row asked for, in either direction."""
    make_key, make_value = draw.pick(VALUES), draw.pick(VALUES)
    count = draw.integer(2, 8)
    keys = draw.distinct(lambda: make_key(draw), count)
    values = draw.distinct(lambda: make_value(draw), count)
    mark = draw.pick((": ", " = ", " -> ", " - ", "\t", " has ", " is "))
    table = "\n".join(f"{key}{mark}{given}" for key, given in zip(keys, values, strict=True))
    row = draw.integer(0, count - 1)
    if draw.chance(0.3):
        question, answer = draw.pick(("Which entry has {}?", "What goes with {}?", "Whose value is {}?")), keys[row]
        question = question.format(values[row])
    else:
        question, answer = (
            draw.pick(("What is {}?", "Look up {}.", "Value of {}?", "Find {} in the table.", "{}?")),
            values[row],
        )
        question = question.format(keys[row])
    if draw.chance(0.25):
        answer = json.dumps({keys[row]: values[row]}, ensure_ascii=False)
        question = f'Give the entry that holds "{keys[row]}" as a JSON object with one key.'
    return ask(f"{table}\n\n{question}" if draw.chance(0.7) else f"{question}\n\n{table}", answer)


def neighbour(draw: Draw) -> Document:
    """The word after, before or between given words; the words after a phrase."""
    items = draw.distinct(lambda: draw.pick((draw.word, draw.noun, draw.first_name, draw.code))(), draw.integer(4, 10))
    text, at = " ".join(items), draw.integer(1, len(items) - 2)
    kind = draw.integer(0, 4)
    if kind == 0:
        return ask(f"Which word comes after {items[at]}?\n{text}", items[at + 1])
    if kind == 1:
        return ask(f"Which word comes before {items[at]}?\n{text}", items[at - 1])
    if kind == 2:
        return ask(f"{text}\nWhich word stands between {items[at - 1]} and {items[at + 1]}?", items[at])
    if kind == 3:
        return ask(f"{text}\nGive all the words after {items[at]}.", " ".join(items[at + 1 :]))
    return ask(f"{text}\nGive all the words before {items[at]}.", " ".join(items[:at]))


def fill_template(draw: Draw) -> Document:
    """Values written into the blanks of a text."""
    names = draw.distinct(
        lambda: draw.pick(("NAME", "ITEM", "CITY", "DATE", "CODE", "TEAM", "SHOP", "TITLE")), draw.integer(2, 3)
    )
    filled = {name: value(draw) for name in names}
    left, right = draw.pick((("[", "]"), ("{", "}"), ("<", ">"), ("{{", "}}")))
    pieces = [
        draw.pick(("Dear {}, ", "The {} is ready. ", "We wait for {} here. ", "It was {} again. ", "{} and no other. "))
        for _ in names
    ]
    blank = "".join(p.format(f"{left}{n}{right}") for p, n in zip(pieces, names, strict=True)).strip()
    done = "".join(p.format(filled[n]) for p, n in zip(pieces, names, strict=True)).strip()
    table = draw.pick(("\n", "; ")).join(f"{name}: {given}" for name, given in filled.items())
    return ask(
        f"{draw.pick(('Fill in the template.', 'Complete the text:', 'Use these values:'))}\n{blank}\n{table}", done
    )


def to_json_pairs(draw: Draw) -> Document:
    """Loose "key: value" notes as JSON, keys and values copied."""
    keys = draw.distinct(lambda: draw.word() if draw.chance(0.3) else draw.noun(), draw.integer(1, 6))
    pairs = {key: Style(draw).value(value(draw)) for key in keys}
    mark, end = draw.pick(((": ", "\n"), (" = ", "\n"), (" is ", ", "), (": ", "; "), (" -> ", "\n")))
    text = end.join(f"{key}{mark}{given}" for key, given in pairs.items())
    if draw.chance(0.5):
        lead = draw.pick(("Write as JSON:", "Make a JSON object:", "to json", "Convert to JSON.", "JSON please:"))
        return ask(f"{lead}\n{text}", json.dumps(pairs, ensure_ascii=False))
    plain = "\n".join(f"{key}: {given}" for key, given in pairs.items())
    lead = draw.pick(("Write as key: value lines.", "Turn the JSON into lines of key: value."))
    return ask(f"{lead}\n{json.dumps(pairs, ensure_ascii=False)}", plain)
