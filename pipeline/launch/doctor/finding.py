"""One line of the doctor's table."""

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """What was looked at, whether it is well, what was found, and what to do if it is not.

    `skipped` is what this machine does not have or nobody asked for. `measured` holds numbers with the unit in their
    name.
    """

    subject: str
    status: Literal["well", "ill", "skipped"]
    found: str
    advice: str = ""
    measured: dict[str, float] = field(default_factory=dict)


def well(subject: str, found: str, **measured: float) -> Finding:
    """What is as it should be."""
    return Finding(subject=subject, status="well", found=found, measured=measured)


def ill(subject: str, found: str, advice: str, **measured: float) -> Finding:
    """What has to be mended, and how."""
    return Finding(subject=subject, status="ill", found=found, advice=advice, measured=measured)


def skipped(subject: str, found: str) -> Finding:
    """What is not there, or was not asked for."""
    return Finding(subject=subject, status="skipped", found=found)


def judge(condition: object, subject: str, found: str, advice: str, **measured: float) -> Finding:
    """`well` if the condition holds, `ill` otherwise."""
    return well(subject, found, **measured) if condition else ill(subject, found, advice, **measured)


def quote(error: BaseException) -> str:
    """The first line of what an error says, or its kind where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def explain(subject: str, error: Exception) -> Finding:
    """`ill`, with the advice that follows the last colon of our sentences, or with what the system says of a file."""
    if isinstance(error, OSError):
        return ill(subject, f"{error.filename}: {error.strerror}", "look at that disk, and who may read there")
    sentence, _, advice = quote(error).rpartition(": ")
    return ill(subject, sentence or advice, advice)
