"""The codes of all findings on records: how bad each is, what it means and what to do. docs/findings.md shows them."""

from __future__ import annotations

from typing import NamedTuple


class Code(NamedTuple):
    """What a code says. `severity` is the one of its findings; several, with a comma between, where it depends."""

    severity: str
    meaning: str
    remedy: str


_AS_MEANT = "nothing, if that is meant"
_AGAIN = "copy or download the file again"
_HOSTED = "OpenAI's hosted fine-tuning"

GROUPS: dict[str, dict[str, Code]] = {
    "Files and datasets": {
        "no-file": Code("error", "the file or folder does not exist", "name a file or a folder of records"),
        "no-records": Code("error", "a source or a split holds no records", "name another source, or mend its rows"),
        "empty-file": Code("warning", "one file of a folder holds no rows", _AS_MEANT),
        "unread-file": Code(
            "info, warning",
            "a file of a folder is not read: it is hidden or a description, or (a warning) of no known type, or a link "
            "to a folder",
            "nothing, unless it holds records: then rename it, to end in its type's extension; name what a link leads "
            "to as a source of its own",
        ),
        "several-splits": Code(
            "warning",
            "the files of a folder are named as training and test data, and all of them are read",
            "name one file, or one split as folder@train",
        ),
        "truncated": Code("error", "the file ends in the middle of its compressed content", _AGAIN),
        "corrupt-file": Code("error", "the file cannot be decoded or read", _AGAIN),
        "dataset-unavailable": Code(
            "error",
            "the dataset cannot be had from the hub, or not with this configuration or split",
            "name it as owner/name, owner/name:config or owner/name@split, or save it to a folder",
        ),
        "left-out": Code("info", "a weight below 1, or with a fraction, leaves records out", _AS_MEANT),
    },
    "Rows": {
        "not-utf8": Code("error", "bytes that are not UTF-8", "save the file as UTF-8"),
        "invalid-json": Code("error", "not JSON", "write one JSON object a line, or one document"),
        "not-a-number": Code(
            "error",
            "NaN, Infinity or a number too large, which JSON does not have",
            "write it as text, or leave it out",
        ),
        "duplicate-key": Code(
            "error", "one object has a key twice, and one of the values would be lost", "keep one of the two"
        ),
        "too-deep": Code("error", "lists and objects are nested too deeply", "write the inner part as text"),
        "invalid-csv": Code("error", "quoting that CSV does not allow", "close the quotation mark, or double it"),
        "bad-header": Code(
            "error", "the first line of a table does not name each column once", "name each column once"
        ),
        "column-count": Code(
            "error",
            "a row has more or fewer cells than the table has columns",
            "quote cells with delimiters or newlines in them",
        ),
    },
    "Formats": {
        "unknown-format": Code(
            "error", "the keys of the row fit no known format", "use the keys of one: docs/records.md lists them"
        ),
        "ambiguous-format": Code("error", "the keys of the row fit two formats", "keep the columns of one of them"),
        "mixed-formats": Code("warning", "rows of one file are of several formats", _AS_MEANT),
        "lost-keys": Code("warning", "keys of rows that training does not use", "nothing, if they are for other uses"),
    },
    "Records": {
        "missing-key": Code("error", "a key that the format needs is missing, or null", "write it"),
        "unknown-key": Code("error", "a key inside a message that would be lost", "remove it"),
        "wrong-type": Code("error", "a value is of another type than the format needs", "write what is expected"),
        "unsupported-content": Code(
            "error",
            "content that a text model cannot be given, an image for example",
            "keep the text alone",
        ),
        "unknown-role": Code("error", "a role that is none of the format's", "use the role that is meant"),
        "role-order": Code(
            "error",
            "the turns are not in an order that a chat has",
            "put them in order: the message says what is missing",
        ),
        "empty-answer": Code("error", "the assistant says nothing", "remove it: an empty answer teaches silence"),
        "empty-text": Code(
            "warning",
            "a plain text without any character but space; the row is left out",
            "nothing, unless there should be text",
        ),
        "untrained-answer": Code(
            "error", "the last answer has weight 0", "end the conversation with an answer to learn"
        ),
        "bad-weight": Code("error", "the weight of a message is neither 0 nor 1", "1 trains the message, 0 does not"),
        "lone-surrogate": Code(
            "error", "half of a surrogate pair, which is no character", "write the character itself"
        ),
        "bad-arguments": Code(
            "error", "the arguments of a call are not a JSON object", 'write an object, none as "{}"'
        ),
        "unanswered-call": Code(
            "error",
            "a call has no tool message that answers it, and the conversation goes on",
            "answer each call with a tool message, or end the conversation with the call",
        ),
        "unmatched-answer": Code(
            "error", "a tool message answers no call, or one that is answered already", "give it the id of its call"
        ),
        "undeclared-tool": Code(
            "warning", "a call names a tool that the record does not declare", "declare it under the key tools"
        ),
    },
    "The model's chat template and length": {
        "template-refuses": Code(
            "error",
            "a record that the model's chat template refuses",
            "give the conversation the shape that the model was made for",
        ),
        "turn-apart": Code(
            "info",
            "an earlier turn that the template shows otherwise later on, without its reasoning for example: it becomes "
            "an example of its own, cut after it",
            'nothing, if that is meant; "weight": 0 keeps the turn from being trained',
        ),
        "turn-shown-otherwise": Code(
            "error",
            "a turn that even the conversation that ends with it shows otherwise than the model says it",
            "use the chat template of another model of this family, or leave out what the template leaves out",
        ),
        "turn-without-end": Code(
            "error",
            "the template closes a turn without a token that ends generation: the model would never stop",
            "list the token that closes a turn as eos_token_id in generation_config.json",
        ),
        "turn-not-shown": Code(
            "error", "the template shows nothing of a turn that says something", "use a template that shows such turns"
        ),
        "nothing-to-train": Code("error", "no turn of the assistant is to be trained", "add an answer"),
        "tools-not-shown": Code(
            "error",
            "the template does not show a record's tools to the model",
            "use a model whose template knows tools",
        ),
        "tool-call-not-shown": Code(
            "error", "the template does not show a turn's tool calls", "use a model whose template knows tools"
        ),
        "tool-result-not-shown": Code(
            "error", "the template does not show a tool's result", "use a model whose template knows tools"
        ),
        "over-length": Code(
            "error, warning",
            "a record longer than dataset.max_tokens, a test record with such a prompt; a warning where "
            "dataset.over_length drops or shortens it",
            "raise dataset.max_tokens, shorten the record, or set dataset.over_length",
        ),
        "nothing-to-answer": Code(
            "error",
            "plain text among the test records, whose prompts are to be answered",
            "write it as a prompt and its answer, or move it to the training records",
        ),
    },
    "Text": {
        "mojibake": Code(
            "warning", "UTF-8 that was read as Windows-1252", "read the source as UTF-8, and write it again"
        ),
        "replacement-character": Code(
            "warning",
            "characters that were lost in an earlier conversion",
            "take the text from its source again, with the right encoding",
        ),
        "nul": Code("error", "a NUL character, which ends the text in C programs", "remove it"),
        "control-character": Code(
            "warning", "an invisible control character", "remove it, or write what it stands for"
        ),
        "byte-order-mark": Code("warning", "a byte order mark inside a text", "remove it"),
        "bidi-control": Code("warning", "an invisible character that reorders what is shown", "remove it"),
        "blank-text": Code(
            "warning", "a message with nothing in it but white space", "remove the record, or fill the message"
        ),
        "answer-whitespace": Code("warning", "an answer that starts or ends with white space", "strip the answers"),
        "special-token-in-text": Code(
            "error, warning",
            "one of the model's special tokens written out in a text; in plain text it may be meant, and is a warning",
            "remove it, or write it in another way: it would act as the token itself",
        ),
        "foreign-token-in-text": Code(
            "warning",
            "a turn marker of some chat template written out in a text",
            "give plain messages: the model's own template puts the markers in",
        ),
    },
    "Answers": {
        "unbalanced-json": Code(
            "error", "a JSON answer that cannot be parsed, in a set of JSON answers", "mend the answer"
        ),
        "answer-not-json": Code(
            "warning", "an answer that is no JSON, in a set of JSON answers", "mend it, or leave it if it is a refusal"
        ),
        "fenced-json": Code(
            "warning", "JSON answers some of which are in code fences and some are not", "write all in one form"
        ),
        "json-keys": Code("info", "a JSON answer with other keys than nearly all have", _AS_MEANT),
        "label-imbalance": Code(
            "warning", "nearly all training answers are one and the same label", "add records with other answers"
        ),
        "rare-label": Code(
            "warning",
            "a label with too few training examples to learn",
            "add records with this answer, or check that it is no misspelling",
        ),
    },
    "The set as a whole": {
        "few-records": Code(
            "warning", "too few training records for more than a trial, or a narrow task", "collect more"
        ),
        "duplicate": Code("warning", "a record that is there twice", "remove it, unless it is meant to weigh more"),
        "near-duplicate": Code("info", "a prompt that hardly differs from an earlier one of its split", _AS_MEANT),
        "contradiction": Code(
            "warning", "one prompt with two answers", "keep the right one, unless answers are meant to vary"
        ),
        "leak": Code("error", "a record of a held-out split that is trained on as well", "remove one of the two"),
        "leak-prompt": Code(
            "warning",
            "a held-out prompt that is trained on with another answer",
            "mend the wrong answer, and remove one of the two records",
        ),
        "leak-near": Code(
            "warning",
            "a held-out prompt that hardly differs from one that is trained on",
            "keep such records in one split: a model can answer from memory",
        ),
        "language-mix": Code("info", "the languages of a split", _AS_MEANT),
        "language-not-trained": Code(
            "warning", "a held-out split in a language that is not trained on", "add training records in it"
        ),
        "script-not-trained": Code(
            "warning", "a held-out split in a script that is not trained on", "add training records in it"
        ),
    },
    "Export": {
        "not-expressible": Code(
            "error",
            "the format of the export has no place for a part of the record",
            "export as openai, or leave the record out",
        ),
        "too-few-examples": Code("error", f"fewer examples than {_HOSTED} takes", "give more records"),
        "too-large-file": Code("error", f"a file larger than {_HOSTED} takes", "give fewer records"),
        "too-many-tokens": Code(
            "warning", f"an example longer than {_HOSTED} trains on: its end is cut off there", "shorten the record"
        ),
        "too-many-tools": Code(
            "warning",
            "a record declares more tools than a request to OpenAI may have",
            "declare those that matter to the record",
        ),
        "tool-name": Code(
            "error",
            "the name of a tool has characters, or a length, that OpenAI refuses",
            "use 1 to 64 of the letters a-z and A-Z, digits, _ and -",
        ),
    },
}
"""Heading -> codes. A code is never renamed: programs may depend on it."""

CODES: dict[str, Code] = {code: said for group in GROUPS.values() for code, said in group.items()}
"""Every code."""
