"""Which texts decide about token ids, and what the others do."""

from __future__ import annotations

from dataclasses import dataclass

from edgeft.probe_texts import ORDINARY_PROBES, RARE_PROBES, Kind, decide, differing_words


@dataclass(frozen=True)
class Text:
    kind: Kind


def test_records_and_ordinary_texts_decide_and_rare_signs_warn() -> None:
    record, ordinary, rare = Text("record"), Text("ordinary"), Text("rare")
    tried = [record, *[ordinary] * 10, *[rare] * 50]
    assert decide(tried, [], 0.0) == ([], {})
    assert decide(tried, [rare] * 50, 0.0) == ([], {"rare": [rare] * 50})
    assert decide(tried, [ordinary, rare], 0.0) == ([ordinary], {"rare": [rare]})
    assert decide(tried, [record, rare], 0.0) == ([record], {"rare": [rare]})


def test_so_many_ordinary_texts_may_differ_and_no_record() -> None:
    record, ordinary = Text("record"), Text("ordinary")
    tried = [record, *[ordinary] * 10]
    assert decide(tried, [ordinary], 0.1) == ([], {"ordinary": [ordinary]})
    assert decide(tried, [ordinary] * 2, 0.1) == ([ordinary] * 2, {})
    assert decide(tried, [record], 0.9) == ([record], {})


def test_a_warning_has_its_share() -> None:
    told = differing_words("rare", 2, 400)
    assert told == "llama.cpp splits 2 of 400 texts of rare signs (0.50%) otherwise than the model's tokenizer"


def test_every_ascii_character_is_tried_once_as_what_it_is() -> None:
    assert not set(ORDINARY_PROBES) & set(RARE_PROBES)
    assert len({*ORDINARY_PROBES, *RARE_PROBES}) >= 330
    for code in range(128):
        char = chr(code)
        assert (char in ORDINARY_PROBES) is (char.isprintable() or char in "\t\n\r")
        assert (char in RARE_PROBES) is (char not in ORDINARY_PROBES)
