"""What tests of the doctor share."""

from collections.abc import Iterable
from pathlib import Path

from pipeline.launch.doctor.finding import Finding
from pipeline.options import DoctorConfig

NOTHING_ASKED = DoctorConfig()


def one(findings: Iterable[Finding], subject: str) -> Finding:
    """The finding of that subject."""
    (found,) = [finding for finding in findings if finding.subject == subject]
    return found


def write_command(folder: Path, name: str, *lines: str) -> Path:
    """An executable shell script."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("\n".join(("#!/bin/sh", *lines, "")))
    (folder / name).chmod(0o755)
    return folder / name
