"""Looks in processes of their own: one that crashes or hangs is a finding, and libraries talk to nobody."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess

from pipeline.launch.doctor.finding import Finding, ill
from pipeline.options import DoctorConfig

context = multiprocessing.get_context("forkserver")
Body = Callable[[DoctorConfig], Iterable[Finding]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """A function that looks at something and yields findings.

    `subject` is what is found ill if it crashes, or if it takes longer than `seconds`; `advice` is what to do then.
    """

    subject: str
    body: Body
    advice: str
    seconds: float = 20.0


class LookProcess:
    """A look that is under way."""

    def __init__(self, look: Look, config: DoctorConfig) -> None:
        self._look, self._end = look, time.monotonic() + look.seconds
        self._findings, writer = context.Pipe(duplex=False)
        # A daemon, so that it ends with this process; one that the kernel holds back does not, see `stage.diagnose`.
        self.process: ForkServerProcess = context.Process(target=run_look, args=(look.body, config, writer), daemon=True)
        self.process.start()
        writer.close()

    def collect(self) -> Iterator[Finding]:
        """Yield what it finds, until it ends or its time is over."""
        while self._findings.poll(max(0.0, self._end - time.monotonic())):
            try:
                found: Finding | str = self._findings.recv()
            except EOFError:
                self.process.join()
                if code := self.process.exitcode:
                    yield self._complain(f"ended with {code}" if code > 0 else f"died of {signal.Signals(-code).name}")
                return
            yield self._complain(found) if isinstance(found, str) else found
        self.process.kill()
        yield self._complain(f"no answer within {self._look.seconds:.0f} s")

    def _complain(self, what: str) -> Finding:
        return ill(self._look.subject, what, self._look.advice)


def run_look(body: Body, config: DoctorConfig, writer: Connection) -> None:
    """Body of a process: sends each finding, and the sentence of what went wrong."""
    silence = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(silence, descriptor)
    try:
        for finding in body(config):
            writer.send(finding)
    except Exception as error:  # noqa: BLE001 - whatever a broken library raises is what the doctor is there to tell
        writer.send(quote(error))


def quote(error: BaseException) -> str:
    """The first line of what an error says, or its kind where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def run_looks(together: Sequence[Look], alone: Sequence[Look], config: DoctorConfig) -> tuple[list[Finding], bool]:
    """Run looks at once, then those that measure one by one.

    Returns:
        Findings in the order of the looks, and whether all their processes have ended.
    """
    started = [LookProcess(look, config) for look in together]
    findings = [finding for look in started for finding in look.collect()]
    for look in alone:
        started.append(LookProcess(look, config))
        findings += started[-1].collect()
    for look_process in started:
        look_process.process.join(1)
    return findings, not any(look_process.process.is_alive() for look_process in started)
