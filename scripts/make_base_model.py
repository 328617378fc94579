"""Makes the embedded base model: writes its curriculum, trains its tokenizer and its weights, measures and saves it.

    python scripts/make_base_model.py --work WORK --out models/base --max-minutes 9

Interrupted by `--max-minutes`, the same command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from pathlib import Path

import torch
from base_model.bpe import load_or_train, save_tokenizer
from base_model.card import Figures, write_card
from base_model.documents import Turn, render
from base_model.evaluation import FamilyScore, OutOfTimeError, copy_scores, family_exact, family_losses
from base_model.families import FAMILIES
from base_model.model import build_config, build_model
from base_model.shards import Markup, ShardPlan
from base_model.training import Trainer, TrainingConfig, bench
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, LlamaForCausalLM


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--out", type=Path, default=Path("models/base"), help="folder of the finished model")
    add("--work", type=Path, required=True, help="folder of the tokenizer, shards and checkpoint")
    add("--tokens", type=int, default=800_000_000, help="training tokens in all")
    add("--max-minutes", type=float, default=1e6, help="wall-clock limit of this call")
    add("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 1), help="processes that write the curriculum")
    add("--seed", type=int, default=1)
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--batch", type=int, default=256, help="rows of a step")
    add("--learning-rate", type=float, default=3e-3)
    add("--rows-per-shard", type=int, default=4096)
    add("--layers", type=int, default=8)
    add("--hidden", type=int, default=256)
    add("--heads", type=int, default=4)
    add("--context", type=int, default=1024, help="tokens of a row")
    add("--vocab", type=int, default=4096)
    add("--tokenizer-sample-mb", type=float, default=40.0)
    add("--eval-documents", type=int, default=64, help="held-out documents of each family in the final evaluation")
    add("--copy-count", type=int, default=200, help="held-out strings of each kind in the copy evaluation")
    add("--no-compile", action="store_true")
    add("--bench-seconds", type=float, help="only measure training speed, this long for each batch size")
    return parser.parse_args(arguments)


def export(model: LlamaForCausalLM, tokenizer: Tokenizer, folder: Path, context: int) -> None:
    """Writes the model in bfloat16 with its tokenizer, and reads both back to prove that they load."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    markup = Markup.of(tokenizer)
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        eos_token_id=markup.turn_end, pad_token_id=markup.end_of_text, bos_token_id=None, do_sample=False
    )
    kept = {name: value.to(torch.bfloat16) for name, value in model.state_dict().items()}
    half = LlamaForCausalLM(model.config)
    half.to(torch.bfloat16)  # type: ignore[arg-type]
    half.load_state_dict(kept)
    half.generation_config = model.generation_config
    half.save_pretrained(folder)
    save_tokenizer(tokenizer, folder, context)
    loaded = AutoTokenizer.from_pretrained(folder)
    probe = [Turn("user", "Zoë's code:\n  Qx-71 ñ \U0001f600 don't"), Turn("assistant", "é 12 345")]
    messages = [{"role": turn.role, "content": turn.content} for turn in probe]
    if loaded.apply_chat_template(messages, tokenize=False) != render(probe):
        raise RuntimeError("the saved chat template renders otherwise than the curriculum")
    if loaded(render(probe))["input_ids"] != tokenizer.encode(render(probe)).ids:
        raise RuntimeError("the saved tokenizer gives other ids than the one trained")
    AutoModelForCausalLM.from_pretrained(folder)


def publish(folder: Path, out: Path) -> None:
    """Puts the finished folder in place of `out`, whole."""
    out.parent.mkdir(parents=True, exist_ok=True)
    incoming, old = out.with_name(f"{out.name}.partial"), out.with_name(f"{out.name}.old")
    for leftover in (incoming, old):
        shutil.rmtree(leftover, ignore_errors=True)
    shutil.copytree(folder, incoming, copy_function=shutil.copyfile)
    if out.exists():
        out.rename(old)
    incoming.rename(out)
    shutil.rmtree(old, ignore_errors=True)


def command_line(options: argparse.Namespace) -> str:
    return (
        f"python scripts/make_base_model.py --work WORK --tokens {options.tokens} "
        f"--batch {options.batch} --learning-rate {options.learning_rate:g} --seed {options.seed}"
    )


def measure(
    model: LlamaForCausalLM,
    tokenizer: Tokenizer,
    options: argparse.Namespace,
    trainer: Trainer,
    deadline: float,
    folder: Path,
) -> Figures:
    """All figures of the card, measured now on the bfloat16 weights that were saved."""
    seed, device, count = options.seed, options.device, options.eval_documents
    losses = family_losses(model, tokenizer, seed, count, device, deadline)
    exact = family_exact(model, tokenizer, seed, count, device, deadline)
    copying = copy_scores(model, tokenizer, seed, options.copy_count, device, deadline)
    return Figures(
        config=model.config,
        training=trainer.config,
        progress=trainer.progress,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        size_bytes=(folder / "model.safetensors").stat().st_size,
        seed=seed,
        device=device,
        families=[FamilyScore(family.name, losses[family.name], exact.get(family.name)) for family in FAMILIES],
        copying=copying,
        family_documents=count,
        copy_count=options.copy_count,
        command=command_line(options),
    )


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    deadline = time.monotonic() + 60 * options.max_minutes
    torch.backends.cuda.matmul.allow_tf32 = True
    options.work.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    path = options.work / "tokenizer.json"
    tokenizer = load_or_train(path, options.seed, options.vocab, int(options.tokenizer_sample_mb * 1e6))
    print(f"tokenizer: {tokenizer.get_vocab_size()} entries, {time.monotonic() - begun:.1f} s", flush=True)
    markup = Markup.of(tokenizer)
    config = build_config(
        options.vocab,
        options.hidden,
        options.layers,
        options.heads,
        options.context,
        markup.end_of_text,
        markup.turn_end,
    )
    model = build_model(config, options.seed, options.device)
    plan = ShardPlan(options.seed, options.rows_per_shard, options.context, path, options.work / "shards")
    training = TrainingConfig(options.tokens, options.batch, options.learning_rate, compile=not options.no_compile)
    if options.bench_seconds:
        bench(model, training, plan, options.device, options.bench_seconds)
        return 0
    trainer = Trainer(model, training, plan, options.work / "checkpoint.safetensors", options.device)
    print(
        f"{model.num_parameters() / 1e6:.2f}M parameters, step {trainer.progress.step} of {trainer.steps}", flush=True
    )

    def mean_held_out_loss() -> float:
        try:
            losses = family_losses(
                model, tokenizer, options.seed, max(1, options.eval_documents // 4), options.device, deadline - 8
            )
        except OutOfTimeError:
            return float("nan")
        return sum(losses.values()) / len(losses)

    if not trainer.train(options.workers, deadline, mean_held_out_loss):
        print(f"stopped at step {trainer.progress.step} of {trainer.steps}: resume with the same command", flush=True)
        return 0
    folder = options.work / "export"
    export(model, tokenizer, folder, options.context)
    print("trained and exported; measuring", flush=True)
    saved = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).to(options.device).eval()
    try:
        figures = measure(saved, tokenizer, options, trainer, deadline - 4, folder)
    except OutOfTimeError:
        print("training is done, its measurement is not: resume with the same command", flush=True)
        return 0
    (folder / "README.md").write_text(write_card(figures), encoding="utf-8")
    publish(folder, options.out)
    for (kind, form), share in figures.copying.items():
        print(f"copy {kind}, {form}: {100 * share:.1f}%")
    for score in figures.families:
        print(
            f"{score.name}: loss {score.loss:.3f}"
            + ("" if score.exact is None else f", exact {100 * score.exact:.0f}%")
        )
    print(f"saved {options.out}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
