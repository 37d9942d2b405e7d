"""The report as one HTML file that needs no other and asks for none: style, script and figures lie in it."""

import base64
import hashlib
import re
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt
from markdown_it.common.utils import escapeHtml
from markdown_it.token import Token
from markupsafe import Markup, escape

from pipeline.report.document import Picture, Section, Table

NUMBER = re.compile(r"([+\-−]?)(\d[\d,]*(?:\.\d+)?)(?!\w)")
"""A number that a cell begins with: `40.66 [40.23, 41.09]`, `1,500 / 297`, `37.5%`; a commit's digits are none."""

INTERVAL = re.compile(r" \[[^\]]*\](?: /)?")
"""An interval behind its number, and the stroke before the next number."""

FLAG = re.compile(r"(?<!\S)--[a-z][\w.-]*")
"""A flag of a command, without its value."""

BLANKS = frozenset({"", "–", "not run", "not evaluated"})
"""Cells that say that there is nothing: pale, and below all others however a table is sorted."""

VERDICTS = frozenset({"reproduced", "not reproduced", "within noise"})
"""Cells that the page sets in colour and with a sign."""


def render_html(title: str, sections: Sequence[Section]) -> str:
    """Put sections together as a page whose tables sort and filter and whose figures zoom.

    Titles, cells and captions are plain text; of the Markdown in paragraphs, HTML stays text and pictures become
    links. The page's own policy keeps a browser from running any script but ours and from asking for anything.
    """
    environment = Environment(
        loader=PackageLoader("pipeline.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "markdown": build_markdown().render,
        "number": read_number,
        "number_columns": find_number_columns,
        "unbroken": join_cell,
        "element": cut_element,
    }
    style, script = (files("pipeline.report").joinpath(name).read_text("utf-8") for name in ("page.css", "page.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("page.html.jinja").render(
        title=title,
        sections=sections,
        style=style,
        script=script,
        script_source=f"'sha256-{digest}'",
        blanks=BLANKS,
        verdicts=VERDICTS,
    )


def build_markdown() -> MarkdownIt:
    """What renders paragraphs; of code each word is an element, for no line to end at a hyphen within a flag."""

    def render_code(_: Any, tokens: Sequence[Token], place: int, *__: Any) -> str:
        words = map(escapeHtml, tokens[place].content.split(" "))
        return f"<code>{' '.join(f'<span>{word}</span>' for word in words)}</code>"

    markdown = MarkdownIt("js-default").disable("image")
    markdown.add_render_rule("code_inline", render_code)
    return markdown


def read_number(cell: str) -> float | None:
    """The number that a cell begins with, or None."""
    found = NUMBER.match(cell)
    return float(found[1].replace("−", "-") + found[2].replace(",", "")) if found else None


def find_number_columns(table: Table) -> list[bool]:
    """For each column whether every cell that says something begins with a number, and none has letters in it."""
    filled = [[cell for cell in column if cell not in BLANKS] for column in zip(*table.rows, strict=True)]
    return [bool(cells) and all(map(is_numeric, cells)) for cells in filled]


def is_numeric(cell: str) -> bool:
    """Whether a cell has numbers alone: `40.66 [40.23, 41.09]`, `1,500 / 297`, `37.5%`."""
    return read_number(cell) is not None and not any(map(str.isalpha, cell))


def join_cell(cell: str) -> Markup:
    """The cell as HTML in which no line ends between a number and its interval, nor within it, nor within a flag."""
    joined = INTERVAL.sub(lambda found: found[0].replace(" ", "\N{NO-BREAK SPACE}"), cell)
    return Markup(FLAG.sub(r'<span class="flag">\g<0></span>', str(escape(joined))))  # noqa: S704 - escaped


def cut_element(picture: Picture) -> str:
    """The `svg` element of a figure, without what only a document of its own may begin with, as a part to style."""
    _, tag, rest = picture.svg.decode().partition("<svg")
    assert tag, f"{picture.name} is no SVG"
    return f'<svg part="drawing"{rest}'
