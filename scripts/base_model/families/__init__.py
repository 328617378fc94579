"""The task families of the curriculum, with their weights, and the draw of one document."""

from __future__ import annotations

from itertools import accumulate

from base_model.documents import Document, Family
from base_model.draw import Draw
from base_model.families import (
    chat,
    classification,
    copying,
    fewshot,
    jsonops,
    lists,
    numbers,
    passages,
    records,
    rewriting,
    slots,
)

FAMILIES: tuple[Family, ...] = (
    Family("copy value", 3.5, copying.repeat_value),
    Family("copy sentence", 2.0, copying.repeat_sentence),
    Family("copy lines", 2.0, copying.repeat_lines),
    Family("random sequence", 2.0, copying.random_sequence),
    Family("quoted span", 2.0, copying.quoted),
    Family("table lookup", 3.0, copying.lookup),
    Family("neighbour words", 2.0, copying.neighbour),
    Family("fill template", 1.5, copying.fill_template),
    Family("pairs and JSON", 3.0, copying.to_json_pairs),
    Family("request to keys", 6.0, slots.request_keyed),
    Family("request to schema", 6.0, slots.request_schema),
    Family("request to JSON, no instruction", 6.0, slots.request_bare),
    Family("request by examples", 5.0, slots.request_examples),
    Family("request, one field", 3.0, slots.request_one_field),
    Family("requests to table", 1.5, slots.request_table),
    Family("record by kind", 4.0, records.record_tagged),
    Family("record with its kind", 3.0, records.record_typed),
    Family("record to schema", 4.0, records.record_schema),
    Family("record questions", 2.0, records.record_question),
    Family("record to lines", 1.5, records.record_lines),
    Family("record from JSON", 1.5, records.record_write),
    Family("records to array", 1.0, records.record_batch),
    Family("passage questions", 3.0, passages.passage_question),
    Family("passage answers", 1.5, passages.passage_sentence_answer),
    Family("passage true or false", 1.0, passages.passage_true_false),
    Family("passage summary", 1.5, passages.passage_summary),
    Family("moving objects", 2.5, passages.moving_objects),
    Family("stories", 3.0, passages.prose_story),
    Family("descriptions", 2.5, passages.prose_description),
    Family("mapping by examples", 4.0, fewshot.mapping),
    Family("labels by examples", 1.5, fewshot.labels),
    Family("records by examples", 2.5, fewshot.records_by_example),
    Family("spans by examples", 1.5, fewshot.span_by_example),
    Family("topic", 1.0, classification.topic),
    Family("sentiment", 1.0, classification.sentiment),
    Family("urgency", 0.7, classification.urgency),
    Family("spam", 0.7, classification.spam),
    Family("sentence type", 0.7, classification.sentence_type),
    Family("routing", 1.0, classification.routing),
    Family("politeness", 1.0, rewriting.politeness),
    Family("tense", 1.2, rewriting.tense),
    Family("grammatical person", 1.0, rewriting.grammatical_person),
    Family("typos", 1.5, rewriting.fix_typos),
    Family("punctuation", 1.2, rewriting.punctuate),
    Family("shortening", 1.2, rewriting.shorten),
    Family("sentences and lines", 1.0, rewriting.split_sentences),
    Family("arithmetic", 2.5, numbers.arithmetic),
    Family("number order", 1.2, numbers.compare_numbers),
    Family("word problems", 1.2, numbers.word_problem),
    Family("units", 0.6, numbers.units),
    Family("counting", 1.0, numbers.counting),
    Family("sequences", 0.8, numbers.sequence),
    Family("dates", 1.0, numbers.dates),
    Family("clock times", 0.8, numbers.clock_times),
    Family("money", 0.8, numbers.money),
    Family("list order", 1.5, lists.list_order),
    Family("list items", 1.5, lists.list_pick),
    Family("list filter", 1.2, lists.list_filter),
    Family("list form", 1.2, lists.list_form),
    Family("spelling", 1.5, lists.spelling),
    Family("initials", 0.4, lists.initials),
    Family("alphabet", 0.5, lists.alphabet),
    Family("string edit", 2.0, lists.string_edit),
    Family("letter case", 1.2, lists.letter_case),
    Family("small talk", 1.2, chat.small_talk),
    Family("identity", 0.8, chat.identity),
    Family("memory", 2.0, chat.memory),
    Family("format rule", 1.5, chat.format_rule),
    Family("lexicon", 1.5, chat.lexicon),
    Family("logic", 1.2, chat.logic),
    Family("attributes", 1.2, chat.attributes),
    Family("JSON read", 2.0, jsonops.json_read),
    Family("JSON edit", 1.5, jsonops.json_edit),
    Family("JSON format", 1.2, jsonops.json_reformat),
    Family("JSON check", 0.8, jsonops.json_check),
    Family("JSON arrays", 1.2, jsonops.json_array),
)
_CUMULATIVE = tuple(accumulate(family.weight for family in FAMILIES))
SESSION_SHARE = 0.12


def draw_document(draw: Draw) -> tuple[int, Document]:
    """The index of the (first) family and one document of it.

    Some conversations go on with a second task of another family, as people do in one sitting.
    """
    index = draw.rng.choices(range(len(FAMILIES)), cum_weights=_CUMULATIVE)[0]
    document = FAMILIES[index].make(draw)
    if isinstance(document, str) or document[0].role == "system" or not draw.chance(SESSION_SHARE):
        return index, document
    more = FAMILIES[draw.rng.choices(range(len(FAMILIES)), cum_weights=_CUMULATIVE)[0]].make(draw)
    if isinstance(more, str) or more[0].role == "system":
        return index, document
    return index, [*document, *more]
