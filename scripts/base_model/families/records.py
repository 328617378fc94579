"""Records read into JSON, lines, tables and answers; the schema varies or is fixed by the kind."""

from __future__ import annotations

import json

from base_model.documents import Document, Turn, ask
from base_model.draw import Draw
from base_model.families.record_kinds import RECORDS, SYNONYMS, write


def _dump(draw: Draw, value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def record_tagged(draw: Draw) -> Document:
    """Nothing but the kind is told: its fixed keys, stated ones only."""
    kind = draw.pick(list(RECORDS))
    text, stated, _ = write(draw, kind)
    tag = draw.pick(("{} to JSON", "Read the {}.", "{} record", "[{}]")).format(kind)
    return ask(text, _dump(draw, stated), tag) if draw.chance(0.5) else ask(f"{tag}\n{text}", _dump(draw, stated))


def record_typed(draw: Draw) -> Document:
    """One system message for all kinds: the answer names the kind and nests its fields."""
    turns = [Turn("system", 'Say what kind of note it is and its fields: {"kind": ..., "fields": {...}}.')]
    for _ in range(draw.integer(1, 3)):
        kind = draw.pick(list(RECORDS))
        text, stated, _ = write(draw, kind)
        turns += [Turn("user", text), Turn("assistant", _dump(draw, {"kind": kind, "fields": stated}))]
    return turns


def record_schema(draw: Draw) -> Document:
    """Keys chosen and renamed by the instruction; missing ones omitted, null or empty; flat or nested."""
    kind = draw.pick(list(RECORDS))
    text, stated, keys = write(draw, kind)
    wanted = draw.sample(keys, draw.integer(1, len(keys)))
    shown: dict[str, str] = {}
    for key in wanted:
        new = draw.pick((key, key, key, *SYNONYMS.get(key, ())))
        shown[key] = key if new in shown.values() or (new in keys and new != key) else new
    listed = ", ".join(new if new == key else f"{new} ({key})" for key, new in shown.items())
    missing = draw.pick(("omit", "null", '""'))
    rule = {
        "omit": "Omit what is missing.",
        "null": "Missing values are null.",
        '""': "Missing values are empty strings.",
    }
    blank = None if missing == "null" else ""
    answer: object = {new: stated.get(key, blank) for key, new in shown.items() if key in stated or missing != "omit"}
    lead = draw.pick(
        ("JSON with", "Extract", "Fill this schema:", "Keys:", "Read these fields into JSON:", "I need JSON with")
    )
    instruction = f"{lead} {listed}. {rule[missing]}"
    if draw.chance(0.25):
        outer = draw.word() if draw.chance(0.4) else kind.replace(" ", "_")
        answer, instruction = {outer: answer}, f'{instruction} Nest it under "{outer}".'
    if draw.chance(0.45):
        return ask(text, _dump(draw, answer), instruction)
    return ask(f"{instruction}\n\n{text}" if draw.chance(0.6) else f"{text}\n\n{instruction}", _dump(draw, answer))


def record_question(draw: Draw) -> Document:
    """One or more questions over a record; what is not stated is "not mentioned"."""
    kind = draw.pick(list(RECORDS))
    text, stated, keys = write(draw, kind)
    turns: list[Turn] = []
    for index, key in enumerate(draw.sample(keys, draw.integer(1, 3))):
        asked = draw.pick(("What is the {}?", "Give the {}.", "{}?", "Which {} does the text name?", "Tell me the {}."))
        question = asked.format(key.replace("_", " "))
        if index == 0:
            question = f"{text}\n\n{question}" if draw.chance(0.5) else f"{question}\n\n{text}"
        turns += [Turn("user", question), Turn("assistant", stated.get(key, "not mentioned"))]
    return turns


def record_lines(draw: Draw) -> Document:
    """A record as key: value lines, a table row, CSV, or back from JSON into a sentence."""
    kind = draw.pick(list(RECORDS))
    text, stated, _ = write(draw, kind)
    form = draw.pick(("lines", "table", "csv"))
    if form == "lines":
        answer = "\n".join(f"{key}: {given}" for key, given in stated.items())
    elif form == "table":
        answer = "\n".join(["| field | value |", "| --- | --- |", *(f"| {k} | {v} |" for k, v in stated.items())])
    else:
        cells = [f'"{cell}"' if "," in cell else cell for cell in stated.values()]
        answer = f"{','.join(stated)}\n{','.join(cells)}"
    lead = {"lines": "key: value lines", "table": "a table of field and value", "csv": "CSV with a header"}[form]
    return ask(f"Write this {kind} as {lead}:\n{text}", answer)


def record_write(draw: Draw) -> Document:
    """JSON in, text out: every value copied into prose."""
    kind = draw.pick(list(RECORDS))
    fields, wordings = RECORDS[kind](draw)
    wording = draw.pick(wordings)
    used = {key: given for key, given in fields.items() if f"{{{key}}}" in wording}
    given = json.dumps(used, ensure_ascii=False, indent=draw.pick((None, 2)))
    return ask(f"Write a short {kind} note from this JSON:\n{given}", wording.format(**fields))


def record_batch(draw: Draw) -> Document:
    """Two to four records of one kind in one text, as a JSON array."""
    kind = draw.pick(list(RECORDS))
    entries = [write(draw, kind) for _ in range(draw.integer(2, 4))]
    text = "\n---\n".join(entry[0] for entry in entries)
    return ask(f"Read these notes ({kind}) into a JSON array:\n{text}", _dump(draw, [entry[1] for entry in entries]))
