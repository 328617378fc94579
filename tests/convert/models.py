"""Tiny random checkpoints and tokenizers, made here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    LlamaTokenizer,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from edgeft.artifacts import Checkpoint, GgufFile
from edgeft.config import ConvertConfig
from edgeft.convert import convert
from edgeft.weights import CheckpointWeights

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA_3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|" + _REST
_QWEN_2 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|" + _REST
_QWEN_35 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|"
    r"\s*[\r\n]+|\s+(?!\S)|\s+"
)
_JOINER = "\u200d"

_CORPUS = (
    "The quick brown fox jumps over the lazy dog, and it's 12345 times that they've seen it! WE'LL see.",
    "Set the alarm for 7:30 tomorrow morning;   turn the lights in the kitchen to 40%.\n\nThanks :-)",
    "Das Mädchen aß gern Äpfel und übte am Klavier. Où est la bibliothèque? El niño comió piñas.",
    "нещо на Български 我想在apple工作1314151天 こんにちは世界 กำลัง हिन्दी العربية 🦙🚀😶‍🌫️ x²≠½",
    "def add(a, b):\n    return a + b\n\tif x == 3333: print('tabs')\r\n",
)
_WHOLE_WORD = "\u0120world"  # " world" in byte-level BPE's alphabet
PROBES = (
    *("", " ", "  ", "   ", "\t", "\n", "\n\n", " \n \n", "\t\n", "\r\n\r\n", "a", " a", "a ", "  a  b   "),
    *("Hello world", " Hello world", "Hello, world!!", "I'LL we've 'tis 'S don't", "3 33 333 3333 33333 3.3 3,333"),
    *("ied 4 ½ months x²", "Äpfel aß", "e\u0301 nfd", "こんにちは世界", "我想在apple工作1314151天", "🦙🚀😶‍🌫️ ✅"),
    *("กำลัง हिन्दी العربية", "\u00a0nbsp\u3000wide\u200bzero", "\x00\x01\x7f", "a\ufeffb", "x\u2028y", "------====!!??"),
    *("<|im_start|>user\nhi<|im_end|>\n", "glued<|im_end|>text", " <|im_end|> ", "<|im_end|><|im_end|>", "<|im_en"),
    *("<tool>x</tool>", "a<tool>b", " <tool> ", "def f(a):\n    return a\n\tx\r\n", "\n\n\n   indented"),
)

LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


def byte_level_tokenizer(folder: Path, splitting: str, ignore_merges: bool = False, add_bos: bool = False) -> None:
    """Trains a byte-level BPE vocabulary that splits as gpt-2, smollm, llama-bpe, qwen2 or qwen35 do, and saves it."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer = _splitting(splitting)
    tokenizer.decoder = decoders.ByteLevel()
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|begin|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=460,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    # Before a letter with a mark, llama.cpp splits at a joiner where Qwen3.5 does not: no merge may go over one.
    corpus = [text.replace(_JOINER, "") for text in _CORPUS] if splitting == "qwen35" else list(_CORPUS)
    tokenizer.train_from_iterator(corpus * 3, trainer)
    # A whole word that no merges make: ignore_merges alone decides whether it is ever used.
    described = json.loads(tokenizer.to_str())
    described["model"]["vocab"][_WHOLE_WORD] = tokenizer.get_vocab_size()
    tokenizer = Tokenizer.from_str(json.dumps(described))
    tokenizer.add_tokens([AddedToken("<tool>", normalized=False), AddedToken("</tool>", normalized=False)])
    if add_bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<|begin|> $A", special_tokens=[("<|begin|>", specials.index("<|begin|>"))]
        )
    fast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        bos_token="<|begin|>" if add_bos else None,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
    )
    fast.chat_template = CHATML
    fast.save_pretrained(folder)


def _splitting(name: str) -> pre_tokenizers.PreTokenizer:
    by_regex = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    if name == "gpt-2":
        return by_regex
    if name == "smollm":
        return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), by_regex])
    pattern = {"llama-bpe": _LLAMA_3, "qwen2": _QWEN_2, "qwen35": _QWEN_35}[name]
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def sentencepiece_model(folder: Path) -> sentencepiece.SentencePieceProcessor:
    """Trains a SentencePiece BPE model with Llama's settings and saves tokenizer.model; returns it loaded."""
    folder.mkdir(parents=True, exist_ok=True)
    prefix = folder / "tokenizer"
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(_CORPUS * 3),
        model_prefix=str(prefix),
        model_type="bpe",
        vocab_size=560,
        byte_fallback=True,
        split_digits=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        user_defined_symbols=["<tool>", "</tool>"],
        minloglevel=2,
    )
    prefix.with_suffix(".vocab").unlink()
    settings = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "tokenizer_class": "LlamaTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "legacy": False, "add_bos_token": True}))
    return sentencepiece.SentencePieceProcessor(model_file=str(prefix.with_suffix(".model")))


def llama_tokenizer(
    folder: Path, processor: sentencepiece.SentencePieceProcessor, chat: bool = False
) -> LlamaTokenizer:
    """Saves a SentencePiece model as transformers does: tokenizer.json with merges, and no scores; returns it.

    With `chat` it has ChatML's tokens and template.
    """
    vocab = {processor.id_to_piece(number): number for number in range(processor.get_piece_size())}
    pairs = [
        (processor.get_score(number), piece[:cut], piece[cut:])
        for piece, number in vocab.items()
        for cut in range(1, len(piece))
        if piece[:cut] in vocab and piece[cut:] in vocab and number > 260
    ]
    pairs.sort(key=lambda pair: (-pair[0], vocab[pair[1]], vocab[pair[2]]))
    tokenizer = LlamaTokenizer(vocab=vocab, merges=[(left, right) for _, left, right in pairs], legacy=False)
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in ("<tool>", "</tool>")])
    if chat:
        tokenizer.add_tokens([AddedToken(text, special=True) for text in ("<|im_start|>", "<|im_end|>")])
        tokenizer.eos_token, tokenizer.chat_template = "<|im_end|>", CHATML
    tokenizer.save_pretrained(folder)
    return tokenizer


def llama(folder: Path, dtype: torch.dtype = torch.float32, **settings: Any) -> PreTrainedModel:
    """Saves a random Llama (or, with mistral=True, a Mistral) in `folder`, beside the tokenizer."""
    mistral = settings.pop("mistral", False)
    shape = {
        "vocab_size": 576,
        "hidden_size": 256,
        "intermediate_size": 512,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
    }
    torch.manual_seed(0)
    model: PreTrainedModel
    if mistral:
        model = MistralForCausalLM(MistralConfig(**shape | settings))
    else:
        model = LlamaForCausalLM(LlamaConfig(**shape | settings))
    model.to(dtype=dtype)  # type: ignore[call-arg]
    model.eval()  # type: ignore[no-untyped-call]
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # The default initialisation gives logits too flat, and zero biases and unit norms, that hide mistakes.
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.2)
            elif "embed" not in name:
                parameter.mul_(3)
    model.save_pretrained(folder)
    return model


def to_gguf(folder: Path, out: Path, dtype: str = "f32") -> GgufFile:
    """Converts the checkpoint in `folder`."""
    source = Checkpoint.open(folder)
    config = ConvertConfig.model_validate({"dtype": dtype, "random_texts": 500})
    return convert(CheckpointWeights(source), source, config, out)


def random_texts(count: int, seed: int) -> Iterator[str]:
    """Yields strings of characters from many scripts, spaces and digits, NFC where llama.cpp cannot normalize."""
    generator = torch.Generator().manual_seed(seed)
    ranges = (
        (32, 126),
        (32, 33),
        (48, 57),
        (9, 13),
        (0xC0, 0x24F),
        (0x400, 0x4FF),
        (0x4E00, 0x4EFF),
        (0x1F600, 0x1F64F),
    )

    def pick(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (1,), generator=generator))

    for _ in range(count):
        spans = [ranges[pick(0, len(ranges) - 1)] for _ in range(pick(1, 24))]
        yield "".join(chr(pick(low, high)) for low, high in spans for _ in range(pick(1, 3)))
