"""A page of the report before it is Markdown, HTML, CSV or LaTeX: sections of text, tables and figures."""

from dataclasses import dataclass

from tabulate import tabulate


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
        return tabulate(self.rows, headers=self.headers, tablefmt="github", disable_numparse=True)


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
