"""Rewriting: politeness, tense, person, typing slips, punctuation, length."""

from __future__ import annotations

from base_model import words
from base_model.documents import Document, ask
from base_model.draw import Draw
from base_model.families.classification import TOPIC_TEXTS, fill
from base_model.families.copying import sentence
from base_model.style import slip


def politeness(draw: Draw) -> Document:
    """A blunt order as a polite request, and back."""
    task = draw.clause()
    polite = draw.pick(("Could you please {}?", "Would you be so kind as to {}?", "Could you {}, please?"))
    if draw.chance(0.6):
        return ask(f"Make this polite: {task[0].upper()}{task[1:]}!", f"Could you please {task}?")
    return ask(f"Make this short and direct: {polite.format(task)}", f"{task[0].upper()}{task[1:]}.")


def _verb(draw: Draw) -> tuple[str, str, str]:
    """The base, third-person and past form of a verb."""
    if draw.chance(0.6):
        base = draw.pick(words.REGULAR_VERBS)
        doubled = base in _DOUBLED
        ends_y = base[-1] == "y" and base[-2] not in "aeiou"
        past = (
            base + base[-1] + "ed"
            if doubled
            else base[:-1] + "ied"
            if ends_y
            else base + ("d" if base[-1] == "e" else "ed")
        )
    else:
        base = draw.pick(list(words.IRREGULAR_VERBS))
        past = words.IRREGULAR_VERBS[base]
        ends_y = base[-1] == "y" and base[-2] not in "aeiou"
    sibilant = base.endswith(("s", "sh", "ch", "x", "z")) or base in ("go", "do")
    third = "has" if base == "have" else base[:-1] + "ies" if ends_y else base + ("es" if sibilant else "s")
    return base, third, past


_DOUBLED = frozenset(words.entries("admit drop hug plan stop wrap grab hop nod rub ship"))


def tense(draw: Draw) -> Document:
    """Present to past and back, one or two clauses."""
    present, past = [], []
    for _ in range(draw.integer(1, 2)):
        _, third, was = _verb(draw)
        who, what = draw.first_name(), f"the {draw.thing()}"
        present.append(f"{who} {third} {what}")
        past.append(f"{who} {was} {what}")
    now, then = " and ".join(present) + ".", " and ".join(past) + "."
    if draw.chance(0.6):
        return ask(
            draw.pick(("Put into the past tense: {}", "Past tense: {}", "{}\nWrite this in the past.")).format(now),
            then,
        )
    return ask(draw.pick(("Put into the present tense: {}", "Present tense: {}")).format(then), now)


def grammatical_person(draw: Draw) -> Document:
    """First person to third person and back."""
    name = draw.first_name()
    base, third, past = _verb(draw)
    thing, place = draw.thing(), draw.place()
    pairs = (
        (f"I {base} the {thing}.", f"{name} {third} the {thing}."),
        (f"I {past} the {thing} in {place}.", f"{name} {past} the {thing} in {place}."),
        (f"I am from {place} and I have a {thing}.", f"{name} is from {place} and has a {thing}."),
    )
    first, other = draw.pick(pairs)
    if draw.chance(0.6):
        return ask(f"Write about {name} instead of I: {first}", other)
    return ask(f"You are {name}. Write in the first person: {other}", first)


def fix_typos(draw: Draw) -> Document:
    """Typing slips in common words put right."""
    text = draw.pick(
        (
            "The {a} {o} is in the {p}.",
            "We must {v} the {o} before the {e}.",
            "A {b} and a {c} live in the {p}.",
            "Please {v} the {a} {o} and the {f}.",
            "My brother and my sister like {f} with {g}.",
            "There was a {a} {e} in the {p}.",
        )
    ).format(
        a=draw.pick(words.ADJECTIVES),
        o=draw.pick(words.OBJECTS),
        p=draw.pick(words.PLACES),
        v=draw.pick(words.REGULAR_VERBS),
        e=draw.pick(words.ABSTRACT),
        b=draw.pick(words.ANIMALS),
        c=draw.pick(words.ANIMALS),
        f=draw.pick(words.FOODS),
        g=draw.pick(words.FOODS),
    )
    wrong = text
    for _ in range(draw.integer(1, 3)):
        wrong = slip(draw, wrong)
    return ask(f"{draw.pick(('Fix the typos:', 'Correct the spelling:', 'fix this'))} {wrong}", text)


def punctuate(draw: Draw) -> Document:
    """Capitals and full stops given to a text without them."""
    lines = [fill(draw, draw.pick(draw.pick(list(TOPIC_TEXTS.values())))) for _ in range(draw.integer(1, 2))]
    text = " ".join(lines)
    bare = "".join(c for c in text if c not in ".,!?").lower()
    return ask(f"{draw.pick(('Add capitals and punctuation:', 'Punctuate:', 'Write this properly:'))} {bare}", text)


def shorten(draw: Draw) -> Document:
    """A wordy message cut down to its point; a subject line for it."""
    task, who = draw.clause(), draw.person()
    wordy = draw.pick(
        (
            "Hello, I hope you are well. I am writing because {w} asked me "
            "whether somebody could {t}. Thank you very much for your time.",
            "Sorry to bother you again. As I said before, it would be very nice to {t}, and {w} thinks so too. "
            "Have a good day.",
            "Dear all, after a long talk with {w} we came to the conclusion that we should {t}. Kind regards.",
        )
    ).format(t=task, w=who)
    if draw.chance(0.5):
        return ask(f"Say it in one short sentence:\n{wordy}", f"{task[0].upper()}{task[1:]}.")
    return ask(f"Who is named in this message, and what is to be done?\n{wordy}", f"{who}: {task}")


def split_sentences(draw: Draw) -> Document:
    """A paragraph one sentence per line, or lines joined to a paragraph."""
    lines = [sentence(draw) for _ in range(draw.integer(2, 4))]
    if draw.chance(0.5):
        return ask("Write one sentence per line:\n" + " ".join(lines), "\n".join(lines))
    return ask("Join the lines to one paragraph:\n" + "\n".join(lines), " ".join(lines))
