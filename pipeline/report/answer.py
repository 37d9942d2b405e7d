"""What was measured of a claim, and which run measured it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.claims import Claim
from pipeline.report.intervals import Interval
from pipeline.report.measured import MeasuredRun

Verdict = Literal["reproduced", "within noise", "not reproduced", "not run", "no verdict", "others' work"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """A measured number and its 95% interval; errors and their differences as fractions."""

    value: float
    interval: Interval


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What the runs say to a claim; `text` is the measured number in words, empty where nobody ran it."""

    claim: Claim
    verdict: Verdict
    text: str = ""
    remarks: tuple[str, ...] = ()
    top1: Measurement | None = None
    """Where the claim is an error or a difference of errors."""
    top5: Measurement | None = None
    """Likewise."""
    runs: tuple[MeasuredRun, ...] = ()
    num_images: int | None = None
    """Pictures that were classified, where the claim is of errors."""


class NotRunError(Exception):
    """No run may answer a claim; the arguments say of each one that comes close why it may not."""


def format_measurement(measured: Measurement) -> str:
    """In percent, with the interval."""
    low, high = measured.interval
    return f"{format_percent(measured.value)} [{format_percent(low)}, {format_percent(high)}]"


def format_percent(value: float) -> str:
    """A fraction in percent with two digits; a minus is one, for a spreadsheet takes a hyphen for a formula."""
    return f"{value * 100:.2f}".replace("-", "−")


def list_seeds(runs: Sequence[MeasuredRun]) -> tuple[str, ...]:
    """A remark on the seeds, where they are not all the registered one."""
    seeds = [run.record.config.seed for run in runs]
    return (f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}",) if any(seeds) else ()
