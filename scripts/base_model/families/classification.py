"""Classification of short everyday texts: topic, sentiment, urgency, spam, sentence type, and routing."""

from __future__ import annotations

from collections.abc import Mapping

from base_model import words
from base_model.documents import Document, Turn
from base_model.draw import Draw

TOPIC_TEXTS = {
    "sports": (
        "{p} won the race in {t} by two seconds.",
        "The team of {t} lost again after a late goal.",
        "{p} scored twice in the cup match.",
        "Our coach wants us to train on {d}.",
    ),
    "food": (
        "Mix the {f} with {g} and bake it for an hour.",
        "The {f} at {c} tastes of {g}.",
        "I cooked {f} soup for {p}.",
        "{p} shared a recipe for {g} pie.",
    ),
    "travel": (
        "The ferry to {t} leaves on {d}.",
        "We walked through {t} and slept in a small inn.",
        "{p} packed two bags for the trip to {t}.",
        "Which road goes to {t}?",
    ),
    "money": (
        "The bank of {t} raised its fees.",
        "{p} paid the bill of {c} too late.",
        "Prices of {f} rose again.",
        "How do I get my money back from {c}?",
    ),
    "health": (
        "{p} has a fever and a sore throat.",
        "The doctor told {p} to rest until {d}.",
        "Two pills a day after the meal, says the nurse.",
        "My back hurts since {d}.",
    ),
    "technology": (
        "The new phone of {c} has a bright screen.",
        "My computer shows an error when I print.",
        "{p} wrote a program that sorts photos.",
        "The update broke my keyboard.",
    ),
    "nature": (
        "The {a} slept under the old tree.",
        "Heavy rain filled the river near {t}.",
        "{p} saw a {a} in the forest.",
        "In spring the meadow is full of flowers.",
    ),
    "school": (
        "{p} forgot the homework again.",
        "The exam about history is on {d}.",
        "Our teacher {p} reads with us.",
        "The pupils of {t} visit the museum.",
    ),
}
SENTIMENT_TEXTS = {
    "positive": (
        "I love this {o}, it works so well!",
        "What a {x} day, thank you {p}.",
        "The staff of {c} were kind and quick.",
        "Best {f} I ever had.",
        "The {o} arrived early and looks great.",
    ),
    "negative": (
        "The {o} broke after one day.",
        "I will never buy from {c} again.",
        "Terrible {f}, cold and late.",
        "{p} was rude to us all evening.",
        "This {o} is a waste of money.",
    ),
    "neutral": (
        "The {o} is in the box.",
        "{p} lives in {t}.",
        "The shop opens on {d}.",
        "There are two kinds of {f}.",
        "{c} sells a {o}.",
    ),
}
URGENCY_TEXTS = {
    "high": (
        "Water is running out of the {o} right now!",
        "Fire in the {q}, come at once.",
        "The {o} is smoking, please call me immediately.",
        "{p} is hurt, we need a doctor now.",
    ),
    "medium": (
        "The {o} makes a strange noise, can you look at it this week?",
        "Please answer by {d}.",
        "We need the {o} before {d}.",
    ),
    "low": (
        "No hurry, but the {o} could use some paint.",
        "When you have time, send me the list.",
        "Just wondering if you still sell the {o}.",
    ),
}
SPAM_TEXTS = {
    "spam": (
        "You won {n} dollars!!! Click here now",
        "Cheap {o}, buy today, only {n} left!",
        "Dear friend, send your card number to win a {o}",
        "FREE {o} for you, answer within {n} minutes",
    ),
    "not spam": (
        "Hi {p}, see you on {d}.",
        "Here are the notes about the {o}.",
        "{p} asks if you can bring {f}.",
        "Your book about {o} is ready at the library.",
    ),
}
SPEECH_TEXTS = {
    "question": ("Where is the {o}?", "do you know {p}", "When does the shop in {t} open", "Can we have {f} on {d}?"),
    "request": ("Please bring the {o}.", "send {p} the list", "Put the {o} into the {q}.", "Call {p} on {d}."),
    "statement": ("The {o} is in the {q}.", "{p} came on {d}.", "We had {f} and {f}.", "I live in {t}."),
    "greeting": ("Good morning {p}!", "hi there", "Hello everybody in {t}", "hey {p}, nice to see you"),
}
DEPARTMENTS = {
    "billing": (
        "I was charged twice for the {o}.",
        "The invoice from {d} is wrong.",
        "Where can I pay the bill?",
        "Please refund the {o}.",
    ),
    "technical support": ("My {o} does not turn on.", "The app closes when I open it.", "I cannot log in since {d}."),
    "sales": (
        "I would like to buy {n} of the {o}.",
        "What does the {o} cost?",
        "Do you have the {o} in another colour?",
    ),
    "shipping": (
        "My parcel with the {o} has not arrived.",
        "Can you deliver to {t}?",
        "The driver left the {o} at the wrong door.",
    ),
    "human resources": ("I want to take leave from {d}.", "Who signs my work contract?", "{p} starts with us on {d}."),
    "maintenance": (
        "The window in the {q} is broken.",
        "The heating pipe in the {q} drips.",
        "A chair in the {q} needs a new leg.",
    ),
}


def fill(draw: Draw, text: str) -> str:
    """The pattern with random names and things in its places."""
    return text.format(
        p=draw.first_name(),
        t=draw.place(),
        f=draw.pick(words.FOODS),
        g=draw.pick(words.FOODS),
        c=draw.company(),
        d=draw.pick(words.WEEKDAYS),
        o=draw.pick(words.OBJECTS),
        a=draw.pick(words.ANIMALS),
        x=draw.pick(words.ADJECTIVES),
        q=draw.pick(words.PLACES),
        n=draw.integer(2, 5000),
    )


def _classify(draw: Draw, texts: Mapping[str, tuple[str, ...]], what: str) -> Document:
    chosen = draw.sample(list(texts), draw.integer(2, len(texts)))
    listing = ", ".join(chosen)
    system = draw.pick(
        (
            "Classify the {w}: {l}.",
            "Labels for the {w}: {l}. Answer with one label.",
            "What is the {w}? Choose from {l}.",
            "Sort each message by {w} ({l}).",
            "Reply only with the {w}, one of: {l}",
        )
    ).format(w=what, l=listing)
    turns: list[Turn] = []
    in_system = draw.chance(0.5)
    count = draw.integer(1, 3) if in_system else 1
    for _ in range(count):
        label = draw.pick(chosen)
        text = fill(draw, draw.pick(texts[label]))
        if draw.chance(0.3):
            text = text.lower().rstrip(".!")
        turns += [Turn("user", text if in_system else f"{system}\n\n{text}"), Turn("assistant", label)]
    return [Turn("system", system), *turns] if in_system else turns


def topic(draw: Draw) -> Document:
    return _classify(draw, TOPIC_TEXTS, "topic")


def sentiment(draw: Draw) -> Document:
    return _classify(draw, SENTIMENT_TEXTS, "sentiment")


def urgency(draw: Draw) -> Document:
    return _classify(draw, URGENCY_TEXTS, "urgency")


def spam(draw: Draw) -> Document:
    return _classify(draw, SPAM_TEXTS, "mail class")


def sentence_type(draw: Draw) -> Document:
    return _classify(draw, SPEECH_TEXTS, "sentence type")


def routing(draw: Draw) -> Document:
    """A message goes to one of the departments that are listed."""
    return _classify(draw, DEPARTMENTS, "department")
