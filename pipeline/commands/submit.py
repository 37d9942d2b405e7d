"""`alexnet submit`: stages as Slurm jobs, alone and as chains."""

import sys

from pipeline.commands.command import Command
from pipeline.errors import InputError


def start_submit(command: Command, words: list[str]) -> None:
    """Say what can be submitted."""
    verbs = [verb.name.split()[1] for verb in SUBMIT[1:]]
    if words and words[0] in ("-h", "--help"):
        lines = [f"  {verb.name:<18}  {verb.summary}" for verb in SUBMIT[1:]]
        print("\n".join(["usage: alexnet submit VERB ...", "", command.summary, "", *lines]))
        sys.exit(0)
    found = f"unknown {words[0]!r}: " if words and not words[0].startswith("-") else ""
    raise InputError(f"{found}name what to submit, or what to do with it: one of {', '.join(verbs)}")


def start_verb(command: Command, words: list[str]) -> None:
    """Submit something, or look after it."""
    from pipeline.commands.submit_verbs import VERBS

    VERBS[command.name.removeprefix("submit ")](command, words)


SUBMIT = (
    Command("submit", "stages as Slurm jobs: one of those below", start_submit),
    Command("submit reproduce", "preprocess → train → evaluate → report, each after the one before it", start_verb),
    Command("submit preprocess", "an array of jobs that make a shard set", start_verb),
    Command("submit train", "one training run, through time limits, pre-emption and dead nodes", start_verb),
    Command("submit evaluate", "an evaluation of a run", start_verb),
    Command("submit report", "the report on runs", start_verb),
    Command(
        "submit ablations", "a run for each claim of the paper that a shard set can answer, then a report", start_verb
    ),
    Command("submit seeds", "several runs of one experiment with different seeds, then all as one", start_verb),
    Command("submit status", "where the jobs stand, why they wait, what to do about those that failed", start_verb),
    Command("submit cancel", "takes the jobs out of the queue", start_verb),
)
