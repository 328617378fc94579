"""`edgeft data`: what is in files of records, before anything is trained on them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import click

from edgeft.cli.options import AT_LEAST_ONE, FILE, FOLDER, shown
from edgeft.config import Config, load_config
from edgeft.console import Output
from edgeft.dataset.check.check import check_records
from edgeft.dataset.check.settings import CheckSettings
from edgeft.dataset.findings import Finding, raise_errors
from edgeft.dataset.record import Record
from edgeft.dataset.sources import stream
from edgeft.dataset.tokenizer import TokenizerView
from edgeft.errors import EdgeftError
from edgeft.files import making_folder
from edgeft.graph import near_groups

_model_option = click.option("--model", help="a checkpoint folder or hub id: counts its tokens, knows its markers")
_SHARE = click.FloatRange(0, 1, min_open=True, max_open=True)
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
        train = [_located(config, part.path) for part in dataset.sources]
        evaluation, test = (name and _located(config, name) for name in (dataset.evaluation, dataset.test))
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
@click.option(
    "--fraction",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.1,
    show_default=True,
    help="share held out",
)
def split(source: str, out: Path, fraction: float) -> None:
    """Splits the records of SOURCE by what they say: near-duplicates stay together, labels are on both sides."""
    from edgeft.dataset.split_files import split_records

    output = Output()
    with making_folder(out) as partial:
        sides = split_records(lambda: _stream([source]), fraction, partial, near_groups)
    held = int(sides.evaluation.sum())
    output.line(f"{shown(out.absolute())}: {len(sides.evaluation) - held:,} train + {held:,} evaluation")


@data.command()
@click.argument("source")
@click.option("--model", required=True, help="a checkpoint folder or hub id")
@click.option("--count", type=AT_LEAST_ONE, default=3, show_default=True, help="how many records")
@click.option("--seed", type=int, help="show records drawn at random, not the first")
@click.option("--line", "lines", type=AT_LEAST_ONE, multiple=True, help="show the record of this line; repeatable")
@click.option("--max-tokens", type=click.IntRange(min=8), default=1024, show_default=True, help="longest record")
@click.option("--ids", is_flag=True, help="show the id of each token")
@click.option("--whole", is_flag=True, help="show long records whole")
@click.option("--json", "as_json", is_flag=True, help="print the previews as JSON")
def preview(
    source: str,
    model: str,
    count: int,
    seed: int | None,
    lines: tuple[int, ...],
    max_tokens: int,
    ids: bool,
    whole: bool,
    as_json: bool,
) -> None:
    """Shows records of SOURCE as a model sees them: which tokens are trained, which are special."""
    from edgeft.dataset.preview import Selection, preview_records
    from edgeft.token_view import print_previews

    tokenizer, _ = _tokenizer(model)
    assert tokenizer is not None
    findings: list[Finding] = []
    records = list(_only_records(_stream([source]), findings))
    previews = list(preview_records(records, tokenizer, max_tokens, Selection(count=count, seed=seed, lines=lines)))
    if not previews:
        raise_errors(findings)
        raise EdgeftError("none of these records is there", source, "name lines that hold records")
    if as_json:
        click.echo(json.dumps([shown_record.to_json() for shown_record in previews], indent=2, ensure_ascii=False))
    else:
        print_previews(Output().out, previews, ids=ids, whole=whole)


@data.command()
@click.argument("source")
@click.option("--to", "form", type=click.Choice(["openai", "sharegpt", "alpaca"]), required=True, help="the format")
@click.option("--out", type=FILE, required=True, help="the file to write")
@_model_option
@click.option("--price", type=click.FloatRange(min=0), help="price of a million trained tokens, for --to openai")
@click.option("--epochs", type=click.FloatRange(min=0), default=3.0, show_default=True, help="passes that are paid for")
def export(
    source: str,
    form: Literal["openai", "sharegpt", "alpaca"],
    out: Path,
    model: str | None,
    price: float | None,
    epochs: float,
) -> None:
    """Writes the records of SOURCE in another tool's format; exits 1 when one of them could not be written."""
    from edgeft.dataset.export import Price
    from edgeft.dataset.export import export as write

    output = Output()
    unread: list[Finding] = []
    tokenizer, _ = _tokenizer(model)
    try:
        report = write(
            _only_records(_stream([source]), unread),
            form,
            out,
            count=None if tokenizer is None else lambda text: len(tokenizer.encode(text)),
            counted=f"with the tokenizer of {model}",
            price=None if price is None else Price(price, epochs),
        )
    except EdgeftError:
        raise_errors(unread)  # they say why there is nothing to write
        raise
    for finding in (*unread, *report.findings):
        output.line(f"{finding.severity} {finding.problem()}")
    output.line(f"{shown(out.absolute())}: {report.records_out:,} of {report.records_in:,} records")
    if report.tokens is not None:
        paid = "" if report.cost is None else f"; {epochs:g} epochs at {price:g} a million cost {report.cost:,.2f}"
        output.line(f"{report.tokens:,} tokens, counted {report.counted}{paid}")
    if not report.ok or any(finding.severity == "error" for finding in unread):
        raise click.exceptions.Exit(EdgeftError.exit_code)


def _only_records(items: Iterator[Record | Finding], findings: list[Finding]) -> Iterator[Record]:
    for item in items:
        if isinstance(item, Finding):
            findings.append(item)
        else:
            yield item


def _located(config: Config, source: str) -> str:
    """Returns a source of a configuration as seen from the working directory."""
    return source if config.local_source(source) is None else str(config.path(source))


def _stream(sources: list[str]) -> Iterator[Record | Finding]:
    for source in sources:
        yield from stream(source)


def _tokenizer(model: str | None) -> tuple[TokenizerView | None, tuple[str, ...]]:
    """Returns a model's tokenizer and its special tokens; nothing where there is no model."""
    if model is None:
        return None, ()
    from edgeft import hf

    hf.quiet()
    folder = hf.resolve_checkpoint(model).path
    return hf.tokenizer_opener(folder)(), hf.special_texts(folder)
