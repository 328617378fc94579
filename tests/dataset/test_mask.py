"""What is trained: exactly the answers and the tokens that end them."""

from __future__ import annotations

from typing import Any

import chat_templates
import pytest
from tiny_model import make_tokenizer
from transformers import PreTrainedTokenizerFast

from dataset.zoo import view_with
from edgeft.artifacts import Message
from edgeft.dataset.findings import Place
from edgeft.dataset.mask import Example, tokenize_record
from edgeft.dataset.records import Record
from edgeft.errors import EdgeftError

SYSTEM: Message = {"role": "system", "content": "Be brief."}
SINGLE: list[Message] = [{"role": "user", "content": "turn on the light"}, {"role": "assistant", "content": "Done."}]
AGAIN: list[Message] = [{"role": "user", "content": "Done."}, {"role": "assistant", "content": 'yes {"a": 1}\n\nb'}]
CONVERSATIONS = {
    "single": SINGLE,
    "system": [SYSTEM, *SINGLE],
    "several": [*SINGLE, *AGAIN, *SINGLE],
    "system and several": [SYSTEM, *AGAIN, *SINGLE],
}
# The same templates, with transformers' mark around what the assistant says and its end token.
MARKED = {
    "chatml": (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' %}{% generation %}"
        "{{ m.content + '<|im_end|>' }}{% endgeneration %}{% else %}{{ m.content + '<|im_end|>' }}{% endif %}{{ '\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
        "<|im_end|>",
    ),
    "llama 3": (
        "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' }}"
        "{% if m.role == 'assistant' %}{% generation %}{{ m.content | trim + '<|eot_id|>' }}{% endgeneration %}"
        "{% else %}{{ m.content | trim + '<|eot_id|>' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}",
        "<|eot_id|>",
    ),
    "default system": (
        "{% if messages[0].role != 'system' %}{{ '<|im_start|>system\nYou are helpful.<|im_end|>\n' }}{% endif %}"
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' %}{% generation %}"
        "{{ m.content + '<|im_end|>' }}{% endgeneration %}{% else %}{{ m.content + '<|im_end|>' }}{% endif %}{{ '\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
        "<|im_end|>",
    ),
}
END_TOKENS = {"llama 3": "<|eot_id|>", "mistral": "</s>", "zephyr": "</s>"}


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer that knows the special tokens of all the templates."""
    made = make_tokenizer()
    made.add_special_tokens({"additional_special_tokens": chat_templates.SPECIAL_TOKENS})
    made.bos_token, made.eos_token = "<s>", "</s>"
    return made


def token_id(tokenizer: PreTrainedTokenizerFast, token: str) -> int:
    """Returns the id of a special token."""
    number = tokenizer.convert_tokens_to_ids(token)
    assert isinstance(number, int)
    return number


def tokenize(
    tokenizer: PreTrainedTokenizerFast, template: str, messages: list[Message], end_token: str = "<|im_end|>"
) -> Example:
    """Tokenizes a conversation with a template."""
    return tokenize_record(
        Record(tuple(messages), Place("train.jsonl", 7)),
        view_with(tokenizer, template, end_token),
    )


def trained_texts(tokenizer: PreTrainedTokenizerFast, example: Example) -> list[str]:
    """Returns the text of each run of trained tokens."""
    runs: list[list[int]] = []
    previous = False
    for token, flag in zip(example.ids, example.trained, strict=True):
        if flag and not previous:
            runs.append([])
        if flag:
            runs[-1].append(token)
        previous = flag
    return [str(tokenizer.decode(run, skip_special_tokens=False)) for run in runs]


@pytest.mark.parametrize("conversation", CONVERSATIONS)
@pytest.mark.parametrize("name", MARKED)
def test_the_mask_equals_transformers_own(tokenizer: PreTrainedTokenizerFast, name: str, conversation: str) -> None:
    template, end_token = MARKED[name]
    messages = CONVERSATIONS[conversation]
    example = tokenize(tokenizer, template, messages, end_token)
    tokenizer.chat_template = template
    theirs: Any = tokenizer.apply_chat_template(
        messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True, add_special_tokens=False
    )
    assert example.ids == theirs["input_ids"]
    assert example.trained == [bool(flag) for flag in theirs["assistant_masks"]]
    assert any(example.trained)


@pytest.mark.parametrize("conversation", CONVERSATIONS)
@pytest.mark.parametrize("name", ["chatml", "default system", "llama 3", "mistral", "zephyr"])
def test_answers_and_their_ends_are_trained(tokenizer: PreTrainedTokenizerFast, name: str, conversation: str) -> None:
    messages = CONVERSATIONS[conversation]
    end_token = END_TOKENS.get(name, "<|im_end|>")
    example = tokenize(tokenizer, chat_templates.ALL[name], messages, end_token)
    space = " " if name == "mistral" else ""  # [/INST] is what the model is given; the space after it is its answer
    answers = [message["content"] for message in messages if message["role"] == "assistant"]
    assert trained_texts(tokenizer, example) == [f"{space}{answer}{end_token}" for answer in answers]


def test_a_trimmed_answer_is_trained_as_it_is_rendered(tokenizer: PreTrainedTokenizerFast) -> None:
    messages = [SINGLE[0], {"role": "assistant", "content": "  Done. \n"}]
    example = tokenize(tokenizer, chat_templates.MISTRAL, messages, "</s>")
    assert trained_texts(tokenizer, example) == [" Done.</s>"]


def test_an_answer_of_weight_0_is_not_trained(tokenizer: PreTrainedTokenizerFast) -> None:
    messages = [SINGLE[0], {**SINGLE[1], "weight": 0}, *AGAIN]
    example = tokenize(tokenizer, chat_templates.CHATML, messages)
    assert example.ids == tokenize(tokenizer, chat_templates.CHATML, [*SINGLE, *AGAIN]).ids
    assert trained_texts(tokenizer, example) == [f"{AGAIN[1]['content']}<|im_end|>"]


def test_an_end_token_inside_an_answer_does_not_cut_it(tokenizer: PreTrainedTokenizerFast) -> None:
    messages = [SINGLE[0], {"role": "assistant", "content": "one<|im_end|>two"}]
    example = tokenize(tokenizer, chat_templates.CHATML, messages)
    assert trained_texts(tokenizer, example) == ["one<|im_end|>two<|im_end|>"]


@pytest.mark.parametrize("add_bos", [True, False])
def test_exactly_one_bos(tokenizer: PreTrainedTokenizerFast, add_bos: bool) -> None:
    if add_bos:
        _put_bos_first(tokenizer)
    bos = token_id(tokenizer, "<s>")
    with_bos = tokenize(tokenizer, chat_templates.LLAMA_3, SINGLE, "<|eot_id|>")
    without = tokenize(tokenizer, chat_templates.CHATML, SINGLE)
    assert [i for i, token in enumerate(with_bos.ids) if token == bos] == [0]
    assert [i for i, token in enumerate(without.ids) if token == bos] == ([0] if add_bos else [])
    assert trained_texts(tokenizer, without) == ["Done.<|im_end|>"]


def _put_bos_first(tokenizer: PreTrainedTokenizerFast) -> None:
    from tokenizers.processors import TemplateProcessing

    bos = token_id(tokenizer, "<s>")
    backend = tokenizer.backend_tokenizer
    backend.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", bos)])
    assert tokenizer("a")["input_ids"][0] == bos


def test_a_template_without_an_end_token(tokenizer: PreTrainedTokenizerFast) -> None:
    template = "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}"
    template += "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    with pytest.raises(EdgeftError, match=r"messages\[1\]: .*without an end-of-generation token") as caught:
        tokenize(tokenizer, template, SINGLE)
    assert caught.value.problems[0].where == "train.jsonl:7"


def test_an_end_token_only_after_the_user_is_none(tokenizer: PreTrainedTokenizerFast) -> None:
    template = "{% for m in messages %}{{ m.content + ('<|im_end|>' if m.role == 'user' else '') }}{% endfor %}"
    with pytest.raises(EdgeftError, match="without an end-of-generation token"):
        tokenize(tokenizer, template, [*SINGLE, *AGAIN])


def test_a_prompt_that_is_no_prefix(tokenizer: PreTrainedTokenizerFast) -> None:
    template = chat_templates.CHATML.replace("<|im_start|>assistant\n' }}", "<|im_start|>assistant\n<think>' }}")
    assert template != chat_templates.CHATML
    with pytest.raises(EdgeftError) as caught:
        tokenize(tokenizer, template, SINGLE)
    problem = caught.value.problems[0]
    assert problem.where == "train.jsonl:7"
    assert problem.what.startswith("messages[1]: what the model is given before this turn is not how the")
    assert "goes: at character 67, after ...'>\\n<|im_start|>assistant\\n', it has '<think>' where " in problem.what
    assert "the conversation has 'Done.<|im_end|>\\n'" in problem.what
    assert problem.remedy


def test_a_turn_that_is_shown_otherwise_later_on_is_not_trained_there(tokenizer: PreTrainedTokenizerFast) -> None:
    """The answer that the model would learn in such a conversation is not the one that it gave there; and the place
    where it ends must not be looked for in the user's next turn."""
    thought: list[Message] = [SINGLE[0], {"role": "assistant", "content": "<think>why on earth not</think>Done."}]
    single = tokenize(tokenizer, chat_templates.THINKING, thought)
    assert trained_texts(tokenizer, single) == ["<think>why on earth not</think>Done.<|im_end|>"]
    several = tokenize(tokenizer, chat_templates.THINKING, [*thought, *AGAIN])
    assert trained_texts(tokenizer, several) == ['yes {"a": 1}\n\nb<|im_end|>']
    (note,) = several.apart
    assert (note.severity, note.code, str(note.place), note.field) == (
        *("info", "turn-apart", "train.jsonl:7", "messages[1]"),
    )
    assert "'<think>why on earth not<'..." in note.message
    assert "'Done.<|im_end|>" in note.message
    plain = tokenize(tokenizer, chat_templates.THINKING, [*SINGLE, *AGAIN])
    assert trained_texts(tokenizer, plain) == ["Done.<|im_end|>", 'yes {"a": 1}\n\nb<|im_end|>']
    assert plain.apart == ()
