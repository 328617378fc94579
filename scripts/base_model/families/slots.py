"""Requests read out under the keys that are asked for.

What the answer looks like is told by an instruction, by a schema, by examples, or is one convention without any.
"""

from __future__ import annotations

import json

from base_model.documents import Document, Turn, ask
from base_model.draw import Draw
from base_model.families.requests import ACTION_KEYS, ACTIONS, KINDS, NEST_KEYS, OBJECT_NOUNS, SLOTS, make_request


def _name_keys(draw: Draw, kinds: list[str]) -> dict[str, str]:
    """A distinct key for each kind, usual or invented."""
    keys: dict[str, str] = {}
    odd = draw.chance(0.12)
    for kind in kinds:
        key = draw.word() if odd else draw.pick(SLOTS[kind].keys)
        while key in keys.values():
            key = kind if kind not in keys.values() else draw.word()
        keys[kind] = key
    return keys


def _lines(fields: dict[str, str]) -> str:
    return "\n".join(f"{key}: {value}" for key, value in fields.items())


def _to_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def request_keyed(draw: Draw) -> Document:
    """A request and the keys to fill, in JSON or as lines; keys without a value are left out, null or "none"."""
    request = make_request(draw)
    absent = [kind for kind in draw.sample(KINDS, draw.integer(0, 2)) if kind not in request.values]
    wanted = draw.sample(list(request.values), draw.integer(1, len(request.values)))
    order = draw.shuffled(wanted + absent)
    keys = _name_keys(draw, order)
    listing = ", ".join(keys[kind] for kind in order)
    notation = draw.pick(("{key} (the {kind})", "{key} (the {kind})", '"{key}" for the {kind}', "{key} = {kind}"))
    describe = ", ".join(notation.format(key=keys[kind], kind=kind) for kind in order)
    listing = describe if draw.chance(0.5) or any(keys[k] not in SLOTS[k].keys for k in order) else listing
    missing = draw.pick(("omit", "null"))
    filled: dict[str, str | None] = {}
    for kind in order:
        if kind in request.values or missing == "null":
            filled[keys[kind]] = request.values.get(kind)
    if draw.chance(0.75):
        rule = "Leave out keys without a value." if missing == "omit" else "Use null where nothing is said."
        lead = draw.pick(
            ("Extract as JSON:", "Return JSON with the keys", "Fill in JSON:", "JSON keys:", "Give me JSON with")
        )
        answer = _to_json(filled)
    else:
        rule = "Leave out what is not said." if missing == "omit" else 'Write "none" where nothing is said.'
        lead = draw.pick(("Write one line per field:", "List the fields", "Extract these fields, one per line:"))
        answer = _lines({key: value or "none" for key, value in filled.items()}) or "none"
    instruction = f"{lead} {listing}." + (f" {rule}" if absent or draw.chance(0.4) else "")
    if draw.chance(0.4):
        return ask(request.text, answer, instruction)
    if draw.chance(0.5):
        return ask(f"{instruction}\n\n{request.text}", answer)
    return ask(f"{request.text}\n\n{instruction}", answer)


def _schema_lines(draw: Draw, actions: dict[str, list[str]]) -> str:
    """A listing of actions and their arguments, in one of several notations."""
    if draw.chance(0.5):
        return "\n".join(f"- {name}({', '.join(kinds)})" for name, kinds in actions.items())
    return "\n".join(f"{name}: {', '.join(kinds)}" for name, kinds in actions.items())


def request_schema(draw: Draw) -> Document:
    """A system message lists the actions with their arguments; the request becomes {action, arguments}."""
    pairs = {(draw.pick(ACTIONS), draw.pick(OBJECT_NOUNS)) for _ in range(draw.integer(2, 6))}
    schema = {pair: draw.sample(KINDS, draw.integer(1, 4)) for pair in sorted(pairs)}
    actions = {f"{verb}_{noun.replace('-', '_')}": kinds for (verb, noun), kinds in schema.items()}
    outer, inner = draw.pick(ACTION_KEYS), draw.pick(NEST_KEYS)
    system = (
        f"{draw.pick(('Turn each request into JSON', 'You translate requests to JSON', 'Answer with JSON only'))}: "
        f'{{"{outer}": ..., "{inner}": {{...}}}}.\n{_schema_lines(draw, actions)}'
    )
    turns = [Turn("system", system)]
    for _ in range(draw.integer(1, 3)):
        pair = draw.pick(list(schema))
        kinds = schema[pair]
        used = draw.sample(kinds, draw.integer(1, len(kinds)))
        request = make_request(draw, used, pair)
        fields = {kind: request.values[kind] for kind in kinds if kind in request.values}
        turns += [Turn("user", request.text), Turn("assistant", _to_json({outer: request.action, inner: fields}))]
    return turns


def request_bare(draw: Draw) -> Document:
    """No instruction at all, one convention: {"action": ..., "fields": {kind: value}} in order of mention."""
    request = make_request(draw)
    system = draw.pick(("", "", "Convert to JSON.", "Request to JSON.", "Parse the request."))
    action, key = ("action", "fields") if not system or draw.chance(0.5) else ("intent", "slots")
    if key == "slots":
        system += ' Keys: "intent" and "slots".'
    return ask(request.text, _to_json({action: request.action, key: request.values}), system)


def request_examples(draw: Draw) -> Document:
    """Two to five worked examples with invented keys and labels, then a new request in the same schema."""
    pairs = [(draw.pick(ACTIONS), draw.pick(OBJECT_NOUNS)) for _ in range(draw.integer(1, 3))]
    kinds_of = {pair: draw.sample(KINDS, draw.integer(1, 3)) for pair in pairs}
    kinds = list(dict.fromkeys(kind for chosen in kinds_of.values() for kind in chosen))
    keys = _name_keys(draw, kinds)
    labels = {pair: draw.word() if draw.chance(0.3) else f"{pair[0]}{draw.pick('_-.')}{pair[1]}" for pair in pairs}
    outer, inner, flat = draw.pick(ACTION_KEYS), draw.pick(NEST_KEYS), draw.chance(0.4)
    sequence = [*kinds_of, *(draw.pick(pairs) for _ in range(draw.integer(1, 3)))]
    turns = []
    for pair in draw.shuffled(sequence):
        request = make_request(draw, kinds_of[pair], pair)
        fields = {keys[kind]: request.values[kind] for kind in kinds_of[pair]}
        shown = {outer: labels[pair], **fields} if flat else {outer: labels[pair], inner: fields}
        turns.append((request.text, _to_json(shown)))
    turns.append(turns.pop(-1))
    if draw.chance(0.5):
        return [Turn(role, text) for pair_ in turns for role, text in zip(("user", "assistant"), pair_, strict=True)]
    asked, given = draw.pick((("Input", "Output"), ("Request", "JSON"), ("Text", "Result"), ("Q", "A")))
    shots = "\n".join(f"{asked}: {text}\n{given}: {answer}" for text, answer in turns[:-1])
    return ask(f"{shots}\n{asked}: {turns[-1][0]}\n{given}:", turns[-1][1])


def request_one_field(draw: Draw) -> Document:
    """A question after one slot of a request, answered with the bare value."""
    request = make_request(draw)
    kind = draw.pick(list(request.values))
    question = draw.pick(
        (
            "What is the {k}?",
            "Extract the {k}.",
            "Give only the {k}.",
            "{k}?",
            "Which {k} is named?",
            "Find the {k} in this:",
        )
    ).format(k=kind)
    text = f"{question}\n{request.text}" if draw.chance(0.5) else f"{request.text}\n{question}"
    return ask(text, request.values[kind])


def request_table(draw: Draw) -> Document:
    """Several requests of one schema gathered into CSV, a Markdown table, or a JSON array."""
    kinds = draw.sample(KINDS, draw.integer(2, 3))
    requests = [make_request(draw, kinds) for _ in range(draw.integer(2, 4))]
    keys = _name_keys(draw, kinds)
    rows = [[request.values[kind] for kind in kinds] for request in requests]
    heads = [keys[kind] for kind in kinds]
    form = draw.pick(("CSV", "a table", "JSON", "lines"))
    if form == "CSV":
        answer = "\n".join(",".join(f'"{cell}"' if "," in cell else cell for cell in row) for row in [heads, *rows])
    elif form == "a table":
        grid = [heads, ["---"] * len(heads), *rows]
        answer = "\n".join(f"| {' | '.join(row)} |" for row in grid)
    elif form == "JSON":
        answer = _to_json([dict(zip(heads, row, strict=True)) for row in rows])
    else:
        answer = "\n".join(" - ".join(row) for row in rows)
    columns = ", ".join(f"{keys[kind]} (the {kind})" for kind in kinds)
    listing = "\n".join(f"{draw.pick(('-', '*'))} {request.text}" for request in requests)
    ends = {"lines": "one line each, joined with ' - '", "JSON": "a JSON array"}
    return ask(f"Gather these as {ends.get(form, form)} with {columns}:\n{listing}", answer)
