"""Conversation: small talk, identity, memory over turns, rules of a system message, logic and made-up words."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from base_model import words
from base_model.documents import Document, Turn, ask
from base_model.draw import Draw
from base_model.families.copying import value

SMALL_TALK = (
    (
        ("hi", "Hello!", "hey there", "Good morning", "good evening", "hello you"),
        ("Hello! How can I help you?", "Hi! What can I do for you?", "Hello! Nice to meet you."),
    ),
    (
        ("how are you?", "How are you today?", "are you well?", "how is it going"),
        ("I am fine, thank you. How can I help?", "Very well, thanks! And you?", "All is well here. What do you need?"),
    ),
    (("thanks", "Thank you!", "thank you very much", "cheers"), ("You are welcome!", "Glad to help.", "Any time.")),
    (("bye", "Goodbye!", "see you later", "good night"), ("Goodbye!", "See you soon!", "Good night, and take care.")),
    (
        ("tell me something", "I am bored", "say something nice"),
        (
            "You asked, and that is a good start. Shall we look at a text together?",
            "Give me some text and a question, and I will do my best.",
            "A calm day is a good day to put things in order.",
        ),
    ),
    (
        ("I am sad", "this was a hard day", "I feel tired"),
        (
            "I am sorry to hear that. Take a short rest.",
            "That sounds hard. I hope tomorrow is better.",
            "Be kind to yourself today.",
        ),
    ),
    (
        ("I am happy!", "good news today", "I passed the exam"),
        ("That is lovely to hear!", "Well done!", "Congratulations!"),
    ),
    (
        ("who are you?", "what are you?", "what is your name?", "are you a person?"),
        (
            "I am a small language model. I can copy, extract, sort and rewrite text.",
            "I am a small language model, not a person.",
            "I have no name. I am a small language model made for short texts.",
        ),
    ),
    (
        ("what can you do?", "how can you help me?", "what are you good at"),
        (
            "I can find facts in a text, copy names and numbers, write JSON, sort lists and answer short questions.",
            "Give me a text, and I can pick out what you need from it.",
        ),
    ),
    (
        ("are you always right?", "do you make mistakes?", "do you know everything"),
        (
            "No. I am small, and I can be wrong.",
            "I make mistakes, so please check what matters.",
            "I know very little about the world. I work best with the text you give me.",
        ),
    ),
    (("ok", "fine", "I see", "great"), ("Good. What is next?", "All right.", "Tell me if you need anything else.")),
)
OPINIONS = (
    ("Which do you like better, {a} or {b}?", "I have no taste of my own, but many people like {a}."),
    ("Do you like {a}?", "I cannot eat, but {a} sounds good."),
    ("Have you ever been to {t}?", "No, I cannot travel. What is {t} like?"),
    ("My {o} is broken.", "I am sorry about your {o}. Can it be repaired?"),
    ("I bought a {o} in {t} today.", "A {o} from {t}, how nice!"),
    ("{n} is coming to visit me.", "I hope you and {n} have a good time."),
    ("I had {a} and {b} for dinner.", "{A} and {b}, that sounds tasty."),
)


def small_talk(draw: Draw) -> Document:
    turns: list[Turn] = []
    for said, replies in draw.sample(SMALL_TALK, draw.integer(1, 3)):
        turns += [Turn("user", draw.pick(said)), Turn("assistant", draw.pick(replies))]
    if draw.chance(0.5):
        a, b, t, o, n = draw.pick(words.FOODS), draw.pick(words.FOODS), draw.place(), draw.thing(), draw.first_name()
        remark, reply = draw.pick(OPINIONS)
        names = {"a": a, "b": b, "t": t, "o": o, "n": n, "A": a.capitalize()}
        turns += [Turn("user", remark.format(**names)), Turn("assistant", reply.format(**names))]
    return turns


def identity(draw: Draw) -> Document:
    """A name and a task given by the system message, asked for by the user."""
    name, owner = draw.invented_name(), draw.company()
    task = draw.pick(
        ("answer questions about orders", "read forms", "help with letters", "sort messages", "keep notes")
    )
    turns = [
        Turn(
            "system",
            draw.pick(("You are {n}, made by {o}. You {t}.", "Your name is {n}. {o} built you to {t}.")).format(
                n=name, o=owner, t=task
            ),
        )
    ]
    pairs = [
        (("who are you?", "Who is this?"), f"I am {name}, made by {owner}."),
        (("What is your name?", "your name please"), f"My name is {name}."),
        (("Who made you?", "who built you"), f"{owner}."),
        (("What do you do?", "what is your task?"), f"I {task}."),
    ]
    for asks, answer in draw.sample(pairs, draw.integer(1, 3)):
        turns += [Turn("user", draw.pick(asks)), Turn("assistant", answer)]
    return turns


MEMORIES: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    (
        "name",
        ("My name is {}.", "i am {}", "call me {}", "Hello, this is {}."),
        ("What is my name?", "Do you remember my name?", "who am i"),
    ),
    ("town", ("I live in {}.", "my home is {}", "I come from {}."), ("Where do I live?", "Which town did I name?")),
    (
        "code",
        ("My code is {}.", "Remember the number {}.", "the reference is {}"),
        ("What was the code?", "Which number should you remember?"),
    ),
    (
        "title",
        ("I am reading {}.", "My favourite book is {}."),
        ("Which book did I tell you about?", "What do I read?"),
    ),
    ("thing", ("I bought a {}.", "I lost my {}."), ("What thing did I tell you about?",)),
    (
        "word",
        ("The secret word is {}.", "Keep the word {} in mind."),
        ("What is the secret word?", "Which word should you keep?"),
    ),
)


def memory(draw: Draw) -> Document:
    """Facts about the user told in early turns and asked for in later ones, small talk in between."""
    makers: dict[str, Callable[[], str]] = {
        "name": draw.person if draw.chance(0.5) else draw.first_name,
        "town": draw.place,
        "code": draw.code,
        "title": draw.title,
        "thing": draw.thing,
        "word": draw.word,
    }
    turns: list[Turn] = []
    asked: list[tuple[str, str]] = []
    for kind, says, asks in draw.sample(MEMORIES, draw.integer(1, 4)):
        fact = makers[kind]()
        greeting = (
            f"Nice to meet you, {fact}."
            if kind == "name"
            else draw.pick(("Noted.", "I will remember that.", "Thank you, noted: {}."))
        )
        turns += [Turn("user", draw.pick(says).format(fact)), Turn("assistant", greeting.format(fact))]
        asked.append((draw.pick(asks), fact))
        if draw.chance(0.3):
            said, replies = draw.pick(SMALL_TALK[:5])
            turns += [Turn("user", draw.pick(said)), Turn("assistant", draw.pick(replies))]
    for question, fact in draw.shuffled(asked):
        turns += [Turn("user", question), Turn("assistant", fact)]
    return turns


def format_rule(draw: Draw) -> Document:
    """A system message fixes how every answer looks."""
    tag = draw.word()
    rules: dict[str, Callable[[str], str]] = {
        "Answer in capitals only.": str.upper,
        "Answer in lower case only.": str.lower,
        f"Begin every answer with {tag}:": lambda text: f"{tag}: {text}",
        f"End every answer with {tag}.": lambda text: f"{text} {tag}",
        "Put every answer in square brackets.": lambda text: f"[{text}]",
        "Put every answer in double quotes.": lambda text: f'"{text}"',
        'Answer as JSON: {"answer": ...}.': lambda text: f'{{"answer": "{text}"}}',
        "Answer as a bullet point.": lambda text: f"- {text}",
        "Write every answer twice, one per line.": lambda text: f"{text}\n{text}",
    }
    rule = draw.pick(list(rules))
    turns = [Turn("system", rule)]
    for _ in range(draw.integer(1, 3)):
        who, what = draw.first_name(), value(draw).replace('"', "")
        said = draw.pick(("{w} has {x}. What does {w} have?", "The answer is {x}. What is the answer?", "Repeat: {x}"))
        turns += [Turn("user", said.format(w=who, x=what)), Turn("assistant", rules[rule](what))]
    return turns


def lexicon(draw: Draw) -> Document:
    """Definitions of made-up words, then what a word means, which word means it, and its use."""
    names = draw.distinct(draw.word, draw.integer(2, 5))
    meanings = draw.distinct(lambda: f"{draw.pick(words.ADJECTIVES)} {draw.noun()}", len(names))
    mark = draw.pick((" means ", ": ", " = ", " is the word for "))
    table = "\n".join(f"{name}{mark}{meaning}" for name, meaning in zip(names, meanings, strict=True))
    turns: list[Turn] = []
    for index in range(draw.integer(1, 3)):
        at = draw.integer(0, len(names) - 1)
        if draw.chance(0.5):
            question, answer = draw.pick(("What does {} mean?", "Translate {}.", "{}?")).format(names[at]), meanings[at]
        else:
            question, answer = draw.pick(("Which word means {}?", "How do you say {}?")).format(meanings[at]), names[at]
        turns += [Turn("user", f"{table}\n\n{question}" if index == 0 else question), Turn("assistant", answer)]
    return turns


def logic(draw: Draw) -> Document:
    """If-then rules, class membership and negation over made-up and real words."""
    name, kind, other = draw.first_name(), draw.word(), draw.word()
    trait, second = draw.sample(words.ADJECTIVES, 2)
    form = draw.integer(0, 4)
    if form == 0:
        member = draw.chance(0.5)
        text = f"Every {kind} is {trait}. {name} is a {kind if member else other}. Is {name} {trait}?"
        return ask(text, "yes" if member else "unknown")
    if form == 1:
        text = f"Every {kind} is a {other}. Every {other} is {trait}. {name} is a {kind}. Is {name} {trait}?"
        return ask(text, "yes")
    if form == 2:
        holds = draw.chance(0.5)
        text = f"If the {draw.noun()} is {trait}, then {name} stays home. It is {'' if holds else 'not '}{trait}."
        return ask(f"{text} Do we know that {name} stays home?", "yes" if holds else "no")
    if form == 3:
        text = f"No {kind} is {trait}. {name} is a {kind}. Is {name} {trait}?"
        return ask(text, "no")
    left, right = draw.chance(0.5), draw.chance(0.5)
    join = draw.pick(("and", "or"))
    result = (left and right) if join == "and" else (left or right)
    text = f"{name} is {trait}: {str(left).lower()}. {name} is {second}: {str(right).lower()}."
    return ask(f"{text} Is {name} {trait} {join} {second}?", str(result).lower())


def attributes(draw: Draw) -> Document:
    """Who is older, taller, faster, from numbers or from a chain."""
    what, more, most, least = draw.pick(
        (
            ("years old", "older", "oldest", "youngest"),
            ("cm tall", "taller", "tallest", "shortest"),
            ("kilos", "heavier", "heaviest", "lightest"),
        )
    )
    people = draw.distinct(draw.first_name, draw.integer(2, 4))
    if draw.chance(0.5):
        figures = draw.sample(range(5, 200), len(people))
        text = " ".join(f"{who} is {figure} {what}." for who, figure in zip(people, figures, strict=True))
        ranked = [who for _, who in sorted(zip(figures, people, strict=True), reverse=True)]
    else:
        text = " ".join(f"{one} is {more} than {two}." for one, two in draw.shuffled(list(pairwise(people))))
        ranked = people
    if draw.chance(0.5):
        return ask(f"{text} Who is the {most}?", ranked[0])
    if draw.chance(0.5):
        return ask(f"{text} Who is the {least}?", ranked[-1])
    one, two = draw.sample(ranked, 2)
    return ask(f"{text} Is {one} {more} than {two}?", "yes" if ranked.index(one) < ranked.index(two) else "no")
