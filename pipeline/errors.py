"""What stops a command with one sentence instead of a traceback."""


class InputError(ValueError):
    """Something that the person who runs this can put right; the message is one sentence that says what and how."""


class RunError(RuntimeError):
    """Something that went wrong on the way and that no flag caused; the message is one sentence, too."""


def check(condition: object, message: str) -> None:
    """Raise `InputError` with `message` unless `condition` holds."""
    if not condition:
        raise InputError(message)
