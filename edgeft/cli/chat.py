"""`edgeft chat`: a conversation in the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import click

from edgeft.artifacts import GgufFile
from edgeft.cli.options import AT_LEAST_ONE, FILE, shown, threads_option
from edgeft.config import Config, load_config
from edgeft.console import Output
from edgeft.errors import EdgeftError


@click.command()
@click.argument("gguf", type=FILE, required=False)
@click.option("-c", "--config", "config_path", type=FILE, help="talk to the smallest file of this configuration's run")
@click.option("--adapter", type=FILE, help="a GGUF LoRA beside the model, as convert-adapter writes it")
@click.option("--system", help="a system message")
@click.option("--n-ctx", type=AT_LEAST_ONE, default=2048, show_default=True, help="tokens of context")
@click.option("--max-tokens", type=AT_LEAST_ONE, default=512, show_default=True, help="longest answer")
@click.option(
    "--gpu-layers", default=0, show_default=True, help="layers on the GPU, where llama.cpp was built for one; -1: all"
)
@threads_option
def chat(
    gguf: Path | None,
    config_path: Path | None,
    adapter: Path | None,
    system: str | None,
    n_ctx: int,
    max_tokens: int,
    gpu_layers: int,
    threads: int,
) -> None:
    """Talks to a GGUF file in the terminal."""
    from edgeft.answer_form import AnswerForm
    from edgeft.chat import HELP
    from edgeft.chat import chat as converse
    from edgeft.llamacpp import Engine

    output = Output()
    if (gguf is None) == (config_path is None):
        raise click.UsageError("give a GGUF file, or a configuration with -c")
    path = gguf if gguf is not None else _smallest_file(load_config(cast(Path, config_path)))
    lora = None if adapter is None else GgufFile.open(adapter)
    with Engine(GgufFile.open(path), n_ctx, gpu_layers=gpu_layers, threads=threads, adapter=lora) as engine:
        output.line(f"{shown(path.absolute())}, context of {engine.n_ctx} tokens; {HELP}")
        form = AnswerForm.of(engine.render, engine.special_texts())
        converse(engine, output.terminal(), max_tokens, system, form)


def _smallest_file(config: Config) -> Path:
    from edgeft.graph import Graph

    graph = Graph(config)
    found = [graph.gguf(name).path for name in graph.file_types if graph.gguf(name).path.is_file()]
    if not found:
        raise EdgeftError("this run has no GGUF file yet", str(graph.run.root), "make it: edgeft run quantize")
    return min(found, key=lambda path: path.stat().st_size)
