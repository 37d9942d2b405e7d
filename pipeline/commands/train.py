"""`alexnet train`: an experiment, with any of its fields overridden."""

from dataclasses import dataclass, replace
from typing import Annotated

import tyro

from pipeline.commands.command import Command
from pipeline.commands.experiments import split_experiment
from pipeline.config import ExperimentConfig
from pipeline.errors import check
from pipeline.experiments import AUGMENTATIONS, get_augmentation
from pipeline.options import RuntimeConfig


def take_augmentation(config: ExperimentConfig, words: list[str]) -> tuple[ExperimentConfig, list[str]]:
    """Take `--augmentation NAME` out of the words, and put the augmentation of that name into the configuration.

    Raises:
        InputError: there is none of that name, or none is named.
    """
    flag = "--augmentation"
    if not any(word == flag or word.startswith(f"{flag}=") for word in words):
        return config, words
    split = [part for word in words for part in (word.split("=", 1) if word.startswith(f"{flag}=") else [word])]
    place = split.index(flag)
    check(place + 1 < len(split), f"{flag} needs a name: choose one of {', '.join(AUGMENTATIONS)}")
    config = replace(config, augment=get_augmentation(split[place + 1]))
    return config, split[:place] + split[place + 2 :]


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """What `alexnet train` is asked for."""

    experiment: str
    config: ExperimentConfig
    runtime: RuntimeConfig


def parse_training(command: Command, words: list[str]) -> Training:
    """Parse an experiment and its flags.

    Raises:
        InputError: the words do not fit.
    """
    experiment, rest = split_experiment(command, words)
    registered, rest = take_augmentation(experiment.config, rest)

    @dataclass(frozen=True, kw_only=True)
    class Arguments:
        runtime: Annotated[RuntimeConfig, tyro.conf.arg(name="")]
        config: Annotated[ExperimentConfig, tyro.conf.arg(name="")] = registered

    arguments = command.parse(
        Arguments,
        rest,
        operand=experiment.name,
        about=f"{experiment.claim} ({experiment.source}). A run with changed values is marked modified. "
        f"--augmentation NAME takes another augmentation first: {', '.join(AUGMENTATIONS)}.",
    )
    return Training(experiment=experiment.name, config=arguments.config, runtime=arguments.runtime)


def start_train(command: Command, words: list[str]) -> None:
    """Train an experiment, with any of its fields overridden."""
    training = parse_training(command, words)
    from pipeline.train.stage import train

    train(training.experiment, training.config, training.runtime)


TRAIN = Command("train", "an experiment on a shard set → checkpoints, journal, MLflow", start_train)
