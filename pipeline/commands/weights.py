"""`alexnet weights`: other people's weights into a run, and a run's weights out."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from pipeline.commands.command import Command
from pipeline.commands.experiments import split_experiment
from pipeline.config import ExperimentConfig
from pipeline.errors import InputError
from pipeline.options import ExportConfig, ImportConfig


def start_weights(command: Command, words: list[str]) -> None:
    """Say what there is for weights."""
    lines = [f"  {other.name:<16}  {other.summary}" for other in WEIGHTS[1:]]
    if words and words[0] in ("-h", "--help"):
        print("\n".join(["usage: alexnet weights import|export ...", "", command.summary, "", *lines]))
        sys.exit(0)
    found = f"unknown {words[0]!r}: " if words and not words[0].startswith("-") else ""
    raise InputError(f"{found}name what to do: import or export")


def start_import(command: Command, words: list[str]) -> None:
    """Make a run of a file of weights."""
    experiment, rest = split_experiment(command, words)

    @dataclass(frozen=True, kw_only=True)
    class Arguments:
        options: Annotated[ImportConfig, tyro.conf.arg(name="")]
        config: Annotated[ExperimentConfig, tyro.conf.arg(name="")] = experiment.config

    arguments = command.parse(Arguments, rest, operand=experiment.name)
    from pipeline.train.imported import import_weights

    import_weights(experiment.name, arguments.config, arguments.options)


def start_export(command: Command, words: list[str]) -> None:
    """Write a run's weights into one file."""

    @dataclass(frozen=True, kw_only=True)
    class Arguments(ExportConfig):
        run: tyro.conf.Positional[Path]
        """Run directory that `alexnet train` or `alexnet weights import` wrote."""

    config = command.parse(Arguments, words)
    from pipeline.weights.export import export_weights

    export_weights(config)


WEIGHTS = (
    Command("weights", "brings weights in and out: one of the two below", start_weights),
    Command(
        "weights import", "weights of torchvision, Caffe or safetensors → a run that can be evaluated", start_import
    ),
    Command("weights export", "a run's weights → ONNX, with its preprocessing, or safetensors", start_export),
)
