"""The codes of what reading and exporting records can find, each with what it means."""

from __future__ import annotations

CODES: dict[str, str] = {
    # Files
    "no-file": "the file or folder does not exist",
    "no-records": "the source holds no records",
    "empty-file": "one file of a folder holds no rows",
    "unread-file": "a file of a folder is not read: it is hidden, or of no known type",
    "several-splits": "the files of a folder are named as training and test data, and all of them are read",
    "truncated": "the file ends in the middle of its compressed content",
    "corrupt-file": "the file cannot be decoded or read",
    "dataset-unavailable": "the dataset cannot be had from the hub, or not with this configuration or split",
    # Rows
    "not-utf8": "bytes that are not UTF-8",
    "invalid-json": "not JSON",
    "not-a-number": "NaN, Infinity or a number too large, which JSON does not have",
    "duplicate-key": "one object has a key twice, and one of the values would be lost",
    "too-deep": "lists and objects are nested too deeply",
    "invalid-csv": "quoting that CSV does not allow",
    "bad-header": "the first line of a table does not name each column once",
    "column-count": "a row has more or fewer cells than the table has columns",
    # Formats
    "unknown-format": "the keys of the row fit no known format",
    "ambiguous-format": "the keys of the row fit two formats",
    "mixed-formats": "rows of one file are of several formats",
    "lost-keys": "keys of rows that training does not use",
    # Records
    "missing-key": "a key that the format needs is missing, or null",
    "unknown-key": "a key inside a message that would be lost",
    "wrong-type": "a value is of another type than the format needs",
    "unsupported-content": "content that a text model cannot be given, an image for example",
    "unknown-role": "a role that is none of the format's",
    "role-order": "the turns are not in an order that a chat has",
    "empty-answer": "the assistant says nothing",
    "empty-text": "a plain text without any character but space; the row is left out",
    "turn-apart": "an earlier turn that the template shows otherwise later on: it is an example of its own",
    "turn-shown-otherwise": "a last turn that the template shows otherwise than the model says it",
    "untrained-answer": "the last answer has weight 0",
    "bad-weight": "the weight of a message is neither 0 nor 1",
    "bad-arguments": "the arguments of a call are not a JSON object",
    "unanswered-call": "a call has no tool message that answers it, and the conversation goes on",
    "unmatched-answer": "a tool message answers no call, or one that is answered already",
    "undeclared-tool": "a call names a tool that the record does not declare",
    "lone-surrogate": "half of a surrogate pair, which is no character",
    # Mixing and export
    "left-out": "a weight below 1, or with a fraction, leaves records out",
    "not-expressible": "the format of the export has no place for a part of the record",
    "too-few-examples": "the hosted service wants more examples",
    "too-many-tokens": "an example is longer than the hosted service trains on",
    "too-many-tools": "a record declares more tools than the hosted service takes",
    "tool-name": "the name of a tool has characters, or a length, that the hosted service refuses",
}
"""Code -> its meaning. A code is never renamed: programs may depend on it."""


def explain(code: str) -> str:
    """Returns the meaning of a code; raises KeyError for an unknown one."""
    return CODES[code]
