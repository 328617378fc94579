"""Renders a model's chat template without transformers, for the device.

The sandbox, its globals and the whitespace options are those that transformers documents for chat templates, so the
same template gives the same text on both machines; the parity check compares them on the user's own records.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NoReturn

from jinja2 import Template, TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from edgeft.artifacts import Message
from edgeft.errors import EdgeftError


class _GenerationTag(Extension):
    """`{% generation %}`, with which templates mark what the assistant says; it leaves the text as it is."""

    tags = {"generation"}  # noqa: RUF012 (jinja2 declares it as an instance variable)

    def parse(self, parser: Parser) -> nodes.Node:
        """Returns the body in a scope of its own, as the tag of transformers gives it."""
        line_number = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line_number)


def render_template(
    template: str,
    messages: Sequence[Message],
    *,
    add_generation_prompt: bool,
    special_tokens: Mapping[str, str],
    tools: Sequence[dict[str, Any]] = (),
    now: datetime | None = None,
) -> str:
    """Returns the conversation as the model sees it; raises EdgeftError when the template refuses the messages.

    `special_tokens` are those that the model has, as bos_token and eos_token. One that it lacks is undefined, as in
    transformers: a template may ask whether it is. A template that shows the date shows `now`, or the clock's.
    """
    if not messages:
        raise EdgeftError("the chat template is given no messages")
    try:
        return _compiled(template).render(
            messages=[_as_transformers_gives_it(message) for message in messages],
            add_generation_prompt=add_generation_prompt,
            tools=list(tools) or None,
            documents=None,
            strftime_now=(now or datetime.now()).strftime,
            **special_tokens,
        )
    except (TemplateError, TypeError, ValueError, LookupError, AttributeError) as error:
        raise EdgeftError(f"the chat template refuses this conversation: {error}") from error


_REASONING = ("reasoning_content", "thinking", "reasoning")


def _as_transformers_gives_it(message: Message) -> Message:
    """Returns a message without the keys that hold None, and its reasoning under every name that templates know."""
    if None in message.values():
        message = {key: value for key, value in message.items() if value is not None}
    reasoning = next((message[key] for key in _REASONING if key in message), None)
    return message if reasoning is None else {"thinking": reasoning, **message, "reasoning_content": reasoning}


# Compiling takes 1 ms and rendering a short conversation 0.01 ms.
@lru_cache(maxsize=16)
def _compiled(template: str) -> Template:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _refuse
    return environment.from_string(template)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)
