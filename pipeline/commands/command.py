"""A word of the command line: its summary, and what it starts."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from pipeline.parsing import parse_words

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Command:
    """One command, as `alexnet --help` lists it."""

    name: str
    """The word or two words by which it is called."""
    summary: str
    """Its line in the list of commands."""
    body: Callable[["Command", list[str]], None]
    """Parses the words that follow, and runs."""

    def start(self, words: list[str]) -> None:
        """Run the command with the words that follow its name."""
        self.body(self, words)

    def parse(
        self, kind: type[T], words: list[str], *, operand: str = "", about: str | None = None, positional: bool = False
    ) -> T:
        """Parse the words that follow into a dataclass.

        Args:
            kind: the dataclass.
            words: what follows the command's name and its operand.
            operand: what was taken off the front, for the usage line.
            about: first lines of the help; None takes the summary.
            positional: take required fields without a flag.

        Raises:
            InputError: the words do not fit.
        """
        prog = " ".join(filter(None, ("alexnet", self.name, operand)))
        return parse_words(kind, words, prog=prog, description=about or self.summary, positional=positional)


@dataclass(frozen=True)
class NoOptions:
    """A command that takes nothing."""
