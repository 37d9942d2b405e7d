"""A page of the report before it is Markdown, HTML, CSV or LaTeX: sections of text, tables and figures."""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tabulate import tabulate

from pipeline.artifacts import write_bytes

MARKDOWN_SIGNS = re.compile(r"[\\`*_\[\]<>&|~$]")  # GitHub takes what stands between dollars for a formula
LATEX_PACKAGES = r"\usepackage{array,booktabs,longtable}"
LATEX_LETTERS, LATEX_GAP = 30, 5
"""Letters beside which a longer cell gets no wider column, and what stands between two columns."""
FORMULA_SIGNS = tuple("=+-@＝＋－＠")  # OWASP, "CSV Injection"


def escape_markdown(text: str) -> str:
    """Plain text as Markdown that shows it, on one line, also within a table."""
    return MARKDOWN_SIGNS.sub(r"\\\g<0>", " ".join(text.split()))


def format_code(text: str) -> str:
    """Plain text as code in Markdown, on one line; its own backticks are inside of more of them."""
    line = " ".join(text.split())
    longest = max(map(len, re.findall("`+", line)), default=0)
    fence, blank = "`" * (longest + 1), " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{blank}{line}{blank}{fence}"


def escape_formula(text: str) -> str:
    """Plain text on one line that no spreadsheet calculates; numbers stay numbers, negative ones, too."""
    line = " ".join(text.split())
    return f"'{line}" if line.startswith(FORMULA_SIGNS) and not is_number(line) else line


def format_count(count: int, thing: str) -> str:
    """How many of a thing, in the singular: `1 run`, `1,500 runs`."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def is_number(text: str) -> bool:
    """Whether a cell is a number and nothing else."""
    return re.fullmatch(r"[+-]?\d+(\.\d+)?(e[+-]?\d+)?", text, re.ASCII) is not None


def format_latex_columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield columns whose shares of the text's width are as their longest cells, of which very long ones are broken."""
    widths = [min(max(map(len, column)), LATEX_LETTERS) + LATEX_GAP for column in zip(*rows, strict=True)]
    for width in widths:
        share = f"{width / sum(widths):.4f}"
        yield rf">{{\raggedright\arraybackslash}}p{{\dimexpr {share}\linewidth-2\tabcolsep}}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """Cells of plain text under headers; `name` is that of its files."""

    name: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    printed: tuple[str, ...] = ()
    """Headers of the columns that LaTeX has, where a page is too narrow for all."""

    def __post_init__(self) -> None:
        assert all(len(row) == len(self.headers) for row in self.rows), "a row has other columns than the headers"
        assert set(self.printed) <= set(self.headers), "a column that is printed is none"

    def choose_columns(self, places: Sequence[int]) -> "Table":
        """The table with these columns alone."""
        headers, *rows = (tuple(row[place] for place in places) for row in (self.headers, *self.rows))
        return Table(name=self.name, headers=headers, rows=tuple(rows))

    def leave_out_empty(self) -> "Table":
        """The table without columns that are empty in every row."""
        filled = [place for place in range(len(self.headers)) if any(row[place] for row in self.rows)]
        return self.choose_columns(filled) if self.rows else self

    def format_markdown(self) -> str:
        """The table as GitHub reads it, without columns that are empty in every row."""
        shown = self.leave_out_empty()
        headers, *rows = ([escape_markdown(cell) for cell in row] for row in (shown.headers, *shown.rows))
        return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)

    def format_csv(self) -> str:
        """The table for spreadsheets and programs (RFC 4180, lines end with a line feed)."""
        content = io.StringIO()
        csv.writer(content, lineterminator="\n").writerows(
            [escape_formula(cell) for cell in row] for row in (self.headers, *self.rows)
        )
        return content.getvalue()

    def format_latex(self) -> str:
        """The table over the width of the text and over as many pages as it needs, with `LATEX_PACKAGES`."""
        shown = self.choose_columns([self.headers.index(header) for header in self.printed or self.headers])
        headers, *rows = ([" ".join(cell.split()) for cell in row] for row in (shown.headers, *shown.rows))
        latex = tabulate(rows, headers=headers, tablefmt="latex_booktabs", disable_numparse=True)
        _, *lines, _ = latex.replace("\\midrule", "\\midrule\n\\endhead").splitlines()
        body = "\n".join(lines)
        unbound = re.sub(r"^( *)(?=[\[*])", r"\1{}", body, flags=re.MULTILINE)  # else it belongs to the `\\` before it
        apart = re.sub("-(?=-)", "-{}", unbound)  # two hyphens of a flag are no dash
        plain = apart.replace("−", "$-$")  # pdflatex knows no U+2212
        columns = "\n".join(format_latex_columns([headers, *rows]))
        return f"% {LATEX_PACKAGES}\n\\begin{{longtable}}{{\n{columns}\n}}\n{plain}\n\\end{{longtable}}\n"

    def write(self, folder: Path) -> None:
        """Write `NAME.csv` and `NAME.tex`."""
        write_bytes(folder / f"{self.name}.csv", self.format_csv().encode())
        write_bytes(folder / f"{self.name}.tex", self.format_latex().encode())


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """A figure as SVG; `name` is that of its file, `caption` plain text that also stands for who cannot see it."""

    name: str
    caption: str
    svg: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """What stands under one title, in order; a string is a paragraph or list in Markdown."""

    title: str
    parts: tuple[str | Table | Picture, ...]
