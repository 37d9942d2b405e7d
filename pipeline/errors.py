"""What stops a command with one sentence instead of a traceback, and with which exit code."""

from typing import ClassVar

RUN_ERROR_CODE = 1
"""Something went wrong on the way that the same words would meet again; also of a check that found something."""
INPUT_ERROR_CODE = 2
"""A mistake that the person who runs this can put right."""
PEER_LOST_CODE = 69
"""A rank ended because another one had; that one tells why. As `EX_UNAVAILABLE` of sysexits.h."""
STOPPED_CODE = 75
"""Stopped by a signal after a checkpoint, to go on later. As `EX_TEMPFAIL` of sysexits.h."""
HUNG_CODE = 124
"""A rank kept the others waiting too long. As of `timeout` of the coreutils."""
INTERRUPTED_CODE = 130
"""Interrupted by Ctrl-C, as shells have it."""


class InputError(ValueError):
    """Something that the person who runs this can put right; the message is one sentence that says what and how."""

    code: ClassVar[int] = INPUT_ERROR_CODE


class RunError(RuntimeError):
    """Something that went wrong on the way and that no flag caused; the message is one sentence, too."""

    code: ClassVar[int] = RUN_ERROR_CODE


class PeerLostError(RunError):
    """Another rank has ended, or cannot be reached."""

    code: ClassVar[int] = PEER_LOST_CODE


class StoppedError(RunError):
    """Training stopped because a signal asked for it; nothing is lost."""

    code: ClassVar[int] = STOPPED_CODE


def check(condition: object, message: str) -> None:
    """Raise `InputError` with `message` unless `condition` holds."""
    if not condition:
        raise InputError(message)
