"""Records in tokens on a terminal: colours where there are some, brackets in a pipe."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from edgeft.dataset.preview import Cell, RecordPreview
from edgeft.tables import Indented

_TOKENS_AT_EACH_END = 120
_SIGNS = {" ": "·", "\n": "⏎", "\t": "→", "\r": "␍"}
_SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
_INDENT = "  "
# Two shades of each, in turn, so that one token can be told from the next.
_TRAINED = ("white on #14532d", "white on #1b7a43")
_UNTRAINED = ("", "dim")
_SPECIAL = "bold #e0a1ff"
_CUT = "strike red"


def print_previews(
    console: Console, previews: Sequence[RecordPreview], *, ids: bool = False, whole: bool = False
) -> None:
    """Prints records in tokens, then a legend.

    On a terminal trained tokens have a background; without colours they are in ⟦ ⟧ and special tokens in ⟨ ⟩, and no
    line is wrapped. With `ids` each token has its number after it. Long records are shortened in the middle unless
    `whole`.
    """
    coloured = console.color_system is not None
    for preview in previews:
        console.print(_heading(preview), soft_wrap=not console.is_terminal)
        for message in _messages(preview):
            console.print(Indented(message, len(_INDENT)))
        page = _Page(coloured, console.width if console.is_terminal else 0, ids)
        page.add_record(preview, whole)
        for line in page.lines:
            console.print(line, soft_wrap=True)
        console.print()
    console.print(_legend(coloured, ids), soft_wrap=True)


def _heading(preview: RecordPreview) -> Text:
    heading = Text(str(preview.place), style="bold")
    if preview.cells:
        if preview.examples > 1:
            cut = f", cut after messages[{preview.turns[-1]}]" if preview.example > 1 and preview.turns else ""
            heading.append(f"  example {preview.example} of {preview.examples}{cut}", style="not bold")
        count, trained = preview.n_tokens, preview.n_trained
        heading.append(f"  {trained:,} of {count:,} tokens trained", style="not bold")
        if preview.removed:
            heading.append(f", {preview.removed} messages removed so that it fits", style="not bold red")
        if count > preview.max_tokens:
            heading.append(f", {count - preview.max_tokens:,} over dataset.max_tokens", style="not bold red")
    return heading


def _messages(preview: RecordPreview) -> Iterator[Text]:
    for problem in preview.problems:
        yield Text.assemble(("error ", "bold red"), f"{problem.what}\n    -> {problem.remedy}")
    for note in preview.notes:
        yield Text.assemble((f"{note.severity} ", "cyan"), f"{note.field}: {note.message}")


@dataclass
class _Page:
    """Lines of tokens, broken after newlines and, with a width, before a token that does not fit."""

    coloured: bool
    width: int
    ids: bool
    lines: list[Text] = field(default_factory=list)
    _line: Text = field(default_factory=Text)
    _open: bool = False

    def add_record(self, preview: RecordPreview, whole: bool) -> None:
        """Adds the tokens of a record."""
        cells, ends = preview.cells, _TOKENS_AT_EACH_END
        cut = next((place for place, cell in enumerate(cells) if cell.cut), None)
        shortened = not whole and len(cells) > 2 * ends
        for place, cell in enumerate(cells):
            if shortened and place == ends:
                hidden = cells[ends:-ends]
                trained = sum(len(each.ids) for each in hidden if each.trained)
                self._rule(f"⋯ {sum(len(each.ids) for each in hidden):,} more tokens, {trained:,} trained ⋯", "dim")
            if place == cut:
                self._rule(f"✂ {preview.max_tokens:,} tokens: the rest is over dataset.max_tokens", "red")
            if not shortened or not ends <= place < len(cells) - ends:
                self._add(cell, place % 2)
        self._break(close=True)

    def _add(self, cell: Cell, shade: int) -> None:
        if not self.coloured and cell.trained != self._open:
            self._line.append("⟦" if cell.trained else "⟧")
            self._open = cell.trained
        style = _style(cell, shade) if self.coloured else ""
        text = visible(cell.text)
        if cell.special and not self.coloured:
            text = f"⟨{text}⟩"
        number = f"₍{'₊'.join(map(str, cell.ids))}₎".translate(_SUBSCRIPTS) if self.ids else ""
        if self.width and cell_len(_INDENT + self._line.plain) + cell_len(text + number) > self.width:
            self._break()
        self._line.append(text, style)
        self._line.append(number, "dim" if self.coloured else "")
        if "\n" in cell.text:
            self._break()

    def _rule(self, text: str, style: str) -> None:
        self._break(close=True)
        self.lines.append(Text(_INDENT + text, style=style))

    def _break(self, close: bool = False) -> None:
        if close and self._open:
            self._line.append("⟧")
            self._open = False
        if self._line:
            self.lines.append(Text(_INDENT) + self._line)
        self._line = Text()


def _style(cell: Cell, shade: int) -> str:
    styles = [_TRAINED[shade] if cell.trained else "" if cell.special else _UNTRAINED[shade]]
    styles += [_SPECIAL] if cell.special else []
    styles += [_CUT] if cell.cut else []
    return " ".join(style for style in styles if style)


def visible(text: str) -> str:
    """Returns a text with a sign for each space and newline, and an escape for what has no look of its own."""
    return "".join(_SIGNS.get(char) or (char if char.isprintable() else _escape(char)) for char in text)


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode()


def _legend(coloured: bool, ids: bool) -> Text:
    if coloured:
        legend = Text.assemble(("trained", _TRAINED[1]), "  ", ("special", _SPECIAL), "  ", ("over the limit", _CUT))
    else:
        legend = Text("⟦trained⟧  ⟨special⟩")
    legend.append("  ⏎ newline  · space  → tab", "dim" if coloured else "")
    legend.append("  ₍₁₂₎ token id" if ids else "", "dim" if coloured else "")
    return legend
