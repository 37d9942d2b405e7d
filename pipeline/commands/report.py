"""`alexnet report`, `alexnet curves` and `alexnet sync`: where the numbers of runs go."""

import sys
from dataclasses import dataclass
from pathlib import Path

from pipeline.commands.command import Command
from pipeline.errors import RUN_ERROR_CODE
from pipeline.options import CurvesConfig, ReportConfig


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


def start_sync(command: Command, words: list[str]) -> None:
    """Bring a run's journal to MLflow."""

    @dataclass(frozen=True, kw_only=True)
    class Arguments:
        run: Path
        """Run directory that `alexnet train` wrote."""

    from pipeline.artifacts import RunDirectory
    from pipeline.tracking import sync_or_warn

    run = RunDirectory(command.parse(Arguments, words, positional=True).run)
    run.read_record()
    if not sync_or_warn(run):
        sys.exit(RUN_ERROR_CODE)
    print(f"sync: MLflow has all of {run.journal}")


REPORT = Command("report", "runs → a page that sets the paper's numbers beside the measured ones", start_report)
CURVES = Command("curves", "runs → one metric by epoch, and when each fell below a threshold", start_curves)
SYNC = Command("sync", "brings a run's journal to MLflow, when the server was away", start_sync)
