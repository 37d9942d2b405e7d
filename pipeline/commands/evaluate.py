"""`alexnet evaluate` and `alexnet ensemble`: errors of a run, and of several as one."""

from pipeline.commands.command import Command
from pipeline.options import EnsembleConfig, EvaluateConfig


def start_evaluate(command: Command, words: list[str]) -> None:
    """Evaluate a run's newest checkpoint."""
    config = command.parse(EvaluateConfig, words, positional=True)
    from pipeline.evaluate.stage import evaluate

    evaluate(config)


def start_ensemble(command: Command, words: list[str]) -> None:
    """Average the saved probabilities of several runs."""
    config = command.parse(EnsembleConfig, words, positional=True)
    from pipeline.evaluate.ensemble import combine

    combine(config)


EVALUATE = Command("evaluate", "a run's newest checkpoint → exact errors, saved predictions", start_evaluate)
ENSEMBLE = Command("ensemble", "averages the saved probabilities of several runs, as in Table 2", start_ensemble)
