"""Test records, a list at a time: those whose prompts can be answered, and what keeps the others from it."""

from __future__ import annotations

from dataclasses import dataclass

from edgeft.dataset.findings import Finding, FindingsError
from edgeft.dataset.fitting import fit_prompt
from edgeft.dataset.split import prompt_key
from edgeft.dataset.tokenizer import TokenizerView
from edgeft.dataset.tokenizing import InWorker, Work


@dataclass(frozen=True)
class Tested:
    """What became of a `Work` of test records: the JSON lines of those that are answered, with hashes of their prompts.

    The hashes are of the prompts as they were given, as those of the training records are.
    """

    lines: list[str]
    prompts: list[int]
    findings: list[Finding]


class PromptFitter(InWorker[Tested]):
    """How test records are held to the limit."""

    def done(self, tokenizer: TokenizerView, work: Work) -> Tested:
        """Returns the records that can be answered."""
        done = Tested([], [], list(work.findings))
        for record in work.records:
            try:
                kept, found = fit_prompt(record, tokenizer, self.limit)
            except FindingsError as error:
                done.findings.extend(error.findings)
                continue
            done.findings.extend(found)
            if kept is not None:
                done.lines.append(kept.to_json())
                done.prompts.append(prompt_key(record))
        done.findings.sort(key=lambda finding: finding.place)
        return done
