"""What a chat template does with tokens, found by rendering one exchange."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from edgeft.artifacts import Message
from edgeft.errors import EdgeftError
from edgeft.template import render_template

_QUESTION, _ANSWER = "edgeft-question", "edgeft-answer"


@dataclass(frozen=True)
class ChatShape:
    """How a rendered conversation begins and how an answer in it ends.

    `end` is the control token right after an answer, None where there is none; `starts_with_control` is whether the
    conversation opens with a control token rather than with text.
    """

    end: str | None
    starts_with_control: bool


def chat_shape(template: str | None, control: Collection[str], bos: str | None, eos: str | None) -> ChatShape:
    """Returns the shape; a template that refuses a plain exchange, or needs more than messages, tells nothing."""
    messages: list[Message] = [{"role": "user", "content": _QUESTION}, {"role": "assistant", "content": _ANSWER}]
    special_tokens = {name: text for name, text in (("bos_token", bos), ("eos_token", eos)) if text}
    try:
        rendered = render_template(template or "", messages, add_generation_prompt=False, special_tokens=special_tokens)
    except (EdgeftError, TypeError, ValueError):
        return ChatShape(None, False)
    after = rendered.rpartition(_ANSWER)[2].lstrip() if _ANSWER in rendered else ""
    # The longest name wins, as in the tokenizers: "<|im_end|>" over "<|im".
    ends = sorted((text for text in control if text and after.startswith(text)), key=len)
    return ChatShape(ends[-1] if ends else None, any(text and rendered.startswith(text) for text in control))
