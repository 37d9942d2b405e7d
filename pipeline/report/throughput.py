"""What the benchmarks found, from the `bench-*.json` that they leave: a row a headline number."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from pipeline.errors import InputError
from pipeline.report.document import Table

MEGABYTE = 1_000_000
STEP, LOADER = "step", "this loader"
"""The step with this project's own layers, and its own loader, among the variants."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """Where a benchmark's numbers come from."""

    command: str
    commit: str
    dirty: bool
    machine: str
    device: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """One variant's rate, and its ratio to another."""

    variant: str
    images_per_second: float
    ratio: float
    ratio_to: str
    stored: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """Steps of training in one arithmetic and memory format, with this project's layers and with others."""

    name: str
    steps: tuple[Timing, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Goal:
    """What the loader was to reach beside a peer, and did."""

    stored: str
    peer: str
    wanted: float
    measured: float
    reached: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class DataWait:
    """Share of a training step's time that waits for data, which is to lie below the goal."""

    variant: str
    share: float
    goal: float
    reached: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Volume:
    """How many times fewer bytes a rank sends than with copies of the whole network."""

    world_size: int
    sharing: str
    times_fewer: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Sync:
    """A run's points sent to MLflow by one process, and the most memory that it had."""

    what: str
    num_points: int
    seconds: float
    peak_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Bench:
    """The parts of a benchmark's record that have headlines; each kind of benchmark has some of them."""

    origin: Origin
    timings: tuple[Timing, ...] = ()
    settings: tuple[Setting, ...] = ()
    goals: tuple[Goal, ...] = ()
    data_waits: tuple[DataWait, ...] = ()
    volumes: tuple[Volume, ...] = ()
    goal: float | None = None
    """Of the last one of the volumes."""
    reached: bool = True
    syncs: tuple[Sync, ...] = ()

    def list_headlines(self) -> Iterator[tuple[str, str, str]]:
        """Yield (what, rate in images per second, ratio); goals say it all where there are any."""
        for goal in self.goals:
            said = f"{goal.measured:.2f} × {goal.peer}{_format_goal(f'{goal.wanted:.2f}', reached=goal.reached)}"
            yield f"loader, {goal.stored}", self.find_loader_rate(goal.stored), said
        for timing in self.timings if not self.goals else ():
            yield timing.variant, *_format_timing(timing)
        for setting in self.settings:
            for timing in setting.steps:
                if timing.variant == STEP:
                    yield f"{STEP}, {setting.name}", *_format_timing(timing)
        for wait in self.data_waits:
            wanted = _format_goal(f"below {wait.goal:.0%}", reached=wait.reached)
            yield wait.variant, "", f"{wait.share:.1%} of the time waits for data{wanted}"
        for volume in self.volumes:
            if volume.sharing != "copies":
                what = f"bytes sent by each of {volume.world_size} ranks, {volume.sharing}"
                has_goal = self.goal is not None and volume is self.volumes[-1]
                wanted = _format_goal(f"{self.goal:g}", reached=self.reached) if has_goal else ""
                yield what, "", f"{volume.times_fewer:.1f} times fewer than copies{wanted}"
        for sync in self.syncs:
            memory = f"{sync.peak_bytes / MEGABYTE:,.0f} MB at most"
            yield f"to MLflow, {sync.what}", "", f"{sync.num_points:,} points in {sync.seconds:.1f} s, {memory}"

    def find_loader_rate(self, stored: str) -> str:
        """Images per second of this project's loader, as first timed; empty where it was not."""
        own = (timing for timing in self.timings if (timing.variant, timing.stored) == (LOADER, stored))
        return next((_format_timing(timing)[0] for timing in own), "")


def build_throughput_table(results: Path) -> Table | None:
    """What all benchmarks below a folder found, or None where there is none.

    Raises:
        InputError: a file is no benchmark's record.
    """
    rows = []
    for path in sorted(results.rglob("bench-*.json")):
        bench = read_bench(path)
        kind, origin = path.stem.split("-")[1], bench.origin
        commit = origin.commit[:12] + (" + changes" if origin.dirty else "")
        rows += [
            (f"{kind}: {what}", rate, result, origin.command, commit, f"{origin.device}, {origin.machine}")
            for what, rate, result in bench.list_headlines()
        ]
    headers = ("what", "images/s", "result", "command", "commit", "device, machine")
    return Table(name="throughput", headers=headers, rows=tuple(rows)) if rows else None


def read_bench(path: Path) -> Bench:
    """Read a benchmark's record.

    Raises:
        InputError: it is none.
    """
    try:
        return TypeAdapter(Bench).validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "at the top"
        raise InputError(
            f"{path} is not what a benchmark writes: field {field}: {first['msg'].lower()}; run the benchmark again, "
            "or move the file away"
        ) from error


def _format_timing(timing: Timing) -> tuple[str, str]:
    return f"{timing.images_per_second:,.0f}", f"{timing.ratio:.2f} × {timing.ratio_to}"


def _format_goal(wanted: str, *, reached: bool) -> str:
    return f" (wanted {wanted}{'' if reached else ', missed'})"
