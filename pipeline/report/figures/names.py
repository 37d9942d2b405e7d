"""What a run is called in a figure, and what a figure of a run is called."""

import re

from pipeline.drawing import shorten
from pipeline.report.measured import MeasuredRun

LABEL_COLUMNS = 80


def format_label(run: MeasuredRun) -> str:
    """Name of a run in a legend, a title or a caption."""
    prefix = "" if run.path.name == run.record.experiment else f"{run.path.name}: "
    return shorten(f"{prefix}{run.record.experiment} ({run.describe_status()})", LABEL_COLUMNS)


def format_name(kind: str, run: MeasuredRun) -> str:
    """Name of a figure or table of one run: for files and ids, and no other run's."""
    words = f"{kind}-{run.record.experiment}-{run.record.id[:8]}".lower()
    return re.sub(r"[^a-z0-9]+", "-", words)
