"""Special tokens written out in texts: a tokenizer takes them for the real ones, and a turn ends where none should."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from edgeft.dataset.check.texts import Text, around, texts
from edgeft.dataset.findings import Finding, Severity
from edgeft.dataset.records import Record

_COMMON = (
    *("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>"),
    *("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|eom_id|>", "<|python_tag|>"),
    *("[INST]", "[/INST]", "<<SYS>>", "<</SYS>>", "<start_of_turn>", "<end_of_turn>", "<|eot|>", "</s>"),
)


class SpecialTokens:
    """Looks for the model's special tokens, and for turn markers of other models: a sign of a template in the text."""

    def __init__(self, special_tokens: Sequence[str]) -> None:
        self._own = frozenset(token for token in special_tokens if token.strip())
        longest_first = sorted(self._own | set(_COMMON), key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)))
        self._leads = tuple({token[0] for token in longest_first})

    def add(self, record: Record) -> Iterator[Finding]:
        """Yields each special token in each text of a record, once."""
        for text in texts(record):
            if not any(lead in text.content for lead in self._leads):
                continue
            places: dict[str, tuple[int, int]] = {}
            for match in self._pattern.finditer(text.content):
                places.setdefault(match[0], match.span())
            for token, span in places.items():
                yield self._finding(record, text, token, span)

    def findings(self) -> Iterator[Finding]:
        """Yields nothing: all is said with the record."""
        return iter(())

    def _finding(self, record: Record, text: Text, token: str, span: tuple[int, int]) -> Finding:
        shown = around(text.content, *span)
        if token not in self._own:
            message = f"{token} is a turn marker of a chat template: {shown}"
            remedy = "give plain messages: the model's own template puts the markers in"
            return Finding("warning", "foreign-token-in-text", record.place, message, remedy, text.field)
        # In a plain text, which no template is put around, a special token may well be meant.
        severity: Severity = "warning" if text.role == "text" else "error"
        message = f"{token} is a special token of this model: {shown}"
        remedy = "remove it, or write it in another way: it would act as the token itself"
        return Finding(severity, "special-token-in-text", record.place, message, remedy, text.field)
