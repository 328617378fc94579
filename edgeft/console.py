"""What the command line prints: progress while a person watches, plain lines in a pipe, tables at the end."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.table import Column, Table

from edgeft.chat import Terminal
from edgeft.dataset.check.report import CheckReport
from edgeft.errors import EdgeftError
from edgeft.files import human_size
from edgeft.parity.figures import (
    MEAN_KLD,
    P99_KLD,
    PERPLEXITY_RATIO,
    SAME_ANSWERS,
    SAME_TOP,
    nats,
    percent,
    ratio,
    same_answers,
)
from edgeft.parity.formats import sentence, warnings_of
from edgeft.parity.layer_profile import profile_line
from edgeft.progress import Progress, silent
from edgeft.tables import findings_table

_MAX_PROBLEMS = 25
# Tables are cut at the width of a terminal; a pipe has none, and what reads it wants every word.
_PIPE_WIDTH = 1000


class Output:
    """Standard output for results, standard error for progress and problems."""

    def __init__(self) -> None:
        self.out = Console(highlight=False, emoji=False)  # "a.jsonl:100:" is a place, and no emoji
        if not self.out.is_terminal:
            self.out.width = _PIPE_WIDTH
        self.err = Console(stderr=True, highlight=False, emoji=False)

    @contextmanager
    def progress(self, title: str) -> Iterator[Progress]:
        """Yields a callback that draws a bar with the time left on a terminal, and nothing in a pipe."""
        with self.progresses([title]) as (report,):
            yield report

    @contextmanager
    def progresses(self, titles: Sequence[str]) -> Iterator[list[Progress]]:
        """Yields a callback for each title; their bars stand below one another, and threads may call them."""
        if not self.err.is_terminal:
            yield [silent] * len(titles)
            return
        # On a narrow terminal it is the end of the status that is cut, not the time left.
        times = [kind(table_column=Column(min_width=8)) for kind in (TimeElapsedColumn, TimeRemainingColumn)]
        status = TextColumn("{task.fields[status]}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1))
        columns = (TextColumn("  {task.description:<10}", table_column=Column(min_width=12)), BarColumn(12), *times)
        with RichProgress(*columns, status, console=self.err, transient=True, expand=True) as bars:
            yield [partial(_report, bars, bars.add_task(escape(title), total=None, status="")) for title in titles]

    def line(self, text: str) -> None:
        """Prints one line of plain text."""
        self.out.print(text, markup=False, soft_wrap=True)

    def warning(self, text: str, where: str) -> None:
        """Prints what a person has to weigh, and what stops nothing."""
        self.out.print(f"[yellow]warning[/] {escape(where)}: {escape(text)}", soft_wrap=True)

    def problems(self, error: EdgeftError) -> None:
        """Prints every problem of an error, the first of very many."""
        for problem in error.problems[:_MAX_PROBLEMS]:
            self.err.print(f"[bold red]error[/] {escape(str(problem))}", soft_wrap=True)
        if len(error.problems) > _MAX_PROBLEMS:
            self.err.print(f"... and {len(error.problems) - _MAX_PROBLEMS} more problems")

    def states(self, rows: Sequence[tuple[str, str, str]]) -> None:
        """Prints artifacts: name, why it has to be made ("" when it is up to date), and what there is to know."""
        table = _table(("artifact", "left"), ("state", "left"), ("", "left"))
        for column, width in zip(table.columns, (max(len(row[0]) for row in rows), len("up to date")), strict=False):
            column.min_width = width  # on a narrow terminal it is the details that are cut
        for name, why, detail in rows:
            table.add_row(name, f"[yellow]{escape(why)}[/]" if why else "[green]up to date[/]", escape(detail))
        self._show(table)

    def checks(self, rows: Sequence[tuple[str, str, str, str]]) -> None:
        """Prints checks: name, state ("" for none), what was found, and below it the remedy; long lines are wrapped."""
        table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for name, state, found, remedy in rows:
            table.add_row(
                name, _STATES.get(state, ""), escape(found) + (f"\n[dim]->[/] {escape(remedy)}" if remedy else "")
            )
        self._show(table)

    def summary(self, rows: Sequence[Mapping[str, Any]], doubts: Sequence[str] = ()) -> None:
        """Prints the closing table of a run, and why its scores are to be doubted."""
        numbers = ("exact match", "field F1", "size", "tokens/s", MEAN_KLD, SAME_TOP)
        table = _table(("model", "left"), *((heading, "right") for heading in numbers), ("parity", "left"))
        for row in rows:
            table.add_row(
                row["name"],
                _written(row["exact_match"], percent),
                _written(row["field_f1"], percent),
                "" if row["size_bytes"] is None else human_size(row["size_bytes"]),
                "" if row["tokens_per_second"] is None else f"{row['tokens_per_second']:,.0f}",
                _written(row["mean_kld"], nats),
                _written(row["top1"], percent),
                _VERDICTS.get(row["verdict"], ""),
            )
        self.out.print()
        self._show(table)
        self.out.print(f"[dim]{_SUMMARY_NOTE}[/]", soft_wrap=True)
        for doubt in doubts:
            name, _, why = doubt.partition(": ")
            self.warning(why, name)

    def verdicts(self, reports: Sequence[Mapping[str, Any]]) -> None:
        """Prints parity reports, a row for each file."""
        numbers = (MEAN_KLD, P99_KLD, SAME_TOP, PERPLEXITY_RATIO, SAME_ANSWERS)
        table = _table(("file", "left"), ("type", "left"), *((name, "right") for name in numbers), ("parity", "left"))
        for report in reports:
            logits = report["logits"]
            figures = [""] * 5
            if logits:  # a file that cannot be run has none
                figures = [nats(logits["mean_kld"]), nats(logits["p99_kld"]), percent(logits["top1"])]
                figures += [ratio(logits["ppl_ratio"]), same_answers(report["greedy"])]
            table.add_row(escape(report["file"]), report["type"], *figures, _VERDICTS[report["verdict"]])
        self._show(table)
        for report in reports:
            if report["verdict"] != "fail":  # a failure is an error, and told as one
                self.line(sentence(report))
            for warning in warnings_of(report):
                self.warning(warning, report["file"])
            if profile := profile_line(report):
                self.line(profile)

    def footprints(self, rows: Sequence[Mapping[str, Any]], n_ctx: int, memory_gb: float | None) -> None:
        """Prints what quantized files take, and whether a device of so much memory holds them."""
        headings = ("size", "bits/weight", f"memory, {n_ctx:,} tokens")
        fits = () if memory_gb is None else ((f"fits {memory_gb:g} GB", "left"),)
        table = _table(("type", "left"), *((heading, "right") for heading in headings), *fits)
        for row in rows:
            cells = [row["type"], human_size(row["size_bytes"]), f"{row['bits_per_weight']:.2f}"]
            cells.append(human_size(row["memory_bytes"]))
            if memory_gb is not None:
                cells.append("[green]yes[/]" if row["memory_bytes"] < memory_gb * 1e9 else "[bold red]no[/]")
            table.add_row(*cells)
        self._show(table)

    def errors(self, rows: Sequence[tuple[str, int, float, float]]) -> None:
        """Prints by kind of layer: how many there are, and the least and the most share that one of them lacks."""
        table = _table(("layer", "left"), ("tensors", "right"), ("least error", "right"), ("most error", "right"))
        for name, count, least, most in rows:
            table.add_row(escape(name), str(count), f"{least:.2%}", f"{most:.2%}")
        self._show(table)

    def trade_offs(self, rows: Sequence[tuple[int, float]]) -> None:
        """Prints sizes of matrices, in bytes, and the divergence that is predicted for each, in nats."""
        table = _table(("matrices", "right"), (f"{MEAN_KLD}, predicted", "right"))
        for size_bytes, kld in rows:
            table.add_row(human_size(size_bytes), nats(kld))
        self._show(table)

    def comparisons(self, rows: Sequence[Sequence[tuple[str, int, float]]]) -> None:
        """Prints files, with their size in bytes and divergence in nats: fixed, of that size, of that divergence."""
        table = _table(("file", "left"), ("size", "right"), (MEAN_KLD, "right"))
        for row in rows:
            for label, size_bytes, kld in row:
                table.add_row(label, f"{size_bytes / 1e6:,.2f} MB", nats(kld))
        self._show(table)

    def findings(self, report: CheckReport, places: int) -> None:
        """Prints a check of records, so many places of each kind; a pipe gets lines of 120 columns."""
        width = None if self.out.is_terminal else 120
        for block in findings_table(report, places):
            self.out.print(block, width=width)

    def _show(self, table: Table) -> None:
        """Prints a table; in a pipe without the spaces that fill up its last column."""
        if self.out.is_terminal:
            self.out.print(table)
            return
        with self.out.capture() as drawn:
            self.out.print(table)
        for row in drawn.get().splitlines():
            self.line(row.rstrip())

    def terminal(self) -> Terminal:
        """Returns the terminal as a place for a conversation; without a person at it there is no prompt."""
        return _ConsoleTerminal(self.out)


class _ConsoleTerminal:
    def __init__(self, console: Console) -> None:
        self._console = console
        if isinstance(sys.stdin, io.TextIOWrapper):  # before it is first read
            sys.stdin.reconfigure(errors="surrogateescape")

    def ask(self) -> str:
        line = input("> ") if self._console.is_terminal and sys.stdin.isatty() else input()
        return line.encode("utf-8", "surrogateescape").decode("utf-8", "replace")  # bytes that are no UTF-8

    def say(self, text: str) -> None:
        self._console.out(text, end="", highlight=False)
        self._console.file.flush()


def _report(bars: RichProgress, task: TaskID, done: float, total: float, status: str = "") -> None:
    bars.update(task, completed=done, total=total or None, status=escape(status))


_SUMMARY_NOTE = (
    f"{MEAN_KLD} and {SAME_TOP}: against the merged model in float32; "
    "tuned is the model as trained, 4-bit base and all."
)
_STATES = {"ok": "[green]ok[/]", "warn": "[yellow]warn[/]", "fail": "[bold red]FAIL[/]"}
_VERDICTS = {"pass": "[green]pass[/]", "fail": "[bold red]FAIL[/]", "undecided": "[yellow]undecided[/]"}


def _table(*columns: tuple[str, Literal["left", "right"]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for heading, justify in columns:
        table.add_column(heading, justify=justify, no_wrap=True)
    return table


def _written(figure: float | None, write: Callable[[float], str]) -> str:
    """Returns a figure as it is read, "" where it was not measured."""
    return "" if figure is None else write(figure)
