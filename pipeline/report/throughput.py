"""What the benchmarks found, from the `bench-*.json` that they leave: a row a headline number."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from pipeline.errors import InputError
from pipeline.report.document import Table

MEGABYTE = 1_000_000
STEP = "step"
"""The step with this project's own layers, among the variants."""


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
    volumes: tuple[Volume, ...] = ()
    syncs: tuple[Sync, ...] = ()

    def list_headlines(self) -> Iterator[tuple[str, str, str]]:
        """Yield (what, rate in images per second, ratio); goals say it all where there are any."""
        for goal in self.goals:
            yield f"loader, {goal.stored}", "", f"{goal.measured:.2f} × {goal.peer} (wanted {goal.wanted:.2f})"
        for timing in self.timings if not self.goals else ():
            yield timing.variant, *_format_timing(timing)
        for setting in self.settings:
            for timing in setting.steps:
                if timing.variant == STEP:
                    yield f"{STEP}, {setting.name}", *_format_timing(timing)
        for volume in self.volumes:
            if volume.sharing != "copies":
                what = f"bytes sent by each of {volume.world_size} ranks, {volume.sharing}"
                yield what, "", f"{volume.times_fewer:.1f} times fewer than copies"
        for sync in self.syncs:
            memory = f"{sync.peak_bytes / MEGABYTE:,.0f} MB at most"
            yield f"sync to MLflow, {sync.what}", "", f"{sync.num_points:,} points in {sync.seconds:.1f} s, {memory}"


def build_throughput_table(results: Path) -> Table | None:
    """What all benchmarks below a folder found, or None where there is none.

    Raises:
        InputError: a file is no benchmark's record.
    """
    rows = []
    for path in sorted(results.rglob("bench-*.json")):
        bench = read_bench(path)
        origin = bench.origin
        commit = origin.commit[:12] + (" + changes" if origin.dirty else "")
        rows += [
            (*headline, origin.command, commit, f"{origin.device}, {origin.machine}")
            for headline in bench.list_headlines()
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
