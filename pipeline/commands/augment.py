"""`alexnet augment`: what the network sees of a shard set."""

import sys
from dataclasses import dataclass, replace
from typing import Annotated

import tyro

from pipeline.commands.command import Command
from pipeline.config import AugmentConfig
from pipeline.errors import InputError, check
from pipeline.experiments import AUGMENTATIONS, EXPERIMENTS
from pipeline.options import PreviewConfig


def start_augment(command: Command, words: list[str]) -> None:
    """Say what there is for augmentation."""
    if words and words[0] in ("-h", "--help"):
        print(f"usage: alexnet augment preview NAME ...\n\n{command.summary}\n")
        print(f"  preview  {PREVIEW.summary}")
        sys.exit(0)
    found = f"unknown {words[0]!r}: " if words and not words[0].startswith("-") else ""
    raise InputError(f"{found}name what to do: preview, as in `alexnet augment preview source-2012 --data SHARDS`")


def start_preview(command: Command, words: list[str]) -> None:
    """Show what the network sees, with any field of the augmentation overridden."""
    kinds = f"an experiment ({', '.join(EXPERIMENTS)}) or an augmentation ({', '.join(AUGMENTATIONS)})"
    if words and words[0] in ("-h", "--help"):
        print(f"usage: alexnet augment preview NAME --data SHARDS [OPTIONS]\n\nNAME is {kinds}.\n")
        print("alexnet augment preview NAME --help lists the options with the values of that name.")
        sys.exit(0)
    check(words and not words[0].startswith("-"), f"name what to show first: {kinds}")
    name, *rest = words
    check(name in EXPERIMENTS or name in AUGMENTATIONS, f"unknown {name!r}: choose {kinds}")
    config, defaults = EXPERIMENTS[name].config if name in EXPERIMENTS else None, PreviewConfig(data=tyro.MISSING)
    registered = config.augment if config else AUGMENTATIONS[name]
    if config:
        defaults = replace(defaults, global_batch_size=config.global_batch_size, seed=config.seed)

    @dataclass(frozen=True, kw_only=True)
    class Arguments:
        preview: Annotated[PreviewConfig, tyro.conf.arg(name="")] = defaults
        augment: AugmentConfig = registered

    arguments = command.parse(Arguments, rest, operand=name)
    from pipeline.augment.preview import preview

    num_epochs = config.schedule.epochs if config else None
    preview(name, registered, arguments.augment, arguments.preview, num_epochs=num_epochs)


PREVIEW = Command(
    "augment preview", "a picture of a training batch, ten views and the mean, with what was drawn", start_preview
)
AUGMENT = (Command("augment", "what the network sees of a shard set: the command below", start_augment), PREVIEW)
