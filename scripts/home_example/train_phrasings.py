"""How the people of the training set say things. A leading `!` marks an imperative, which may be asked politely."""

from __future__ import annotations

from home_example import train_devices, train_requests

PARTS = {
    "lights": "(light|lights|lamp|lamps)",
    "turn": "(turn|switch)",
    "want": "(want|need|would like)",
    "now": "[now|right now|right away]",
    "where": "[in the {room}]",
    "when": "(at {time:clock}|on {time:day}|{time:relative})",
    "blinds": "(blinds|curtains|shutters|shades)",
    "heat": "(thermostat|heating|temperature)",
    "robot": "(vacuum|robot|vacuum cleaner|robot vacuum)",
    "atclock": "at {time:clock}",
}

FRAMES = (
    "please", "could you", "can you", "would you", "can you please", "i want you to", "i'd like you to", "go ahead and",
    "please can you", "will you",
)  # fmt: skip
WAKE_WORDS = (
    "hey house",
    "ok home",
    "hey home",
    "hi there",
    "okay house",
    "hey",
    "okay home",
    "hi home",
    "hello",
    "listen",
)
CORRECTIONS = ("no", "no wait", "i mean", "sorry", "no make that", "wait no", "sorry i mean")

PHRASINGS: dict[str, tuple[str, ...]] = {**train_devices.PHRASINGS, **train_requests.PHRASINGS}
