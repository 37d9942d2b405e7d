"""How far a shard set is, who is at work on it, and which command does the rest."""

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, dataclass, fields
from itertools import groupby, pairwise
from pathlib import Path

from pipeline.artifacts import WORK_FOLDER, Split, find_holder, read_json, read_shard_set, to_json, write_json
from pipeline.errors import check
from pipeline.options import PreprocessConfig, StatusConfig
from pipeline.preprocess.claim import find_parts_at_work, plan_lock, whole_lock
from pipeline.preprocess.plan import PLAN_FILE, PlannedShard, find_plan
from pipeline.preprocess.records import find_records

PARTS_TO_OFFER = 16
MAX_DROPPED = "--max-dropped"
NOT_ASKED_AGAIN = ("part", "workers", "json")
"""Flags that may differ between two starts, so the command for the rest leaves them out."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What the newest start was asked to do: its flags, and how many parts there are."""

    flags: tuple[str, ...]
    num_parts: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """Shards and pictures of a split that are done, of how many."""

    shards_done: int
    num_shards: int
    images_done: int
    num_images: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Status:
    """The state of a shard set; `commands` do the rest, on one machine or as a Slurm array."""

    path: str
    finished: bool
    splits: dict[Split, Progress]
    num_dropped: int
    missing: tuple[str, ...]
    running: tuple[str, ...]
    commands: tuple[str, ...]


def write_request(config: PreprocessConfig) -> None:
    """Write down what was asked, for `status`."""
    request = Request(flags=tuple(format_flags(config)), num_parts=config.parse_part()[1])
    write_json(_request_path(config.out), request)


def format_flags(config: PreprocessConfig) -> list[str]:
    """The flags that differ from their defaults, with paths that hold from everywhere."""
    words = []
    for field in fields(config):
        value = getattr(config, field.name)
        if field.name in NOT_ASKED_AGAIN or (field.default is not MISSING and value == field.default):
            continue
        flag = f"--{field.name.replace('_', '-')}"
        words += [flag] if value is True else [flag, str(value.resolve() if isinstance(value, Path) else value)]
    return words


def _request_path(out: Path) -> Path:
    return out / WORK_FOLDER / "request.json"


def read_status(out: Path) -> Status:
    """Look at a shard set, finished or not; changes nothing.

    Raises:
        InputError: there is none.
    """
    check(out.is_dir(), f"{out} is not a directory: pass the --out of `alexnet preprocess`")
    if (out / "dataset.json").is_file():
        return _describe_finished(out)
    if (out / PLAN_FILE).is_file() and not (out / WORK_FOLDER).is_dir():
        read_shard_set(out)  # which says what to do where dataset.json is lost
    check(
        (out / WORK_FOLDER).is_dir(),
        f"{out} holds no shard set, begun or finished: pass the --out of `alexnet preprocess`",
    )
    plan = find_plan(out)
    request = read_json(_request_path(out), Request) if _request_path(out).is_file() else None
    running = _find_running(out)
    if plan is None or request is None:
        return Status(path=str(out), finished=False, splits={}, num_dropped=0, missing=(), running=running, commands=())
    records = find_records(out, plan.shards)
    missing = [shard for shard in plan.shards if shard not in records]
    splits = {
        split: _count_progress([shard for shard in plan.shards if shard.split == split], records)
        for split in plan.splits
    }
    return Status(
        path=str(out),
        finished=False,
        splits=splits,
        num_dropped=sum(len(record.dropped) for record in records.values()),
        missing=tuple(shard.name for shard in missing),
        running=running,
        commands=_format_commands(out, request, missing, num_shards=len(plan.shards)),
    )


def _describe_finished(out: Path) -> Status:
    shard_set = read_shard_set(out)
    info = shard_set.info
    for split in info.splits:
        shard_set.open_split(split)  # which says what is missing
    splits = {
        split: Progress(
            shards_done=len(found.shards),
            num_shards=len(found.shards),
            images_done=found.num_images,
            num_images=found.num_images,
        )
        for split, found in info.splits.items()
    }
    return Status(
        path=str(out),
        finished=True,
        splits=splits,
        num_dropped=info.num_dropped,
        missing=(),
        running=(),
        commands=(),
    )


def _count_progress(shards: Sequence[PlannedShard], done: Iterable[PlannedShard]) -> Progress:
    finished = set(done)
    return Progress(
        shards_done=sum(shard in finished for shard in shards),
        num_shards=len(shards),
        images_done=sum(shard.last - shard.first for shard in shards if shard in finished),
        num_images=sum(shard.last - shard.first for shard in shards),
    )


def _find_running(out: Path) -> tuple[str, ...]:
    found = {"all": find_holder(whole_lock(out)), "looking through the source": find_holder(plan_lock(out))}
    found |= {f"part {name}": holder for name, holder in find_parts_at_work(out).items()}
    return tuple(f"{name} ({holder})" for name, holder in found.items() if holder)


def _format_commands(
    out: Path, request: Request, missing: Sequence[PlannedShard], *, num_shards: int
) -> tuple[str, ...]:
    at_work = find_parts_at_work(out)
    if find_holder(whole_lock(out)) or (at_work and not missing):
        return ()
    if not missing:
        limit = [word for flag, word in pairwise(request.flags) if flag == MAX_DROPPED]
        return (shlex.join(["alexnet", "preprocess", "merge", str(out), *([MAX_DROPPED, *limit] if limit else [])]),)
    num_parts = request.num_parts if request.num_parts > 1 else min(PARTS_TO_OFFER, num_shards)
    parts = sorted({shard.number % num_parts for shard in missing})
    idle = [part for part in parts if f"{part}/{num_parts}" not in at_work]
    flags = shlex.join(request.flags)
    array = f"sbatch --array={format_ranges(idle)} --export=ALL,PARTS={num_parts} slurm/preprocess.sbatch {flags}"
    return (*([] if at_work else [f"alexnet preprocess {flags}"]), *([array] if idle else []))


def format_ranges(numbers: Sequence[int]) -> str:
    """Rising numbers as Slurm writes them: `0-2,5`."""
    runs = [[number for _, number in run] for _, run in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])]
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def format_status(status: Status) -> str:
    """The status for people."""
    if status.finished:
        counts = ", ".join(f"{split.num_images:,} {name}" for name, split in status.splits.items())
        return f"{status.path}: finished, {counts} pictures, {status.num_dropped} dropped"
    lines = [
        f"{name:<6} {split.shards_done:>5} of {split.num_shards} shards, {split.images_done:,} of {split.num_images:,} "
        "pictures"
        for name, split in status.splits.items()
    ] or [f"{status.path}: the source has not been looked through yet"]
    lines += [f"dropped {status.num_dropped:>4}"] if status.num_dropped else []
    lines += [f"running: {name}" for name in status.running]
    if status.commands:
        lines += [
            "for the rest (sbatch: from the folder that holds slurm/):",
            *(f"  {line}" for line in status.commands),
        ]
    return "\n".join(lines)


def show_status(config: StatusConfig) -> None:
    """Print the status, for people or as JSON."""
    status = read_status(config.shards)
    print(to_json(status).decode() if config.json else format_status(status))
