"""Templates render here, without transformers, to the very text that they render to there."""

from __future__ import annotations

from datetime import datetime

import chat_templates
import pytest
from tiny_model import make_tokenizer
from transformers import PreTrainedTokenizerFast

from edgeft.artifacts import Message
from edgeft.errors import EdgeftError
from edgeft.template import render_template

SINGLE: list[Message] = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": " Hello! \n"}]
CONVERSATIONS: dict[str, list[Message]] = {
    "question": SINGLE[:1],
    "single turn": SINGLE,
    "several turns": [*SINGLE, {"role": "user", "content": ""}, {"role": "assistant", "content": "<think>a</think>b"}],
    "system": [{"role": "system", "content": "Be brief."}, *SINGLE],
    "reasoning": [SINGLE[0], {"role": "assistant", "content": "b", "reasoning": "a"}],
    "odd text": [
        {"role": "user", "content": '{{ x }} {% raw %} "q" \\n <b>&amp;</b>\r\n\t ä 日本 🙂 \u2028'},
        {"role": "assistant", "content": "'1' </s>"},
    ],
}
SUBTLE = {
    "trimmed blocks": "a\n  {% for m in messages %}\n    {{ m.role }}\n  {% endfor %}\nb\n",
    "kept whitespace": "  {%+ if true %} x {%+ endif %}\n y",
    "minus signs": "a \n {%- if true -%} \n b \n {%- endif -%} \n c {{- ' d ' -}} e",
    "comment": "a\n  {# none of it #}\nb{#- nor this -#} c",
    "loop controls": "{% for m in messages %}{% if loop.index0 == 1 %}{% continue %}{% endif %}{{ m.content }}"
    "{% if loop.index0 == 2 %}{% break %}{% endif %}{% endfor %}",
    "tojson": "{{ messages | tojson }}|{{ messages[0] | tojson(indent=2) }}|{{ '<ä\u2028>' | tojson }}"
    "|{{ 'ä' | tojson(ensure_ascii=true) }}"
    "|{{ {'b': 1, 'a': [1, 2]} | tojson(separators=(',', ':'), sort_keys=true) }}",
    "namespace": "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
    "undefined": "{{ missing }}|{{ missing is defined }}|{{ tools is none }}|{{ documents is none }}",
    "tokens": "{{ bos_token }}|{{ bos_token is defined }}|{{ eos_token }}|{{ add_generation_prompt }}",
    "methods": "{{ messages[0].content.split('h')[-1].upper() }}{{ messages[0]['content'][:1] }}"
    "{{ 'x'.startswith('x') }}",
    "messages": "{% for m in messages %}{{ m | tojson }}{% endfor %}",
    "macro": "{% macro turn(m) %}[{{ m.role }}]{% endmacro %}{% for m in messages %}{{ turn(m) }}{% endfor %}",
    "generation": "{% for m in messages %}\n  {% generation %}\n  {{ m.content }}{% set x = 1 %}\n"
    "  {%- endgeneration %}\n"
    "{{ x }}{% endfor %}",
    "dictionary": "{{ dict(a=1) | tojson }}{% for k, v in messages[0].items() | sort %}{{ k }}={{ v }};{% endfor %}",
}


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer with an EOS and without a BOS."""
    return make_tokenizer()


def test_keys_that_hold_nothing_are_left_out(tokenizer: PreTrainedTokenizerFast) -> None:
    messages = [SINGLE[0], {"role": "assistant", "content": None, "tool_calls": None}]
    for template in (SUBTLE["messages"], "{% for m in messages %}{{ m.content }}{% endfor %}"):
        ours = render_template(template, messages, add_generation_prompt=False, special_tokens={})
        assert ours == theirs(tokenizer, template, messages, False)


def theirs(tokenizer: PreTrainedTokenizerFast, template: str, messages: list[Message], prompt: bool) -> str:
    """Returns what transformers renders."""
    return str(
        tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False, add_generation_prompt=prompt)
    )


def ours(tokenizer: PreTrainedTokenizerFast, template: str, messages: list[Message], prompt: bool) -> str:
    """Returns what edgeft renders."""
    return render_template(
        template,
        messages,
        add_generation_prompt=prompt,
        special_tokens={name: str(token) for name, token in tokenizer.special_tokens_map.items()},
    )


@pytest.mark.parametrize("prompt", [True, False])
@pytest.mark.parametrize("conversation", CONVERSATIONS)
@pytest.mark.parametrize("name", chat_templates.ALL)
def test_templates_of_models(tokenizer: PreTrainedTokenizerFast, name: str, conversation: str, prompt: bool) -> None:
    messages, template = CONVERSATIONS[conversation], chat_templates.ALL[name]
    for bos in (None, "<s>"):
        tokenizer.bos_token = bos
        rendered = ours(tokenizer, template, messages, prompt)
        assert rendered == theirs(tokenizer, template, messages, prompt)
        assert messages[0]["content"].strip() in rendered


@pytest.mark.parametrize("name", SUBTLE)
def test_subtleties(tokenizer: PreTrainedTokenizerFast, name: str) -> None:
    for bos in (None, "<s>"):
        tokenizer.bos_token = bos
        for messages in CONVERSATIONS.values():
            expected = theirs(tokenizer, SUBTLE[name], messages, True)
            assert ours(tokenizer, SUBTLE[name], messages, True) == expected


def test_the_date() -> None:
    before = datetime.now().date()
    rendered = render_template("{{ strftime_now('%Y-%m-%d') }}", SINGLE, add_generation_prompt=False, special_tokens={})
    assert before <= datetime.strptime(rendered, "%Y-%m-%d").date() <= datetime.now().date()


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{ raise_exception('system role not supported') }}", "system role not supported"),
        ("{% for m in messages %}", "Unexpected end of template"),
        ("{{ missing.key }}", "'missing' is undefined"),
        ("{{ messages.append(1) }}", "unsafe"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
    ],
)
def test_a_template_that_refuses(template: str, words: str) -> None:
    with pytest.raises(EdgeftError, match="the chat template refuses this conversation") as caught:
        render_template(template, SINGLE, add_generation_prompt=False, special_tokens={})
    assert words in caught.value.problems[0].what
