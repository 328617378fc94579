"""`edgeft data`: what is in files of records, before anything is trained on them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import click

from edgeft.cli.options import FILE, FOLDER, shown
from edgeft.config import Config, load_config
from edgeft.console import Output
from edgeft.dataset.check.check import check_records
from edgeft.dataset.check.settings import CheckSettings
from edgeft.dataset.findings import Finding
from edgeft.dataset.records import Record, stream_records
from edgeft.dataset.tokenizer import TokenizerView
from edgeft.errors import EdgeftError
from edgeft.files import making_folder
from edgeft.graph import near_groups

_model_option = click.option("--model", help="a checkpoint folder or hub id: counts its tokens, knows its markers")
_config_or_files = click.option("-c", "--config", "config_path", type=FILE, help="the records of this configuration")


@click.group()
def data() -> None:
    """Looks at records: checks them, shows what of them is trained, splits them, writes other formats."""


@data.command()
@click.argument("source", required=False)
@_config_or_files
@click.option("--evaluation", help="records of the evaluation loss")
@click.option("--test", help="records held out from training")
@_model_option
@click.option("--max-tokens", type=click.IntRange(min=8), default=1024, show_default=True, help="longest record")
@click.option("--json", "as_json", is_flag=True, help="print the report as JSON")
def check(
    source: str | None,
    config_path: Path | None,
    evaluation: str | None,
    test: str | None,
    model: str | None,
    max_tokens: int,
    as_json: bool,
) -> None:
    """Reports everything wrong with the records of SOURCE, or of a configuration. Exits 1 on errors."""
    output = Output()
    if (source is None) == (config_path is None):
        raise click.UsageError("give a file of records, or a configuration with -c")
    if config_path is not None:
        config = load_config(config_path)
        dataset = config.dataset
        max_tokens, model = dataset.max_tokens, config.base
        train = [str(config.path(part.path)) for part in dataset.sources]
        evaluation, test = (_resolved(config, name) for name in (dataset.evaluation, dataset.test))
    else:
        train = [str(source)]
    tokenizer, special_tokens = _tokenizer(model)
    settings = CheckSettings(max_tokens=max_tokens, special_tokens=special_tokens)
    with output.progress("check") as progress:
        report = check_records(
            _stream(train),
            None if evaluation is None else _stream([evaluation]),
            None if test is None else _stream([test]),
            settings,
            tokenizer,
            progress,
        )
    if as_json:
        click.echo(json.dumps(report.to_json(), indent=2, ensure_ascii=False))
    else:
        output.findings(report)
    if not report.ok:
        raise click.exceptions.Exit(EdgeftError.exit_code)


@data.command()
@click.argument("source")
@click.option("--out", type=FOLDER, required=True, help="folder of train.jsonl and evaluation.jsonl; must not exist")
@click.option("--fraction", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=0.1, show_default=True)
def split(source: str, out: Path, fraction: float) -> None:
    """Splits the records of SOURCE by what they say: near-duplicates stay together, labels are on both sides."""
    from edgeft.dataset.split_files import split_records

    output = Output()
    with making_folder(out) as partial:
        sides = split_records(lambda: _stream([source]), fraction, partial, near_groups)
    held = int(sides.evaluation.sum())
    output.line(f"{shown(out.absolute())}: {len(sides.evaluation) - held:,} train + {held:,} evaluation")


def _resolved(config: Config, name: str | None) -> str | None:
    return None if name is None else str(config.path(name))


def _stream(sources: list[str]) -> Iterator[Record | Finding]:
    for source in sources:
        yield from stream_records(Path(source))


def _tokenizer(model: str | None) -> tuple[TokenizerView | None, tuple[str, ...]]:
    """Returns a model's tokenizer and its special tokens; nothing where there is no model."""
    if model is None:
        return None, ()
    from edgeft import hf

    hf.quiet()
    folder = hf.resolve_checkpoint(model).path
    return hf.tokenizer_opener(folder)(), hf.special_texts(folder)
