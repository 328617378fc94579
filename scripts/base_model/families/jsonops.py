"""JSON itself: read a field, follow a path, edit, make, reformat, check."""

from __future__ import annotations

import json

from base_model.documents import Document, ask
from base_model.draw import Draw
from base_model.families.copying import value

Scalar = str | int | float | bool | None


def _scalar(draw: Draw) -> Scalar:
    roll = draw.random()
    if roll < 0.65:
        return value(draw)
    if roll < 0.85:
        return draw.integer(0, 10 ** draw.integer(1, 5))
    return draw.pick((True, False, None)) if roll < 0.95 else draw.integer(0, 999) / 10


def _key(draw: Draw) -> str:
    return draw.word() if draw.chance(0.35) else draw.noun() if draw.chance(0.8) else f"{draw.noun()}_{draw.noun()}"


def _object(draw: Draw, low: int, high: int) -> dict[str, Scalar]:
    return {key: _scalar(draw) for key in draw.distinct(lambda: _key(draw), draw.integer(low, high))}


def dump(made: object, indent: int | None = None) -> str:
    return json.dumps(made, ensure_ascii=False, indent=indent)


def _plain(item: object) -> str:
    return item if isinstance(item, str) else dump(item)


def json_read(draw: Draw) -> Document:
    """The value under a key or a path, in a flat or nested object."""
    made = _object(draw, 2, 6)
    key = draw.pick(list(made))
    answer, path = made[key], key
    shown: object = made
    if draw.chance(0.5):
        outer = draw.distinct(lambda: _key(draw), draw.integer(1, 3))
        nest = {name: made if name == outer[-1] else _object(draw, 1, 2) for name in outer}
        shown, path = nest, f"{outer[-1]}.{key}"
    text = dump(shown, draw.pick((None, None, 2)))
    asked = draw.pick(("What is the value of {}?", "Read {}.", "{}?", "Give the value at {}.")).format(path)
    return ask(f"{text}\n{asked}" if draw.chance(0.6) else f"{asked}\n{text}", _plain(answer))


def json_edit(draw: Draw) -> Document:
    """Set, add, remove or rename a key."""
    made = _object(draw, 2, 5)
    key, kind = draw.pick(list(made)), draw.integer(0, 3)
    before, new = dump(made), value(draw)
    if kind == 0:
        lead, made[key] = f'Set "{key}" to "{new}"', new
    elif kind == 1:
        other = draw.word()
        lead, made[other] = f'Add "{other}" with the value "{new}"', new
    elif kind == 2:
        lead = f'Remove "{key}"'
        del made[key]
    else:
        other = draw.word()
        lead = f'Rename "{key}" to "{other}"'
        made = {other if name == key else name: given for name, given in made.items()}
    return ask(f"{lead}:\n{before}", dump(made))


def json_reformat(draw: Draw) -> Document:
    """Compact to indented and back; keys only; values only; the count of keys."""
    made = _object(draw, 2, 5)
    kind = draw.integer(0, 4)
    if kind == 0:
        return ask(f"Pretty-print this JSON with two spaces:\n{dump(made)}", dump(made, 2))
    if kind == 1:
        return ask(f"Write this JSON on one line:\n{dump(made, 2)}", dump(made))
    if kind == 2:
        return ask(f"List the keys:\n{dump(made)}", "\n".join(made))
    if kind == 3:
        return ask(f"List the values:\n{dump(made)}", "\n".join(map(_plain, made.values())))
    return ask(
        f"Keep only the keys {', '.join(list(made)[:2])}:\n{dump(made)}", dump({k: made[k] for k in list(made)[:2]})
    )


def json_check(draw: Draw) -> Document:
    """Valid or broken JSON; a broken one put right."""
    made = _object(draw, 1, 4)
    text = dump(made)
    broken = draw.pick((text[:-1], text.replace('": ', '" ', 1), text.replace('"', "'"), text[:-1] + ",}", text[1:]))
    if draw.chance(0.5):
        valid = draw.chance(0.5)
        return ask(f"Is this valid JSON? Answer yes or no.\n{text if valid else broken}", "yes" if valid else "no")
    return ask(f"Repair this JSON:\n{broken}", text)


def json_array(draw: Draw) -> Document:
    """One entry of an array of objects found by a field; one column taken out."""
    keys = draw.distinct(lambda: _key(draw), draw.integer(2, 3))
    rows = [{key: value(draw) for key in keys} for _ in range(draw.integer(2, 4))]
    row, key = draw.pick(rows), draw.pick(keys)
    kind = draw.integer(0, 2)
    if kind == 0:
        return ask(f'{dump(rows)}\nTake out every "{key}" as an array.', dump([entry[key] for entry in rows]))
    other = draw.pick([name for name in keys if name != key])
    if kind == 1:
        return ask(f'{dump(rows)}\nWhat is the {other} where {key} is "{row[key]}"?', row[other])
    return ask(f'{dump(rows)}\nGive the entry whose {key} is "{row[key]}".', dump(row))
