"""Makes the example task: voice commands of a home, to be answered with one JSON object.

Run `python scripts/make_example.py` to write `examples/home/train.jsonl` and `test.jsonl`. The same seed gives the
same bytes. The test set has phrasings and open values (names, titles, list items, reminder texts, rooms ...) of its
own: what it measures is whether the model learnt the task, not the training set.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from home_example import test_phrasings, test_values, train_phrasings, train_values
from home_example.grammar import expand, readings, with_parts
from home_example.noise import Token, slip, surround, words, write
from home_example.values import CORRECTABLE, Lexicon, Value

# Each intent's slots in the order of the answer. A slot that the command does not mention is left out.
SLOTS: dict[str, tuple[str, ...]] = {
    "switch_light": ("state", "room"),
    "set_light": ("room", "level", "color"),
    "set_temperature": ("room", "temperature"),
    "move_blinds": ("action", "room"),
    "set_timer": ("duration", "label"),
    "set_alarm": ("time", "day"),
    "add_reminder": ("text", "time"),
    "add_to_list": ("item", "list"),
    "play_music": ("title", "artist", "playlist", "room"),
    "set_volume": ("level", "room"),
    "lock_door": ("action", "door"),
    "start_vacuum": ("room", "time"),
    "send_message": ("person", "message"),
    "get_state": ("device", "room"),
}
# Numbers, times and fixed words. Every other slot is open: its test values never occur in training.
CLOSED_SLOTS = frozenset({"state", "action", "level", "temperature", "duration", "time", "day"})
OPEN_SLOTS = frozenset(key for keys in SLOTS.values() for key in keys) - CLOSED_SLOTS
MIN_WORDS, MAX_WORDS = 4, 25
_SLOT = re.compile(r"\{(\w+)(?::(\w+))?\}([,?]*)")
_ASKING = ("could", "can", "would", "will")


@dataclass(frozen=True)
class Command:
    """One utterance with its answer."""

    utterance: str
    intent: str
    slots: dict[str, str]

    def record(self) -> dict[str, list[dict[str, str]]]:
        """The command as a chat record."""
        answer = json.dumps({"intent": self.intent, "slots": self.slots}, ensure_ascii=False)
        return {"messages": [{"role": "user", "content": self.utterance}, {"role": "assistant", "content": answer}]}


@dataclass(frozen=True)
class Speakers:
    """The people of one split: their phrasings by intent, polite frames, wake words, corrections and words."""

    phrasings: Mapping[str, tuple[str, ...]]
    frames: Sequence[str]
    wake_words: Sequence[str]
    corrections: Sequence[str]
    lexicon: Lexicon

    def say(self, intent: str, rng: random.Random) -> Command:
        """One command of `intent`, with 4 to 25 words."""
        while True:
            phrase = rng.choice(self.phrasings[intent])
            tokens = self._fill(expand(phrase.removeprefix("!"), rng), rng)
            question = tokens[-1].tail == "?"
            if phrase.startswith("!") and rng.random() < 0.4:
                frame = rng.choice(self.frames)
                tokens = [*words(frame), *tokens]
                question = question or frame.startswith(_ASKING)
            tokens = surround(slip(tokens, rng), self.wake_words, rng)
            tokens = write(tokens, question, rng)
            utterance = " ".join(token.text + token.tail for token in tokens)
            if MIN_WORDS <= len(utterance.split()) <= MAX_WORDS:
                return Command(utterance, intent, _slots(intent, tokens))

    def _fill(self, carrier: str, rng: random.Random) -> list[Token]:
        tokens: list[Token] = []
        # An optional part that is left out may leave its mark alone: "is it on [...] ?"
        for word in re.sub(r" ([,?])", r"\1", carrier).split():
            match = _SLOT.fullmatch(word)
            if match is None:
                tokens += words(word)
                continue
            key, kind, tail = match.group(1), match.group(2) or match.group(1), match.group(3)
            value = self.lexicon.draw(key, kind, rng)
            _agree(tokens, value)
            if kind in CORRECTABLE and "'s " not in value.said and rng.random() < 0.03:
                tokens += self._slip_of_mind(key, kind, value, rng)
            tokens.append(Token(value.said, key, value.answer, tail))
        return tokens

    def _slip_of_mind(self, key: str, kind: str, meant: Value, rng: random.Random) -> list[Token]:
        """Another value of the kind, said first and taken back: "20 degrees, no wait,"."""
        wrong = self.lexicon.draw(key, kind, rng)
        if wrong.said == meant.said or "'s " in wrong.said:
            return []
        correction = [replace(token, can_slip=False) for token in words(rng.choice(self.corrections) + ",")]
        return [Token(wrong.said, tail=",", can_slip=False), *correction]


def _agree(tokens: list[Token], value: Value) -> None:
    """Make the article before a value agree: none before "Ada's room", "an" before "eleven minute"."""
    if not tokens:
        return
    article = tokens[-1].text
    if article in ("the", "my", "a") and "'s" in value.said.split()[0]:
        tokens.pop()
    elif article == "a" and re.match(r"[aeio]|8|1[18]\b", value.said):
        tokens[-1] = replace(tokens[-1], text="an")


def _slots(intent: str, tokens: Sequence[Token]) -> dict[str, str]:
    said = {token.key: token.answer or token.text for token in tokens if token.key is not None}
    return {key: said[key] for key in SLOTS[intent] if key in said}


def training_speakers() -> Speakers:
    """The people of the training set."""
    return Speakers(
        phrasings_of(train_phrasings.PHRASINGS, train_phrasings.PARTS),
        train_phrasings.FRAMES,
        train_phrasings.WAKE_WORDS,
        train_phrasings.CORRECTIONS,
        Lexicon(train_values.VALUES, train_values.PARTS),
    )


def held_out_speakers() -> Speakers:
    """The people of the test set."""
    return Speakers(
        phrasings_of(test_phrasings.PHRASINGS, test_phrasings.PARTS),
        test_phrasings.FRAMES,
        test_phrasings.WAKE_WORDS,
        test_phrasings.CORRECTIONS,
        Lexicon(test_values.VALUES, test_values.PARTS),
    )


def phrasings_of(phrasings: Mapping[str, tuple[str, ...]], parts: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """The phrasings with their shared parts put in."""
    return {intent: tuple(with_parts(phrase, parts) for phrase in phrasings[intent]) for intent in SLOTS}


def carriers(speakers: Speakers) -> set[str]:
    """Every carrier the speakers can say: slots as bare keys, without punctuation and articles."""
    return {
        carrier_form(_SLOT.sub(r"{\1}", reading))
        for phrases in speakers.phrasings.values()
        for phrase in phrases
        for reading in readings(phrase.removeprefix("!"))
    }


def carrier_form(text: str) -> str:
    """`text` in lower case without punctuation and articles, so that two carriers that differ in those are the same."""
    bare = re.sub(r"[^\w{}' ]", "", text.lower())
    return " ".join(word for word in bare.split() if word not in ("the", "a", "an", "my"))


def spoken_carrier(command: Command) -> str:
    """What was said around the values: the utterance as `carrier_form`, each value replaced by its key."""
    said = command.utterance
    for key, value in sorted(command.slots.items(), key=lambda slot: -len(slot[1])):
        said = said.replace(value, f"{{{key}}}", 1)
    return carrier_form(said)


def open_values(commands: Iterable[Command]) -> set[str]:
    """The open slot values of the commands, in lower case."""
    return {value.lower() for command in commands for key, value in command.slots.items() if key in OPEN_SLOTS}


def make_commands(speakers: Speakers, count: int, seed: int, avoid: Iterable[Command] = ()) -> list[Command]:
    """`count` different commands, the intents equally often and in random order.

    No utterance repeats, whatever its case, and none shares its carrier or an open value with `avoid`.
    """
    rng = random.Random(seed)
    avoid = list(avoid)
    seen: set[str] = set()
    taken_values, taken_carriers = open_values(avoid), {spoken_carrier(command) for command in avoid}
    commands: list[Command] = []
    while len(commands) < count:
        command = speakers.say(list(SLOTS)[len(commands) % len(SLOTS)], rng)
        if command.utterance.lower() in seen or spoken_carrier(command) in taken_carriers:
            continue
        if open_values([command]) & taken_values:
            continue
        seen.add(command.utterance.lower())
        commands.append(command)
    rng.shuffle(commands)
    return commands


def make_example(train_count: int, test_count: int, seed: int) -> tuple[list[Command], list[Command]]:
    """The training and the held-out test set."""
    train = make_commands(training_speakers(), train_count, seed)
    return train, make_commands(held_out_speakers(), test_count, seed + 1, avoid=train)


def save(commands: Sequence[Command], path: Path) -> None:
    """Write the commands as chat records, one JSON object in a line; the final name appears only when complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    lines = (json.dumps(command.record(), ensure_ascii=False) + "\n" for command in commands)
    partial.write_text("".join(lines), encoding="utf-8", newline="\n")
    partial.replace(path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Make both files and print what they hold."""
    parser = argparse.ArgumentParser(description="Make the example task: voice commands of a home, answered by JSON.")
    parser.add_argument(
        "--out", type=Path, default=Path("examples/home"), help="directory of train.jsonl and test.jsonl"
    )
    parser.add_argument("--train", type=int, default=6000, metavar="N", help="training records (default: %(default)s)")
    parser.add_argument("--test", type=int, default=300, metavar="N", help="test records (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="the same seed makes the same files (default: %(default)s)")
    options = parser.parse_args(arguments)
    train, test = make_example(options.train, options.test, options.seed)
    for name, commands in (("train", train), ("test", test)):
        save(commands, options.out / f"{name}.jsonl")
        intents = Counter(command.intent for command in commands)
        print(
            f"{name}.jsonl: {len(commands)} records, {len(intents)} intents, {len(open_values(commands))} open values"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
