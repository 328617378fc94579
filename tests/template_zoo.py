"""Chat templates in the shapes that released models have, and what each does to an answer.

Each marks what the assistant says with transformers' `{% generation %}`; `Shape.plain` is the same without the marks.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

_LLAMA_TURNS = """\
{%- for message in turns %}
    {%- if message.role == 'assistant' %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
        {%- generation %}
        {%- if message.tool_calls %}
            {%- if message.tool_calls | length != 1 %}{{ raise_exception('one call at a time') }}{% endif %}
            {%- set call = message.tool_calls[0].function %}
            {{- '{"name": "' + call.name + '", "parameters": ' + call.arguments | tojson + '}<|eom_id|>' }}
        {%- else %}
            {{- message.content | trim + '<|eot_id|>' }}
        {%- endif %}
        {%- endgeneration %}
    {%- elif message.role == 'tool' %}
        {{- '<|start_header_id|>ipython<|end_header_id|>\n\n' + message.content | tojson + '<|eot_id|>' }}
    {%- elif message.role == 'user' %}
        {{- '<|start_header_id|>user<|end_header_id|>\n\n' + message.content | trim + '<|eot_id|>' }}
    {%- else %}
        {{- raise_exception('unknown role ' + message.role) }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}
"""
_LLAMA_SYSTEM = """\
{{- bos_token }}
{%- if messages[0].role == 'system' %}
    {%- set system, turns = messages[0].content | trim, messages[1:] %}
{%- else %}
    {%- set system, turns = '', messages %}
{%- endif %}
{{- '<|start_header_id|>system<|end_header_id|>\n\nToday is ' }}
"""
_FIXED_DATE = "{{- '26 Jul 2024.\\n\\n' }}\n"
_DATE = """\
{%- if strftime_now is defined %}{{ strftime_now('%d %b %Y') }}{% else %}{{ '26 Jul 2024' }}{% endif %}
{{- '.\n\n' }}
"""
_LLAMA_TOOLS = """\
{%- if tools %}{{ 'You may call:\n' }}{% for tool in tools %}{{ tool | tojson(indent=2) + '\n' }}{% endfor %}{% endif %}
"""
LLAMA_3 = _LLAMA_SYSTEM + _FIXED_DATE + "{{- system + '<|eot_id|>' }}\n" + _LLAMA_TURNS
LLAMA_3_DATE = _LLAMA_SYSTEM + _DATE + "{{- system + '<|eot_id|>' }}\n" + _LLAMA_TURNS
LLAMA_3_TOOLS = _LLAMA_SYSTEM + _DATE + _LLAMA_TOOLS + "{{- system + '<|eot_id|>' }}\n" + _LLAMA_TURNS

# A default system message, tools after it, calls in the answer, results of one round merged into one turn.
QWEN_2 = """\
{%- set system = messages[0].content if messages[0].role == 'system' else 'You are a helpful assistant.' %}
{{- '<|im_start|>system\n' + system }}
{%- if tools %}
    {{- '\n\n# Tools\n<tools>' }}
    {%- for tool in tools %}{{ '\n' + tool | tojson }}{% endfor %}
    {{- '\n</tools>' }}
{%- endif %}
{{- '<|im_end|>\n' }}
{%- for message in messages %}
    {%- if message.role == 'assistant' %}
        {{- '<|im_start|>assistant\n' }}
        {%- generation %}
        {{- message.content or '' }}
        {%- for call in message.tool_calls or [] %}
            {%- if message.content or not loop.first %}{{ '\n' }}{% endif %}
            {{- '<tool_call>\n{"name": "' + call.function.name + '", "arguments": ' }}
            {{- call.function.arguments | tojson + '}\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>' }}
        {%- endgeneration %}
        {{- '\n' }}
    {%- elif message.role == 'tool' %}
        {%- if loop.index0 == 0 or messages[loop.index0 - 1].role != 'tool' %}{{ '<|im_start|>user' }}{% endif %}
        {{- '\n<tool_response>\n' + message.content + '\n</tool_response>' }}
        {%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{ '<|im_end|>\n' }}{% endif %}
    {%- elif message.role == 'user' or not loop.first %}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}
"""

# Turns after the last question have a block of reasoning, empty or not; earlier turns have none.
QWEN_3 = """\
{%- set ns = namespace(last_query=0) %}
{%- for message in messages %}
    {%- if message.role == 'user' %}{% set ns.last_query = loop.index0 %}{% endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.role == 'assistant' %}
        {%- set parts = message.content.split('</think>') %}
        {%- set reasoning = parts[0].split('<think>')[-1].strip('\n') if parts | length > 1 else '' %}
        {{- '<|im_start|>assistant\n' }}
        {%- generation %}
        {%- if loop.index0 > ns.last_query %}{{ '<think>\n' + reasoning + '\n</think>\n\n' }}{% endif %}
        {{- parts[-1].lstrip('\n') + '<|im_end|>' }}
        {%- endgeneration %}
        {{- '\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}
"""

GEMMA = """\
{{- bos_token }}
{%- if messages[0].role == 'system' %}
    {%- set first, turns = messages[0].content + '\n\n', messages[1:] %}
{%- else %}
    {%- set first, turns = '', messages %}
{%- endif %}
{%- for message in turns %}
    {%- if (message.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}
    {%- if message.role == 'assistant' %}
        {{- '<start_of_turn>model\n' }}
        {%- generation %}{{ message.content | trim + '<end_of_turn>' }}{% endgeneration %}
        {{- '\n' }}
    {%- else %}
        {{- '<start_of_turn>user\n' + (first if loop.first else '') + message.content | trim + '<end_of_turn>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}
"""

# Closes every turn with one token and the conversation with another; both end generation.
PHI_3 = """\
{%- for message in messages %}
    {{- '<|' + message.role + '|>\n' }}
    {%- if message.role == 'assistant' %}
        {%- generation %}{{ message.content + '<|end|>' }}{% endgeneration %}
    {%- else %}{{ message.content + '<|end|>' }}
    {%- endif %}
    {{- '\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}
"""

MISTRAL = """\
{%- if messages[0].role == 'system' %}
    {%- set first, turns = messages[0].content + '\n\n', messages[1:] %}
{%- else %}
    {%- set first, turns = '', messages %}
{%- endif %}
{{- bos_token }}
{%- for message in turns %}
    {%- if (message.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}
    {%- if message.role == 'user' %}
        {{- '[INST] ' + (first if loop.first else '') + message.content + ' [/INST]' }}
    {%- else %}
        {%- generation %}{{ ' ' + message.content.strip() + eos_token }}{% endgeneration %}
    {%- endif %}
{%- endfor %}
"""

ZEPHYR = """\
{% for message in messages %}
{% if message['role'] == 'assistant' %}
{{ '<|assistant|>\n' }}
{%- generation %}{{ message['content'] + eos_token }}{% endgeneration %}
{{ '\n' }}
{%- else %}
{{ '<|' + message['role'] + '|>\n' + message['content'] + eos_token }}
{% endif %}
{% endfor %}
{% if add_generation_prompt %}
{{ '<|assistant|>\n' }}
{%- endif %}
"""

# Consecutive messages of one role become one turn.
MERGING = """\
{%- for message in messages %}
    {%- if loop.first or messages[loop.index0 - 1].role != message.role %}
        {{- '<|im_start|>' + message.role + '\n' }}
    {%- else %}
        {{- '\n' }}
    {%- endif %}
    {{- message.content }}
    {%- if loop.last or messages[loop.index0 + 1].role != message.role %}{{ '<|im_end|>\n' }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}
"""

# Shows tools before the last question only, so that an earlier prompt is not how the conversation goes.
TOOLS_LAST = """\
{{- bos_token }}
{%- for message in messages %}
    {%- if message.role == 'user' %}
        {%- set later = messages[loop.index0 + 1:] | selectattr('role', 'eq', 'user') | list %}
        {%- if tools and not later %}
            {{- '[TOOLS]' + tools | tojson + '[/TOOLS]' }}
        {%- endif %}
        {{- '[INST] ' + message.content + ' [/INST]' }}
    {%- else %}
        {{- ' ' + message.content + eos_token }}
    {%- endif %}
{%- endfor %}
"""


@dataclass(frozen=True)
class Shape:
    """A template, the token that ends a turn in it, how it shows the answer of a last turn, and its other ends."""

    marked: str
    end: str
    shown: Callable[[str], str] = str
    other_ends: tuple[str, ...] = ()

    @property
    def plain(self) -> str:
        """The template without transformers' marks."""
        return re.sub(r"\{%-? (?:end)?generation %\}", "{#- -#}", self.marked)


SHAPES = {
    "llama 3": Shape(LLAMA_3, "<|eot_id|>", str.strip, ("<|eom_id|>",)),
    "llama 3 with the date": Shape(LLAMA_3_DATE, "<|eot_id|>", str.strip, ("<|eom_id|>",)),
    "llama 3 with tools": Shape(LLAMA_3_TOOLS, "<|eot_id|>", str.strip, ("<|eom_id|>",)),
    "qwen 2": Shape(QWEN_2, "<|im_end|>"),
    "qwen 3": Shape(QWEN_3, "<|im_end|>", lambda answer: "<think>\n\n</think>\n\n" + answer.lstrip("\n")),
    "gemma": Shape(GEMMA, "<end_of_turn>", str.strip),
    "phi 3": Shape(PHI_3, "<|end|>", str, ("</s>",)),
    "mistral": Shape(MISTRAL, "</s>", lambda answer: " " + answer.strip()),
    "zephyr": Shape(ZEPHYR, "</s>"),
}
SPECIAL_TOKENS = [
    *("<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    *("<|eom_id|>", "[INST]", "[/INST]", "<|user|>", "<|system|>", "<|assistant|>", "<|end|>"),
    *("<start_of_turn>", "<end_of_turn>"),
]
