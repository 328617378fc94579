"""What a chat template does with tokens, found by rendering conversations."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from edgeft.artifacts import Message
from edgeft.errors import EdgeftError
from edgeft.template import render_template

_QUESTION, _ANSWER = "edgeft-question", "edgeft-answer"


def rendered_exchange(
    template: str | None, question: str, answer: str, special_tokens: Mapping[str, str]
) -> str | None:
    """Returns a question and its answer as the model sees them.

    None for no template, and for one that refuses a plain exchange or needs more than messages.
    """
    if template is None:
        return None
    messages: list[Message] = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    try:
        return render_template(template, messages, add_generation_prompt=False, special_tokens=special_tokens)
    except (EdgeftError, TypeError, ValueError):
        return None


def end_of_turn(template: str | None, control: Collection[str], bos: str | None, eos: str | None) -> str | None:
    """Returns the control token right after an answer, None where there is none."""
    special_tokens = {name: text for name, text in (("bos_token", bos), ("eos_token", eos)) if text}
    rendered = rendered_exchange(template, _QUESTION, _ANSWER, special_tokens) or ""
    after = rendered.rpartition(_ANSWER)[2].lstrip() if _ANSWER in rendered else ""
    # The longest name wins, as in the tokenizers: "<|im_end|>" over "<|im".
    ends = sorted((text for text in control if text and after.startswith(text)), key=len)
    return ends[-1] if ends else None
