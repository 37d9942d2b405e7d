"""A request to stop, and how training hears it: SIGTERM from a cluster or a shell, Ctrl-C from a person."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass(slots=True)
class StopRequest:
    """Whether this process was asked to stop, and by which signal; `at_once` after a second Ctrl-C."""

    by: signal.Signals | None = None
    at_once: bool = False

    def __bool__(self) -> bool:
        return self.by is not None

    def interrupt_if_at_once(self) -> None:
        """Interrupt again: Python loses an interrupt that comes amid a destructor or a callback of an import.

        Raises:
            KeyboardInterrupt: Ctrl-C came twice.
        """
        if self.at_once:
            raise KeyboardInterrupt


@contextmanager
def hear_stop_requests(*, speaks: bool) -> Iterator[StopRequest]:
    """Turn SIGTERM, SIGUSR1 and the first Ctrl-C into a request; a second Ctrl-C interrupts at once.

    Args:
        speaks: say that the request was heard.
    """
    request = StopRequest()

    def hear(number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT and request.by == signal.SIGINT:
            request.at_once = True
            raise KeyboardInterrupt
        first, request.by = not request, signal.Signals(number)  # before it is said, lest the next overtake
        if speaks and first:
            again = "; Ctrl-C again stops at once" if number == signal.SIGINT else ""
            said = f"train: {request.by.name} heard: a checkpoint at the next report, then the end{again}\n"
            os.write(sys.stderr.fileno(), said.encode())  # `print` may be at work beneath this handler

    before = {number: signal.signal(number, hear) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            heard = request and number != signal.SIGINT  # on the way out another one would lose the exit code
            signal.signal(number, signal.SIG_IGN if heard else handler)
