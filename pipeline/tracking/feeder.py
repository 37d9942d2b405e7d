"""Feeds MLflow while a run is on, from a thread of its own: nothing that MLflow does may hurt the run."""

import shlex
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from pipeline.artifacts import RunDirectory, write_bytes
from pipeline.errors import InputError, RunError
from pipeline.tracking.journal import Journal
from pipeline.tracking.server import describe_failure, find_database, find_tracking_uri, mask, name_default
from pipeline.tracking.sync import Tracker, is_complete, list_sources

FEED_INTERVAL_SECONDS = 10.0
FINAL_WAIT_SECONDS = 60.0
ANSWER_SECONDS = 10.0
"""How long a server may take for one answer while the end of a run waits for it."""
STOP_WAIT_SECONDS = 3.0
MAX_QUOTED_LINES = 5


class Feeder:
    """Sends a run's news now and then; a failure is one printed sentence, and everything is sent again later."""

    def __init__(self, run: RunDirectory, uri: str | None = None) -> None:
        """Connect later, for that may fail, too; `uri` as in `Tracker`."""
        self.run, self.uri = run, uri or find_tracking_uri(run)
        self.tracker: Tracker | None = None
        self.is_delivering = True
        """Whether the last attempt brought everything over."""
        self.began_at = time.monotonic()

    @property
    def answered_at(self) -> float:
        """When the server last answered, or was first asked, on the monotonic clock."""
        return max(self.began_at, self.tracker.answered_at if self.tracker else 0.0)

    def feed(self, *, status: str | None = None, whole: bool = True, warn: bool = True) -> None:
        """Send what is new; `status` and `whole` as in `Tracker.send`."""
        self.began_at = time.monotonic()
        try:
            self.tracker = self.tracker or Tracker(self.run, self.uri)
            self.tracker.send(status=status, whole=whole)
            self.is_delivering = True
        except Exception as error:  # noqa: BLE001 - the tracker may fail in any way it likes; the journal has it all
            self.tracker, self.is_delivering = None, False
            if warn and isinstance(error, InputError | RunError):
                print(f"tracking: {error}", flush=True)
            elif warn:
                self.warn_of_gap(f"did not take the metrics ({describe_failure(error, self.uri)})")

    def feed_until(self, stop: threading.Event) -> None:
        """Send every few seconds; one sentence an outage."""
        self.feed(status="RUNNING", whole=False)
        while not stop.wait(FEED_INTERVAL_SECONDS):
            self.feed(status="RUNNING", whole=False, warn=self.is_delivering)

    def warn_of_gap(self, what: str) -> None:
        """Say that MLflow lacks something, where it is safe, and what to do."""
        print(
            f"tracking: MLflow at {mask(self.uri)} {what}; they are safe in {self.run.journal}, "
            f"bring them over with `{format_sync(self.run, self.uri)}`",
            flush=True,
        )


def format_sync(run: RunDirectory, uri: str) -> str:
    """The command that brings a run to a server; the password is left out."""
    words = ["alexnet", "sync", str(run.path)]
    is_default = uri == name_default(run) == find_tracking_uri(run)
    return shlex.join(words if is_default else [*words, "--tracking-uri", mask(uri)])


def warn_of_damage(run: RunDirectory) -> None:
    """Say which lines of the run's files of metrics are passed over, if there are any."""
    for name in list_sources(run):
        numbers = list[int]()
        with suppress(OSError):  # whoever needs the file says so
            numbers = Journal(run.path / name).find_damage()
        if numbers:
            quoted = ", ".join([*map(str, numbers[:MAX_QUOTED_LINES]), *["…"] * (len(numbers) > MAX_QUOTED_LINES)])
            print(
                f"tracking: passed over what is damaged or unfinished in {run.path / name}: line {quoted} "
                f"({len(numbers)} in all)",
                flush=True,
            )


def draw_curves(run: RunDirectory) -> None:
    """Draw the learning curves into the run's figures, if they have changed; a failure is one printed sentence."""
    try:
        entries, record = Journal(run.journal).read(), run.read_record()
        if not entries:
            return
        from pipeline.tracking.curves import draw_learning_curves

        title, path = f"Learning curves of {record.experiment}", run.figures / "curves.svg"
        drawn = draw_learning_curves(entries, record.config, name="curves", title=title)
        if not path.is_file() or path.read_bytes() != drawn:
            write_bytes(path, drawn)
    except Exception as error:  # noqa: BLE001 - a picture is never worth a run
        print(f"tracking: the learning curves of {run.path} could not be drawn ({error})", flush=True)


def sync_or_warn(run: RunDirectory, *, status: str | None = None, warn: bool = True) -> bool:
    """Bring MLflow to the run directory's content; a failure is one printed sentence. Returns whether it succeeded."""
    draw_curves(run)
    feeder = Feeder(run)
    feeder.feed(status=status, warn=warn)
    return feeder.is_delivering


@dataclass(slots=True)
class Feed:
    """How long the end of a run waits for MLflow."""

    patience_seconds: float = FINAL_WAIT_SECONDS

    def hurry(self) -> None:
        """Somebody wants this process to end: the next start, or `alexnet sync`, brings the rest over."""
        self.patience_seconds = STOP_WAIT_SECONDS


@contextmanager
def feed_mlflow(run: RunDirectory) -> Iterator[Feed]:
    """Bring the journal to MLflow every few seconds from a thread of its own, and once more at the end.

    Training never waits for it. After the last step the process stays while the server answers, but no longer than the
    feed's patience; for a server that was away already it does not wait.
    """
    stop, feeder, handle, status = threading.Event(), Feeder(run), Feed(), "FAILED"

    def work() -> None:
        feeder.feed_until(stop)
        feeder.feed(status=status)

    warn_of_damage(run)
    thread = threading.Thread(target=work, name="mlflow-feeder", daemon=True)
    thread.start()
    try:
        yield handle
        status = "FINISHED" if is_complete(run) else "KILLED"
    except KeyboardInterrupt:
        status = "KILLED"
        handle.hurry()
        raise
    finally:
        # Not in the thread: an end of the process while matplotlib's C++ runs there would be an abort, whatever the
        # exit code. For somebody in a hurry, the next start draws.
        if handle.patience_seconds > STOP_WAIT_SECONDS:
            draw_curves(run)
        stop.set()
        wait_for(thread, feeder, handle.patience_seconds)


def wait_for(thread: threading.Thread, feeder: Feeder, patience_seconds: float) -> None:
    """Wait for the last delivery while the server answers; an sqlite file has no one to wait for but this machine."""
    began = time.monotonic()
    is_local = find_database(feeder.uri) is not None
    while thread.is_alive():
        thread.join(0.1)
        waited, silence = time.monotonic() - began, time.monotonic() - feeder.answered_at
        if waited > patience_seconds or (silence > ANSWER_SECONDS and not is_local):
            break
    if thread.is_alive():
        feeder.warn_of_gap(f"has not taken the metrics within {time.monotonic() - began:.0f} s")
