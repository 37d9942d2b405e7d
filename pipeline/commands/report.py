"""`alexnet report`, `curves`, `runs` and `sync`: where runs stand, and where their numbers go."""

import sys

from pipeline.commands.command import Command
from pipeline.errors import RUN_ERROR_CODE
from pipeline.options import CurvesConfig, ReportConfig, RunsConfig, SyncConfig


def start_report(command: Command, words: list[str]) -> None:
    """Write the report."""
    config = command.parse(ReportConfig, words, positional=True)
    from pipeline.report.stage import report

    report(config)


def start_curves(command: Command, words: list[str]) -> None:
    """Draw a metric of runs."""
    config = command.parse(CurvesConfig, words, positional=True)
    from pipeline.report.curves import write_curves

    write_curves(config)


def start_runs(command: Command, words: list[str]) -> None:
    """List runs."""
    config = command.parse(RunsConfig, words, positional=True)
    from pipeline.artifacts import to_json
    from pipeline.report.overview import format_states, list_states

    states = list_states(config)
    print(to_json(states).decode() if config.json else format_states(states))


def start_sync(command: Command, words: list[str]) -> None:
    """Bring runs to MLflow."""
    config = command.parse(SyncConfig, words, positional=True)
    from pipeline.tracking.catch_up import catch_up

    if not catch_up(config):
        sys.exit(RUN_ERROR_CODE)


REPORT = Command("report", "runs → a page that sets the paper's numbers beside the measured ones", start_report)
CURVES = Command("curves", "runs → one metric by epoch, and when each fell below a threshold", start_curves)
RUNS = Command("runs", "where runs stand: state, errors, speed, time left, nodes; needs no server", start_runs)
SYNC = Command("sync", "brings runs to MLflow, when the server was away or they were elsewhere", start_sync)
