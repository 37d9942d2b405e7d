"""A page of results and its figure, side by side, which only the command that wrote them replaces."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.artifacts import write_bytes
from pipeline.errors import check


def format_mark(command: str) -> str:
    """First line of a page: which command wrote it."""
    return f"<!-- written by `alexnet {command}`; edits are lost when it is written again -->"


def check_own_page(path: Path, command: str) -> None:
    """Refuse to replace a page that another command, or a person, wrote.

    Raises:
        InputError: it is one.
    """
    check(
        not path.exists() or path.read_text(errors="replace").startswith(format_mark(command)),
        f"{path} exists and was not written by `alexnet {command}`: choose another place",
    )


def find_page(out: Path) -> Path:
    """`OUT.md`, the page of a result that is named without an ending."""
    return out.with_name(f"{out.name}.md")


def write_page(out: Path, command: str, figure: bytes, parts: Sequence[str]) -> Path:
    """Write `OUT.svg` and `OUT.md`; returns the page's path.

    Args:
        out: the result's name, without an ending.
        command: that writes it, as in `alexnet COMMAND`.
        figure: SVG.
        parts: of the page, in Markdown; empty ones are left out.

    Raises:
        InputError: the page is there, and `command` did not write it.
    """
    page = find_page(out)
    check_own_page(page, command)
    write_bytes(out.with_name(f"{out.name}.svg"), figure)
    write_bytes(page, ("\n\n".join(filter(None, (format_mark(command), *parts))) + "\n").encode())
    return page
