"""Passages and small worlds: facts and moving objects told in plain sentences, then asked for."""

from __future__ import annotations

from base_model import words
from base_model.documents import Document, Turn, ask
from base_model.draw import Draw

FACTS = (
    (
        "job",
        ("{n} works as a {v}.", "{n} is a {v}.", "By trade, {n} is a {v}."),
        ("What is {n}'s job?", "What does {n} do for a living?"),
    ),
    (
        "home",
        ("{n} lives in {v}.", "{n}'s home is in {v}.", "{n} moved to {v} some years ago."),
        ("Where does {n} live?", "In which town is {n} at home?"),
    ),
    (
        "pet",
        ("{n} has a {v}.", "{n} keeps a {v} at home.", "The only animal {n} owns is a {v}."),
        ("Which animal does {n} have?", "What pet does {n} keep?"),
    ),
    (
        "food",
        ("{n} loves {v}.", "{n} would eat {v} every day.", "The favourite food of {n} is {v}."),
        ("What does {n} like to eat?", "What is {n}'s favourite food?"),
    ),
    (
        "born",
        ("{n} was born in {v}.", "The year {n} was born was {v}."),
        ("When was {n} born?", "In which year was {n} born?"),
    ),
    (
        "car",
        ("{n} drives a {v} car.", "{n}'s car is {v}."),
        ("What colour is {n}'s car?", "Which colour does the car of {n} have?"),
    ),
    (
        "item",
        ("{n} bought a {v}.", "Last week {n} got a {v}.", "{n} is proud of a new {v}."),
        ("What did {n} buy?", "What did {n} get?"),
    ),
    (
        "friend",
        ("{n}'s best friend is {v}.", "{n} spends most days with {v}."),
        ("Who is {n}'s best friend?", "With whom does {n} spend the days?"),
    ),
    (
        "book",
        ("{n} is reading {v}.", "{n} wrote a book called {v}."),
        ("Which book is named with {n}?", "What is the title of {n}'s book?"),
    ),
)
MOVES = ("went to", "walked to", "ran to", "moved to", "travelled to", "came back to")
TAKES = ("took", "picked up", "grabbed", "found")
DROPS = ("put down", "dropped", "left", "set down")
FILLERS = (
    "The morning was {a}.",
    "It rained a little.",
    "Nobody said a word about the {o}.",
    "A {b} sat on the {o}.",
    "The {p} was {a} and {c}.",
    "Everyone knew the {a} {p}.",
    "There was a smell of {f} in the air.",
)


def _fact_value(draw: Draw, kind: str) -> str:
    if kind == "job":
        return draw.pick(words.JOBS)
    if kind == "pet":
        return (
            f"{draw.pick(words.ADJECTIVES)} {draw.pick(words.ANIMALS)}"
            if draw.chance(0.4)
            else draw.pick(words.ANIMALS)
        )
    if kind == "food":
        return draw.pick(words.FOODS)
    if kind == "car":
        return draw.pick(words.COLOURS)
    makers = {"home": draw.place, "born": draw.year, "item": draw.thing, "friend": draw.person, "book": draw.title}
    return makers[kind]()


def filler(draw: Draw) -> str:
    return draw.pick(FILLERS).format(
        a=draw.pick(words.ADJECTIVES),
        b=draw.pick(words.ANIMALS),
        c=draw.pick(words.ADJECTIVES),
        f=draw.pick(words.FOODS),
        o=draw.pick(words.OBJECTS),
        p=draw.pick(words.PLACES),
    )


def facts(draw: Draw, people: int) -> tuple[str, list[tuple[str, str, str]], list[str]]:
    """A passage about some people; the facts told as (name, kind, value); the names."""
    names = draw.distinct(draw.first_name, people)
    told: list[tuple[str, str, str]] = []
    sentences: list[str] = []
    for name in names:
        for kind, says, _ in draw.sample(FACTS, draw.integer(1, 4)):
            value = _fact_value(draw, kind)
            told.append((name, kind, value))
            sentences.append(draw.pick(says).format(n=name, v=value))
    if draw.chance(0.4):
        sentences = draw.shuffled(sentences)
    for _ in range(draw.integer(0, 2)):
        sentences.insert(draw.integer(0, len(sentences)), filler(draw))
    return " ".join(sentences), told, names


def _question(draw: Draw, name: str, kind: str) -> str:
    asks = next(asked for k, _, asked in FACTS if k == kind)
    return draw.pick(asks).format(n=name)


def passage_question(draw: Draw) -> Document:
    """Questions over a passage, one after another, with some that the passage does not answer."""
    text, told, names = facts(draw, draw.integer(1, 4))
    turns: list[Turn] = []
    lead = draw.pick(("", "Read this:\n", "Passage: ", "Answer from the text.\n"))
    for index in range(draw.integer(1, 3)):
        if draw.chance(0.2):
            name, kind = draw.pick(names), draw.pick(FACTS)[0]
        else:
            name, kind, _ = draw.pick(told)
        answer = next((v for n, k, v in told if (n, k) == (name, kind)), "not mentioned")
        question = _question(draw, name, kind)
        if index == 0:
            question = f"{lead}{text}\n\n{question}"
        turns += [Turn("user", question), Turn("assistant", answer)]
    return turns


def passage_sentence_answer(draw: Draw) -> Document:
    """The same, answered with a whole sentence, or by the name of the person."""
    text, told, _ = facts(draw, draw.integer(2, 4))
    name, kind, value = draw.pick(told)
    if draw.chance(0.5):
        says = next(says for k, says, _ in FACTS if k == kind)
        return ask(f"{text}\n{_question(draw, name, kind)} Answer in a sentence.", says[0].format(n=name, v=value))
    same = [n for n, k, v in told if (k, v) == (kind, value)]
    return ask(f"{text}\nWhose {kind} is {value}? List every name.", ", ".join(same))


def passage_true_false(draw: Draw) -> Document:
    text, told, _ = facts(draw, draw.integer(1, 3))
    name, kind, value = draw.pick(told)
    shown = value if draw.chance(0.5) else _fact_value(draw, kind)
    claim = next(says for k, says, _ in FACTS if k == kind)[0].format(n=name, v=shown)
    yes, no = draw.pick((("true", "false"), ("yes", "no"), ("correct", "wrong")))
    return ask(f"{text}\n\nIs this {yes} or {no}? {claim}", yes if shown == value else no)


def passage_summary(draw: Draw) -> Document:
    """The facts of one person as one short sentence or as a list."""
    text, told, names = facts(draw, draw.integer(1, 3))
    name = draw.pick(names)
    parts = [f"{kind}: {value}" for n, kind, value in told if n == name]
    if draw.chance(0.5):
        return ask(f"{text}\n\nList what we know about {name}.", "\n".join(f"- {part}" for part in parts))
    return ask(f"{text}\n\nSum up {name} in one line.", f"{name} - {'; '.join(parts)}.")


def story(draw: Draw, steps: int) -> tuple[list[str], dict[str, str], dict[str, str]]:
    """Sentences of people moving and carrying things; then where each person and each thing is."""
    people = draw.distinct(draw.first_name, draw.integer(1, 3))
    things = draw.sample(words.OBJECTS, 3)
    rooms = draw.sample(words.PLACES, 5)
    where: dict[str, str] = {}
    holder: dict[str, str] = {}
    lies: dict[str, str] = {}
    lines: list[str] = []
    for _ in range(steps):
        person = draw.pick(people)
        held = [thing for thing, who in holder.items() if who == person]
        if person not in where or draw.chance(0.45):
            where[person] = draw.pick([room for room in rooms if room != where.get(person)])
            lines.append(f"{person} {draw.pick(MOVES)} the {where[person]}.")
        elif held and draw.chance(0.5):
            thing = draw.pick(held)
            del holder[thing]
            lies[thing] = where[person]
            lines.append(f"{person} {draw.pick(DROPS)} the {thing} there.")
        else:
            free = [t for t in things if t not in holder and lies.get(t, where[person]) == where[person]]
            if not free:
                lines.append(filler(draw))
                continue
            thing = draw.pick(free)
            holder[thing] = person
            lies.pop(thing, None)
            lines.append(f"{person} {draw.pick(TAKES)} the {thing}.")
    places = lies | {thing: where[who] for thing, who in holder.items()}
    return lines, where, places


def moving_objects(draw: Draw) -> Document:
    """Where is everybody and everything at the end of the story."""
    lines, where, places = story(draw, draw.integer(4, 12))
    text = " ".join(lines)
    options = [(f"Where is {person}?", room) for person, room in where.items()]
    options += [(f"Where is the {thing}?", room) for thing, room in places.items()] * 2
    turns: list[Turn] = []
    for index, (question, room) in enumerate(draw.sample(options, min(len(options), draw.integer(1, 3)))):
        answer = f"In the {room}."
        turns += [Turn("user", f"{text}\n{question}" if index == 0 else question), Turn("assistant", answer)]
    return turns


def prose_story(draw: Draw) -> Document:
    """A plain story: a person with a wish, a way, and an end, with consistent names."""
    name, friend = draw.distinct(draw.first_name, 2)
    thing, place, town = draw.thing(), draw.pick(words.PLACES), draw.place()
    job, animal = draw.pick(words.JOBS), draw.pick(words.ANIMALS)
    opening = draw.pick(
        (
            "{n} was a {a} {j} who lived near the {p} in {t}.",
            "Long ago, a {j} named {n} came to {t}.",
            "There once was a {j} in {t}. The name of this {j} was {n}.",
            "Every morning {n} the {j} walked past the {p}.",
        )
    )
    middle = [
        "One day {n} lost the {o}.",
        "{n} looked for it in the {p}, but it was not there.",
        "Then {n} met {f}, who had a {b} {m}.",
        '"Have you seen my {o}?" asked {n}.',
        '"No," said {f}, "but I will help you."',
        "They searched from morning until evening.",
        "The {m} was {a} and ran ahead of them.",
        "It began to rain, and the road was {a}.",
        "An old {k} told them about the {q}.",
        "{f} was tired, but {n} did not want to stop.",
    ]
    start = draw.integer(0, 2)
    kept = [line for line in middle[:6] if draw.chance(0.85)] + draw.sample(middle[6:], draw.integer(1, 3))
    ending = draw.pick(
        (
            "At last they found the {o} in the {q}, and both were happy.",
            "In the end the {m} brought the {o} back, and {n} laughed.",
            'The {o} was never found. "We have each other," said {f}.',
            "{n} gave the {o} to {f} and went home to {t}.",
        )
    )
    fields = {
        "n": name,
        "f": friend,
        "o": thing,
        "p": place,
        "t": town,
        "j": job,
        "m": animal,
        "k": draw.pick(words.JOBS),
        "q": draw.pick(words.PLACES),
        "a": draw.pick(words.ADJECTIVES),
        "b": draw.pick(words.COLOURS),
    }
    if start == 0:
        opening = f"{opening} {filler(draw)}"
    text = " ".join(line.format(**fields) for line in (opening, *kept, ending))
    if draw.chance(0.3):
        asked, answer = draw.pick(
            (
                ("Who helped {n}?", "{f}"),
                ("What was lost?", "the {o}"),
                ("In which town is the story set?", "{t}"),
                ("What is {n}'s job?", "{j}"),
                ("Which animal is in the story?", "a {b} {m}"),
            )
        )
        if all(piece in text for piece in (answer.format(**fields),)):
            return ask(f"{text}\n\n{asked.format(**fields)}", answer.format(**fields))
    title = draw.title().title() if draw.chance(0.3) else ""
    return f"{title}\n\n{text}" if title else text


REMARKS = (
    "The {p} of {t} is {a} and {b}.",
    "In {m} the {n} is {a}, and people {v} the {n2}.",
    "On {w} the market sells {f}, {g} and {h}.",
    "A {c} {o} hangs on the wall of the {p}.",
    "From the {p} you can see the {q} and the {a} road to {t}.",
    "The {j} and the {k} often talk about the {n}.",
    "Children like the {x} because it is so {a}.",
    "Nothing is as {a} as the {n} in {m}.",
    "If you go there by {w}, bring a {o} and some {f}.",
    "It is not far from the {p}, about {i} minutes on foot.",
    "Most people in {t} work as a {j} or a {k}.",
    "They say that a {b} {x} lives under the {p}.",
)


def _remark(draw: Draw) -> str:
    return draw.pick(REMARKS).format(
        p=draw.pick(words.PLACES),
        q=draw.pick(words.PLACES),
        t=draw.place(),
        a=draw.pick(words.ADJECTIVES),
        b=draw.pick(words.ADJECTIVES),
        m=draw.pick(words.MONTHS),
        n=draw.pick(words.ABSTRACT),
        n2=draw.noun(),
        v=draw.pick(words.REGULAR_VERBS),
        w=draw.pick(words.WEEKDAYS),
        f=draw.pick(words.FOODS),
        g=draw.pick(words.FOODS),
        h=draw.pick(words.FOODS),
        c=draw.pick(words.COLOURS),
        o=draw.pick(words.OBJECTS),
        j=draw.pick(words.JOBS),
        k=draw.pick(words.JOBS),
        x=draw.pick(words.ANIMALS),
        i=draw.integer(2, 60),
    )


def prose_description(draw: Draw) -> Document:
    """Plain descriptions of places, people and days."""
    return " ".join(_remark(draw) for _ in range(draw.integer(3, 8)))
