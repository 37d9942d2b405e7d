"""A page of the report before it is Markdown, HTML, CSV or LaTeX: sections of text, tables and figures."""

import csv
import io
import re
from dataclasses import dataclass
from pathlib import Path

from tabulate import tabulate

from pipeline.artifacts import write_bytes

MARKDOWN_SIGNS = re.compile(r"[\\`*_\[\]<>&|~$]")  # GitHub takes what stands between dollars for a formula
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


def is_number(text: str) -> bool:
    """Whether a cell is a number and nothing else."""
    return re.fullmatch(r"[+-]?\d+(\.\d+)?(e[+-]?\d+)?", text, re.ASCII) is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """Cells of plain text under headers; `name` is that of its files."""

    name: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        assert all(len(row) == len(self.headers) for row in self.rows), "a row has other columns than the headers"

    def format_markdown(self) -> str:
        """The table as GitHub reads it."""
        headers, *rows = ([escape_markdown(cell) for cell in row] for row in (self.headers, *self.rows))
        return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)

    def format_csv(self) -> str:
        """The table for spreadsheets and programs (RFC 4180, lines end with a line feed)."""
        content = io.StringIO()
        csv.writer(content, lineterminator="\n").writerows(
            [escape_formula(cell) for cell in row] for row in (self.headers, *self.rows)
        )
        return content.getvalue()

    def format_latex(self) -> str:
        """The table for a document that uses `booktabs`."""
        headers, *rows = ([" ".join(cell.split()) for cell in row] for row in (self.headers, *self.rows))
        latex = tabulate(rows, headers=headers, tablefmt="latex_booktabs", disable_numparse=True)
        unbound = re.sub(r"^( *)(?=[\[*])", r"\1{}", latex, flags=re.MULTILINE)  # else it belongs to the `\\` before it
        apart = re.sub("-(?=-)", "-{}", unbound)  # two hyphens of a flag are no dash
        return apart.replace("−", "$-$") + "\n"  # pdflatex knows no U+2212

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
