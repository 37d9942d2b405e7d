"""How runs came to be: the command of each, and what it changed in the registered experiment."""

from collections.abc import Sequence

from pipeline.report.document import escape_markdown, format_code, format_count
from pipeline.report.measured import MeasuredRun


def format_origins(runs: Sequence[MeasuredRun]) -> str:
    """For each run the command that started it, and what it changed in the registered experiment."""
    return "\n".join(_format_origin(run) for run in runs)


def _format_origin(run: MeasuredRun) -> str:
    said = f"- **{escape_markdown(run.path.name)}**: {format_code(run.record.starts[0].command)}"
    if len(run.record.starts) > 1:
        said += f", resumed {format_count(len(run.record.starts) - 1, 'time')}"
    if run.num_skipped:
        said += f"; left out as damaged in training and its validation: {format_count(run.num_skipped, 'time')}"
    for found in run.evaluations:
        if found.num_skipped:
            whole = format_count(found.num_images + found.num_skipped, "picture")
            said += f"; {found.split}, {found.views}: {found.num_images:,} of {whole}, the others are damaged"
    if run.record.status == "modified":
        said += f"; changed (registered value in brackets): {'; '.join(run.list_modifications())}"
    return said
