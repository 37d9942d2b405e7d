"""Words of a command line become a dataclass, by tyro; its framed panels of mistakes become a sentence."""

import contextlib
import io
import re
from typing import TypeVar

import tyro

from pipeline.errors import InputError

T = TypeVar("T")


def parse_words(kind: type[T], words: list[str], *, prog: str, description: str, positional: bool = False) -> T:
    """Parse words into a dataclass; what does not fit becomes one `InputError`.

    Args:
        kind: the dataclass.
        words: of the command line, after the command.
        prog: program and command, for the help.
        description: first lines of the help.
        positional: take required fields without a flag.

    Raises:
        InputError: the words do not fit.
    """
    markers = (tyro.conf.PositionalRequiredArgs, tyro.conf.PositionalMetavarFromFieldName) if positional else ()
    panel = io.StringIO()
    try:
        with contextlib.redirect_stderr(panel):
            return tyro.cli(kind, args=words, prog=prog, description=description, config=markers)
    except SystemExit as end:
        if end.code in (0, None):
            raise
        raise InputError(f"{flatten_panel(panel.getvalue())} (see `{prog} --help`)") from end


def flatten_panel(panel: str) -> str:
    """Tyro's framed message as a sentence, without the help texts that it repeats."""
    lines = [line.rstrip("│ ")[2:] for line in panel.splitlines()[1:]]  # a title, then two columns of frame
    kept = [line.strip() for line in lines if not re.match(r"( {8}|[─-]{3}|For full helptext|.* --help$)", line)]
    sentence = re.split(r" Argument helptext:| Got errors:", " ".join(filter(None, kept)))[0]
    return re.sub(r"^Error parsing [\w.]+: ", "", sentence)
