"""`alexnet experiments` and `alexnet describe`: what can be trained."""

import sys
import textwrap
from dataclasses import dataclass
from typing import Annotated

import tyro

from pipeline.commands.command import Command, NoOptions
from pipeline.config import ExperimentConfig
from pipeline.errors import InputError
from pipeline.experiments import EXPERIMENTS, GROUPS, Experiment, get_experiment, get_status

LINE_WIDTH = 120


def split_experiment(command: Command, words: list[str]) -> tuple[Experiment, list[str]]:
    """Take the experiment's name off the front of the words.

    Raises:
        InputError: there is none of that name, or none is named.
    """
    if not words or words[0] in ("-h", "--help"):
        print(f"usage: alexnet {command.name} EXPERIMENT [OPTIONS]\n\n{format_experiments()}\n")
        print(f"alexnet {command.name} EXPERIMENT --help lists the options with that experiment's values.")
        if words:
            sys.exit(0)
        raise InputError("name an experiment first")
    if words[0].startswith("-"):
        raise InputError(f"name the experiment before {words[0]}: one of {', '.join(EXPERIMENTS)}")
    return get_experiment(words[0]), words[1:]


def format_experiments() -> str:
    """The named experiments by group, each with its claim and, in brackets, its source."""
    margin = max(map(len, EXPERIMENTS)) + 4
    lines = []
    for heading, group in GROUPS.items():
        lines += ["", f"{heading}:"]
        lines += [
            textwrap.fill(
                f"{experiment.claim} [{experiment.source}]",
                width=LINE_WIDTH,
                initial_indent=f"  {experiment.name}".ljust(margin),
                subsequent_indent=" " * margin,
                break_on_hyphens=False,
            )
            for experiment in group
        ]
    return "\n".join(lines[1:])


def start_experiments(command: Command, words: list[str]) -> None:
    """Print the named experiments."""
    command.parse(NoOptions, words)
    print(format_experiments())


def start_describe(command: Command, words: list[str]) -> None:
    """Print an experiment's layers."""
    experiment, rest = split_experiment(command, words)

    @dataclass(frozen=True, kw_only=True)
    class Arguments:
        json: bool = False
        """Print the layers as JSON."""
        config: Annotated[ExperimentConfig, tyro.conf.arg(name="")] = experiment.config

    arguments = command.parse(Arguments, rest, operand=experiment.name)
    config = arguments.config
    from pipeline.model.describe import describe_layers, format_layers

    if arguments.json:
        from pipeline.artifacts import to_json

        layers = describe_layers(config.model, input_pixels=config.augment.input_pixels)
        print(to_json(layers).decode(), end="")
        return
    print(f"{experiment.name} ({get_status(experiment.name, config)}): {experiment.claim}\n")
    print(format_layers(describe_layers(config.model, input_pixels=config.augment.input_pixels)))


EXPERIMENT_COMMANDS = (
    Command("experiments", "lists the named experiments with claim and source", start_experiments),
    Command("describe", "prints an experiment's layers: shapes, parameters, multiply-adds, memory", start_describe),
)
