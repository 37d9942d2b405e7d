"""`alexnet diff`: every knob that two experiments set differently, and where each has it from."""

from dataclasses import dataclass
from typing import Any

from pipeline.commands.command import Command
from pipeline.experiments import Difference, compare, get_experiment


def start_diff(command: Command, words: list[str]) -> None:
    """Compare two experiments."""

    @dataclass(frozen=True, kw_only=True)
    class Arguments:
        experiment: str
        """What stands on the left."""
        other: str
        """What stands on the right."""
        json: bool = False
        """Print the differences as JSON; a layer that one side lacks is whole on the other."""

    arguments = command.parse(Arguments, words, positional=True)
    left, right = get_experiment(arguments.experiment), get_experiment(arguments.other)
    differences = compare(left, right)
    if arguments.json:
        from pipeline.artifacts import to_json

        print(to_json({"left": left.name, "right": right.name, "differences": differences}).decode(), end="")
    elif differences:
        print(format_differences(differences, left.name, right.name))
    else:
        print(f"nothing differs between {left.name} and {right.name}")


def format_differences(differences: list[Difference], left: str, right: str) -> str:
    """The differences as a table: under each value, in parentheses, where it is from."""
    from tabulate import tabulate

    rows = [
        (
            difference.knob,
            f"{format_value(difference.left)}\n({difference.left_citation})",
            f"{format_value(difference.right)}\n({difference.right_citation})",
        )
        for difference in differences
    ]
    return tabulate(
        rows, headers=("knob", left, right), tablefmt="simple_grid", maxcolwidths=[None, 42, 42], disable_numparse=True
    )


def format_value(value: Any) -> str:
    """A value in few words: rates by first epoch, steps in their order, a layer by its fields."""
    match value:
        case dict():
            given = {name: item for name, item in value.items() if name != "name" and item is not None}
            return ", ".join(f"{name} {format_value(item)}" for name, item in given.items())
        case ():
            return "none"
        case ((int(), float()), *_):
            return ", ".join(f"{rate:g} from epoch {epoch}" for epoch, rate in value)
        case tuple():
            return " ".join(map(str, value))
        case _:
            return str(value)


DIFF = Command("diff", "prints every knob that two experiments set differently, and where each has it from", start_diff)
