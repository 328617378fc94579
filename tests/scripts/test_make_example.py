"""The example task: what the committed files promise, and that the generator makes exactly these files."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from pathlib import Path

import make_example
import pytest
from home_example.grammar import expand, parse, readings, with_parts
from home_example.noise import Token, slip, words

ROOT = Path(__file__).parents[2]

EXAMPLE = ROOT / "examples" / "home"
# Slots whose answer is not a copy of what was said.
NAMED = {
    "state": {"on", "off"},
    ("move_blinds", "action"): {"open", "close"},
    ("lock_door", "action"): {"lock", "unlock"},
}
# Written again here, so that a change of the order in the generator is noticed.
ORDER = {
    "switch_light": ["state", "room"],
    "set_light": ["room", "level", "color"],
    "set_temperature": ["room", "temperature"],
    "move_blinds": ["action", "room"],
    "set_timer": ["duration", "label"],
    "set_alarm": ["time", "day"],
    "add_reminder": ["text", "time"],
    "add_to_list": ["item", "list"],
    "play_music": ["title", "artist", "playlist", "room"],
    "set_volume": ["level", "room"],
    "lock_door": ["action", "door"],
    "start_vacuum": ["room", "time"],
    "send_message": ["person", "message"],
    "get_state": ["device", "room"],
}
NUMBERS_AND_TIMES = {"level", "temperature", "duration", "time", "day"}

Example = tuple[str, str, dict[str, str]]


def read(name: str) -> list[Example]:
    """The (utterance, intent, slots) of a file."""
    examples: list[Example] = []
    for line in (EXAMPLE / name).read_text(encoding="utf-8").splitlines():
        user, assistant = json.loads(line)["messages"]
        assert (user["role"], assistant["role"]) == ("user", "assistant")
        answer = json.loads(assistant["content"])
        assert assistant["content"] == json.dumps(answer, ensure_ascii=False)
        examples.append((user["content"], answer["intent"], answer["slots"]))
    return examples


@pytest.fixture(scope="module")
def train() -> list[Example]:
    return read("train.jsonl")


@pytest.fixture(scope="module")
def test() -> list[Example]:
    return read("test.jsonl")


def allowed(intent: str, key: str) -> set[str] | None:
    return NAMED.get((intent, key)) or NAMED.get(key)


def test_sizes_and_balance(train: list[Example], test: list[Example]) -> None:
    assert (len(train), len(test)) == (6000, 300)
    for examples in (train, test):
        counts = Counter(intent for _, intent, _ in examples)
        assert set(counts) == set(ORDER)
        assert max(counts.values()) - min(counts.values()) <= 1


@pytest.mark.parametrize("name", ["train.jsonl", "test.jsonl"])
def test_every_answer_follows_the_convention(name: str) -> None:
    for utterance, intent, slots in read(name):
        assert list(slots) == [key for key in ORDER[intent] if key in slots]
        assert slots
        assert 4 <= len(utterance.split()) <= 25
        for key, value in slots.items():
            names = allowed(intent, key)
            if names is None:
                assert re.search(rf"(?<!\w){re.escape(value)}(?!\w)", utterance), (utterance, value)
            else:
                assert value in names


def test_no_utterance_repeats(train: list[Example], test: list[Example]) -> None:
    utterances = [utterance.lower() for utterance, _, _ in train + test]
    assert len(set(utterances)) == len(utterances)


def copied_values(examples: list[Example]) -> set[str]:
    return {
        value.lower()
        for _, intent, slots in examples
        for key, value in slots.items()
        if allowed(intent, key) is None and key not in NUMBERS_AND_TIMES
    }


def test_open_values_of_the_test_are_unseen(train: list[Example], test: list[Example]) -> None:
    seen, held_out = copied_values(train), copied_values(test)
    assert len(seen) >= 600
    assert not held_out & seen


def test_open_values_of_the_test_are_nowhere_in_training_as_multiword_text(
    train: list[Example], test: list[Example]
) -> None:
    said = "\n".join(utterance.lower() for utterance, _, _ in train)
    assert not [value for value in copied_values(test) if value.count(" ") >= 2 and value in said]


def carrier(utterance: str, intent: str, slots: dict[str, str]) -> str:
    for key, value in sorted(slots.items(), key=lambda slot: -len(slot[1])):
        if allowed(intent, key) is None:
            utterance = utterance.replace(value, f"<{key}>", 1)
    return re.sub(r"[^\w<> ]", "", utterance.lower())


def test_no_carrier_of_the_test_was_written_in_training(train: list[Example], test: list[Example]) -> None:
    assert not {carrier(*example) for example in test} & {carrier(*example) for example in train}


def test_no_carrier_of_the_test_can_be_said_in_training() -> None:
    training = make_example.training_speakers()
    assert not make_example.carriers(make_example.held_out_speakers()) & make_example.carriers(training)
    for intent, phrases in training.phrasings.items():
        said = {reading for phrase in phrases for reading in readings(phrase)}
        assert len(said) >= 20, intent


def test_the_files_are_what_the_generator_makes(tmp_path: Path) -> None:
    assert make_example.main(["--out", str(tmp_path)]) == 0
    for name in ("train.jsonl", "test.jsonl"):
        assert (tmp_path / name).read_bytes() == (EXAMPLE / name).read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["test.jsonl", "train.jsonl"]


def test_another_seed_makes_other_commands() -> None:
    one, _ = make_example.make_example(28, 14, seed=1)
    other, _ = make_example.make_example(28, 14, seed=2)
    assert one != other


def test_grammar_reads_choices_options_and_parts() -> None:
    phrase = with_parts("<verb> [the] (cat|dog)", {"verb": "(feed|pet)"})
    assert set(readings(phrase)) == {
        f"{v} {t}{a}" for v in ("feed", "pet") for t in ("the ", "") for a in ("cat", "dog")
    }
    assert expand(phrase, random.Random(0)) in set(readings(phrase))


@pytest.mark.parametrize("phrase", ["(a|b", "[a", "a)", "(a]"])
def test_grammar_refuses_unmatched_brackets(phrase: str) -> None:
    with pytest.raises(ValueError, match="phrase"):
        parse(phrase)


def test_slips_never_touch_a_slot() -> None:
    title = Token("Velvet the a Orchard", "title")
    rng = random.Random(0)
    said = [slip([*words("please play the song"), title, *words("in the kitchen")], rng) for _ in range(2000)]
    assert all(tokens.count(title) == 1 for tokens in said)
    assert len({" ".join(token.text for token in tokens) for tokens in said}) > 50
