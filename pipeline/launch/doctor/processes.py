"""Looks in processes of their own: one that crashes or hangs is a finding, and libraries talk to nobody."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess

from pipeline.launch.doctor.finding import Finding, ill, quote
from pipeline.options import DoctorConfig

context = multiprocessing.get_context("forkserver")
"""Forked from a process without threads and without CUDA, whatever this one has loaded."""
KILL_SECONDS = 1
Body = Callable[[DoctorConfig], Iterable[Finding]]


@dataclass(frozen=True, slots=True)
class Look:
    """A function that looks at something and yields findings.

    `subject` is what is found ill if it crashes, or if it takes longer than `seconds`; `advice` is what to do then.
    """

    subject: str
    body: Body
    advice: str
    seconds: float = 60.0


class LookProcess:
    """A look that is under way."""

    def __init__(self, look: Look, config: DoctorConfig) -> None:
        self._look, self._end = look, time.monotonic() + look.seconds
        self._findings, writer = context.Pipe(duplex=False)
        # A daemon, so that it ends with this process; one that the kernel holds back does not, see `stage.diagnose`.
        self.process: ForkServerProcess = context.Process(
            target=run_look, args=(look.body, config, writer), daemon=True
        )
        self.process.start()
        writer.close()

    def collect(self) -> Iterator[Finding]:
        """Yield what it finds, until it is done or its time is over; it need not have ended by itself then."""
        while self._findings.poll(max(0.0, self._end - time.monotonic())):
            try:
                found: Finding | str | None = self._findings.recv()
            except EOFError:
                self.process.join()
                code = self.process.exitcode or 0
                yield self._complain(f"died of {signal.Signals(-code).name}" if code < 0 else f"ended with {code}")
                return
            if found is None:
                return
            yield self._complain(found) if isinstance(found, str) else found
        yield self._complain(f"no answer within {self._look.seconds:g} s")

    def _complain(self, what: str) -> Finding:
        return ill(self._look.subject, what, self._look.advice)


def run_look(body: Body, config: DoctorConfig, writer: Connection) -> None:
    """Body of a process: sends each finding, the sentence of what went wrong, and None at the end."""
    silence = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(silence, descriptor)
    try:
        for finding in body(config):
            writer.send(finding)
    except Exception as error:  # noqa: BLE001 - whatever a broken library raises is what the doctor is there to tell
        writer.send(f"{type(error).__name__}: {quote(error)}")
    writer.send(None)


def run_looks(together: Sequence[Look], alone: Sequence[Look], config: DoctorConfig) -> tuple[list[Finding], bool]:
    """Run looks at once, then those that want the machine for themselves one by one.

    Returns:
        Findings in the order of the looks, and whether all their processes have ended.
    """
    findings, processes = list[Finding](), list[ForkServerProcess]()
    for group in (together, *([look] for look in alone)):
        for each in [LookProcess(look, config) for look in group]:
            findings += each.collect()
            each.process.kill()  # it may still hold memory, or a GPU that only one process may have
            each.process.join(KILL_SECONDS)
            processes.append(each.process)
    return findings, not any(process.is_alive() for process in processes)
