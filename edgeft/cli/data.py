"""`edgeft data`: what is in files of records, before anything is trained on them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, get_args

import click

from edgeft.cli.options import AT_LEAST_ONE, FILE, FOLDER, shown
from edgeft.config import Config, DatasetConfig, load_config
from edgeft.console import Output
from edgeft.dataset.check.check import check_records
from edgeft.dataset.check.near import near_groups
from edgeft.dataset.check.settings import CheckSettings
from edgeft.dataset.findings import Finding, raise_errors
from edgeft.dataset.fitting import Limit, OverLength
from edgeft.dataset.record import Record
from edgeft.dataset.sources import Account, require_apart, stream
from edgeft.dataset.tokenizer import TokenizerView
from edgeft.errors import EdgeftError
from edgeft.files import json_text, making_folder, printable
from edgeft.graph import Graph

_DEFAULTS = DatasetConfig(train="")
_SHARE = click.FloatRange(0, 1, min_open=True, max_open=True)
_model_option = click.option("--model", help="a checkpoint folder or hub id: counts its tokens, knows its markers")
_max_tokens_option = click.option(
    "--max-tokens", type=click.IntRange(min=8), help=f"longest record  [default: {_DEFAULTS.max_tokens}]"
)
_over_length_option = click.option(
    "--over-length", type=click.Choice(get_args(OverLength)), help="what becomes of longer ones  [default: error]"
)
_near_option = click.option(
    "--near", type=click.FloatRange(0.7, 1), help=f"likeness of near-duplicates  [default: {_DEFAULTS.near_duplicate}]"
)
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
@_max_tokens_option
@_over_length_option
@_near_option
@click.option(
    "--few-records", type=AT_LEAST_ONE, default=1000, show_default=True, help="warn of fewer training records"
)
@click.option("--label-share", type=_SHARE, default=0.9, show_default=True, help="warn of a label with a larger share")
@click.option("--label-examples", type=AT_LEAST_ONE, default=5, show_default=True, help="warn of a label with fewer")
@click.option("--places", type=AT_LEAST_ONE, default=3, show_default=True, help="how many places of each kind to show")
@click.option("--json", "as_json", is_flag=True, help="print the report as JSON")
def check(
    source: str | None,
    config_path: Path | None,
    evaluation: str | None,
    test: str | None,
    model: str | None,
    max_tokens: int | None,
    over_length: OverLength | None,
    near: float | None,
    few_records: int,
    label_share: float,
    label_examples: int,
    places: int,
    as_json: bool,
) -> None:
    """Reports everything wrong with the records of SOURCE, or of a configuration. Exits 1 on errors.

    docs/findings.md explains the codes.
    """
    output = Output()
    train, dataset, base = _asked_for(source, config_path)
    if config_path is not None:
        config = load_config(config_path)
        own = [name and _located(config, name) for name in (dataset.evaluation, dataset.test)]
        evaluation, test = (asked or named for asked, named in zip((evaluation, test), own, strict=True))
    tokenizer, special_tokens = _tokenizer(model or base)
    settings = CheckSettings(
        max_tokens=max_tokens or dataset.max_tokens,
        over_length=over_length or dataset.over_length,
        near_threshold=near or dataset.near_duplicate,
        few_records=few_records,
        label_share=label_share,
        label_examples=label_examples,
        special_tokens=special_tokens,
    )
    held_out = [name for name, one in (("evaluation", evaluation), ("test", test)) if one is not None]
    accounts = {name: Account() for name in ("training", *held_out)}
    with output.progress("check") as progress:
        report = check_records(
            _stream(train, accounts["training"]),
            None if evaluation is None else _stream([evaluation], accounts["evaluation"]),
            None if test is None else _stream([test], accounts["test"]),
            settings,
            tokenizer,
            progress,
            accounts,
        )
    if as_json:
        click.echo(json_text(report.to_json()))
    else:
        output.findings(report, places)
    if not report.ok:
        raise click.exceptions.Exit(EdgeftError.exit_code)


@data.command()
@click.argument("source")
@click.option("--out", type=FOLDER, required=True, help="folder of train.jsonl and evaluation.jsonl; must not exist")
@click.option("--fraction", type=_SHARE, default=0.1, show_default=True, help="share held out")
@_near_option
def split(source: str, out: Path, fraction: float, near: float | None) -> None:
    """Splits the records of SOURCE by what they say: near-duplicates stay together, labels are on both sides."""
    from edgeft.dataset.account import FindingLog
    from edgeft.dataset.split_files import split_records
    from edgeft.dataset.tokens import TokenSource

    output, log = Output(), FindingLog()
    require_apart(source, out)
    grouping = partial(near_groups, threshold=near or _DEFAULTS.near_duplicate)
    try:
        with making_folder(out) as unfinished:
            records = TokenSource(source, partial(stream, source))
            sides = split_records(records, fraction, unfinished, grouping, log)
    finally:
        _print_findings(output, log.notices)
        if more := sum(log.noticed.values()) - len(log.notices):
            output.line(f"and {more:,} more: `edgeft data check` shows them")
    held = int(sides.evaluation.sum())
    output.line(f"{printable(shown(out.absolute()))}: {len(sides.evaluation) - held:,} train + {held:,} evaluation")


@data.command()
@click.argument("source", required=False)
@_config_or_files
@click.option("--model", help="a checkpoint folder or hub id; unset: the configuration's")
@click.option("--count", type=AT_LEAST_ONE, default=3, show_default=True, help="how many records")
@click.option("--seed", type=int, help="show records drawn at random, not the first")
@click.option("--line", "lines", type=AT_LEAST_ONE, multiple=True, help="show the record of this line; repeatable")
@_max_tokens_option
@_over_length_option
@click.option("--ids", is_flag=True, help="show the id of each token")
@click.option("--whole", is_flag=True, help="show long records whole")
@click.option("--json", "as_json", is_flag=True, help="print the previews as JSON")
def preview(
    source: str | None,
    config_path: Path | None,
    model: str | None,
    count: int,
    seed: int | None,
    lines: tuple[int, ...],
    max_tokens: int | None,
    over_length: OverLength | None,
    ids: bool,
    whole: bool,
    as_json: bool,
) -> None:
    """Shows records of SOURCE, or of a configuration, as a model sees them: which tokens are trained or special."""
    from edgeft.dataset.preview import Selection, preview_records
    from edgeft.token_view import print_previews

    sources, dataset, base = _asked_for(source, config_path)
    if (model or base) is None:
        raise click.UsageError("name a model with --model, or a configuration with -c")
    tokenizer, _ = _tokenizer(model or base)
    assert tokenizer is not None
    findings: list[Finding] = []
    records = _only_records(_stream(sources), findings)
    selection = Selection(count=count, seed=seed, lines=lines)
    limit = Limit(max_tokens or dataset.max_tokens, over_length or dataset.over_length)
    previews = preview_records(records, tokenizer, limit, selection)
    if not previews:
        raise_errors(findings)
        raise EdgeftError("none of these records is there", ", ".join(sources), "name lines that hold records")
    output = Output()
    if as_json:
        click.echo(json.dumps([shown_record.to_json() for shown_record in previews], indent=2, ensure_ascii=False))
    else:
        print_previews(output.out, previews, ids=ids, whole=whole)
    if refused := sum(finding.severity == "error" for finding in findings):
        errors = "1 error" if refused == 1 else f"{refused:,} errors"
        output.err.print(f"{errors} among the rows that were read: `edgeft data check` shows them")


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
    require_apart(source, out)
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
    _print_findings(output, [*unread, *report.findings])
    output.line(f"{printable(shown(out.absolute()))}: {report.records_out:,} of {report.records_in:,} records")
    if report.tokens is not None:
        paid = "" if report.cost is None else f"; {epochs:g} epochs at {price:g} a million cost {report.cost:,.2f}"
        output.line(f"{report.tokens:,} tokens, counted {report.counted}{paid}")
    if not report.ok or any(finding.severity == "error" for finding in unread):
        raise click.exceptions.Exit(EdgeftError.exit_code)


def _print_findings(output: Output, findings: Sequence[Finding]) -> None:
    for finding in findings:
        output.line(f"{finding.severity} {finding.problem()}")


def _only_records(items: Iterator[Record | Finding], findings: list[Finding]) -> Iterator[Record]:
    for item in items:
        if isinstance(item, Finding):
            findings.append(item)
        else:
            yield item


def _asked_for(source: str | None, config_path: Path | None) -> tuple[list[str], DatasetConfig, str | None]:
    """Returns the sources, how they are to be read, and the model: of a configuration, else of SOURCE alone."""
    if (source is None) == (config_path is None):
        raise click.UsageError("give a file of records, or a configuration with -c")
    if config_path is None:
        return [str(source)], _DEFAULTS, None
    config = load_config(config_path)
    return [_located(config, part.path) for part in config.dataset.sources], config.dataset, _base_of(config)


def _base_of(config: Config) -> str | None:
    """Returns the base model of a configuration; a GGUF file has a tokenizer to look with once it is imported."""
    graph = Graph(config)
    if graph.base_gguf is None:
        return config.base
    return str(graph.base_folder) if graph.base_imported else None


def _located(config: Config, source: str) -> str:
    """Returns a source of a configuration as seen from the working directory."""
    return source if config.local_source(source) is None else shown(config.path(source))


def _stream(sources: Sequence[str], account: Account | None = None) -> Iterator[Record | Finding]:
    for source in sources:
        yield from stream(source, account=account)


def _tokenizer(model: str | None) -> tuple[TokenizerView | None, tuple[str, ...]]:
    """Returns a model's tokenizer and its special tokens; nothing where there is no model."""
    if model is None:
        return None, ()
    from edgeft import hf

    hf.quiet()
    folder = hf.resolve_checkpoint(model).path
    return hf.tokenizer_opener(folder)(), hf.special_texts(folder)
