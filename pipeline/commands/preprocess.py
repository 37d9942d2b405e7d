"""`alexnet preprocess`, and what looks after the shard sets that it wrote."""

import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from pipeline.commands.command import Command
from pipeline.errors import RUN_ERROR_CODE, InputError
from pipeline.options import InspectConfig, MergeConfig, PreprocessConfig, RepairConfig, StatusConfig, VerifyConfig


def start_preprocess(command: Command, words: list[str]) -> None:
    """Pack pictures into shards."""
    verbs = [verb.name.split()[1] for verb in PREPROCESS[1:]]
    if words and not words[0].startswith("-"):
        raise InputError(f"unknown {words[0]!r}: choose one of {', '.join(verbs)}, or pass --source and --out")
    about = f"{command.summary}\n\nBeside it: alexnet preprocess {' | '.join(verbs)}"
    config = command.parse(PreprocessConfig, words, about=about)
    from pipeline.preprocess.stage import preprocess

    preprocess(config)


def start_status(command: Command, words: list[str]) -> None:
    """Say how far a shard set is."""
    config = command.parse(StatusConfig, words, positional=True)
    from pipeline.preprocess.status import show_status

    show_status(config)


def start_merge(command: Command, words: list[str]) -> None:
    """Describe a shard set whose parts are done."""
    config = command.parse(MergeConfig, words, positional=True)
    from pipeline.preprocess.stage import merge

    merge(config)


def start_verify(command: Command, words: list[str]) -> None:
    """Prove a shard set."""
    config = command.parse(VerifyConfig, words, positional=True)
    from pipeline.preprocess.verify import verify

    if not verify(config):
        sys.exit(RUN_ERROR_CODE)


def start_repair(command: Command, words: list[str]) -> None:
    """Mend a shard set."""

    @dataclass(frozen=True, kw_only=True)
    class Arguments(RepairConfig):
        shards: tyro.conf.Positional[Path]
        """Shard set."""

    config = command.parse(Arguments, words)
    from pipeline.preprocess.repair import repair

    repair(config)


def start_inspect(command: Command, words: list[str]) -> None:
    """Show samples of a shard set."""
    config = command.parse(InspectConfig, words, positional=True)
    from pipeline.preprocess.inspect import inspect

    inspect(config)


PREPROCESS = (
    Command(
        "preprocess",
        "ImageNet's archives or class folders → proved shards of 256×256 pictures, statistics",
        start_preprocess,
    ),
    Command("preprocess status", "how far a shard set is, and the command that does the rest", start_status),
    Command("preprocess merge", "describes a shard set whose parts are all done", start_merge),
    Command("preprocess verify", "proves a shard set by its checksums; --deep decodes every picture", start_verify),
    Command("preprocess repair", "packs anew what is missing or damaged in a shard set", start_repair),
    Command("preprocess inspect", "a contact sheet of a shard set's pictures with their classes", start_inspect),
)
