"""Repair: packs anew what is missing or damaged, and puts it in place only if it is what was there."""

import shutil
from collections.abc import Collection, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from pipeline.artifacts import (
    LEDGER,
    MEAN_IMAGE,
    STATISTICS_PICTURE,
    WORK_FOLDER,
    ShardInfo,
    ShardSet,
    compare_file,
    read_shard_set,
    sync_directory,
    to_npy,
    write_bytes,
)
from pipeline.errors import check
from pipeline.options import RepairConfig
from pipeline.preprocess.claim import claim
from pipeline.preprocess.ledger import LedgerEntry, format_ledger
from pipeline.preprocess.merge import remove_leftovers
from pipeline.preprocess.packing import open_source
from pipeline.preprocess.pictures import draw_statistics
from pipeline.preprocess.plan import (
    PLAN_FOLDER,
    PlannedShard,
    begin_plan,
    check_tools_fit,
    read_plan,
)
from pipeline.preprocess.records import SHARD_SUFFIXES
from pipeline.preprocess.shards import write_shard
from pipeline.preprocess.verify import Problem, find_problems, sum_pixels
from pipeline.preprocess.workers import build_bar, count_images, run_in_workers

SCRATCH = "repair"


@dataclass(frozen=True, kw_only=True, slots=True)
class RepairTask:
    """One shard to pack anew; `expected` is what it must become, None if it may be thrown away afterwards."""

    source: Path
    out: Path
    shard: PlannedShard
    expected: ShardInfo | None


@dataclass(frozen=True, kw_only=True, slots=True)
class RepairedShard:
    """Whether a shard came out as it was, and its ledger entries."""

    shard: PlannedShard
    fits: bool
    entries: tuple[LedgerEntry, ...]


def repair(config: RepairConfig) -> tuple[Problem, ...]:
    """Mend what `verify` finds, from the pictures that the set was made from.

    Returns:
        What was mended.

    Raises:
        InputError: the source is not the one that the set was made from, or the tools are others; nothing was replaced
            by something else.
    """
    shard_set = read_shard_set(config.shards)
    problems = find_problems(shard_set, deep=False, num_workers=config.workers)
    if problems or (config.shards / WORK_FOLDER).is_dir():  # of a repair that was killed
        with claim(config.shards, (0, 1)):
            try:
                mend(shard_set, problems, config)
            finally:
                remove_leftovers(config.shards)
                shutil.rmtree(config.shards / WORK_FOLDER, ignore_errors=True)
    for problem in problems:
        print(f"{config.shards}/{problem.file} {problem.found}: mended")
    print(f"repair: {len(problems)} files mended, {config.shards} is as it was written")
    return problems


def mend(shard_set: ShardSet, problems: Sequence[Problem], config: RepairConfig) -> None:
    """Mend the plan, then the shards by the plan, then what is computed from the shards."""
    files = {problem.file for problem in problems if problem.shard is None}
    planned = {name for name in shard_set.info.files if name.startswith(f"{PLAN_FOLDER}/")}
    if files & planned:
        mend_plan(shard_set, planned, config)
    bad = {problem.shard for problem in problems if problem.shard}
    if bad or LEDGER in files:
        mend_shards(shard_set, bad, config, with_ledger=LEDGER in files)
    if MEAN_IMAGE in files:
        sums = sum_pixels(shard_set, num_workers=config.workers)
        put_in_place(shard_set, MEAN_IMAGE, to_npy(sums.compute_mean_image()))
    if STATISTICS_PICTURE in files:
        drawn = draw_statistics(shard_set.read_mean_image(), shard_set.info.color)
        put_in_place(shard_set, STATISTICS_PICTURE, drawn)


def mend_plan(shard_set: ShardSet, names: Collection[str], config: RepairConfig) -> None:
    """Look through the source once more."""
    scratch = config.shards / WORK_FOLDER / SCRATCH
    begin_plan(config.source, shard_set.info.packing, scratch)
    for name in sorted(names):
        put_in_place(shard_set, name, (scratch / name).read_bytes())


def put_in_place(shard_set: ShardSet, name: str, content: bytes) -> None:
    """Write a small file of the set anew, if it is what was there.

    Raises:
        InputError: it is not.
    """
    temporary = shard_set.path / WORK_FOLDER / SCRATCH / "file"
    write_bytes(temporary, content)
    check(
        compare_file(temporary, shard_set.info.files[name]) is None,
        f"{name}, made anew, is not what {shard_set.path}/dataset.json describes: pass the --source that the set was "
        "made from, unchanged, and the same versions of the tools",
    )
    write_bytes(shard_set.path / name, content)


def mend_shards(shard_set: ShardSet, bad: Collection[str], config: RepairConfig, *, with_ledger: bool) -> None:
    """Pack the bad shards anew; for the ledger all of them, since only packing tells what was odd.

    Raises:
        InputError: one did not come out as it was.
    """
    plan = read_plan(config.shards)
    check_tools_fit(plan, config.shards)
    expected = {shard.name: shard for split in shard_set.info.splits.values() for shard in split.shards}
    tasks = [
        RepairTask(
            source=config.source,
            out=config.shards,
            shard=shard,
            expected=expected[shard.name] if shard.name in bad else None,
        )
        for shard in plan.shards
        if with_ledger or shard.name in bad
    ]
    bar = build_bar("repair", total=sum(task.shard.last - task.shard.first for task in tasks), initial=0)
    with closing(run_in_workers(repair_shard, tasks, num_workers=config.workers, bar=bar)) as results:
        repaired = sorted(results, key=lambda result: result.shard.number)
    failed = [result.shard.name for result in repaired if not result.fits]
    check(
        not failed,
        f"{len(failed)} of {len(tasks)} shards, {', '.join(failed[:1])} first, came out differently from what "
        f"{config.shards}/dataset.json describes and were left as they are: pass the --source that the set was made "
        "from, unchanged",
    )
    if with_ledger:
        entries = (*plan.ignored, *(entry for result in repaired for entry in result.entries))
        put_in_place(shard_set, LEDGER, format_ledger(entries))


def repair_shard(task: RepairTask) -> RepairedShard:
    """Pack one shard into the scratch folder and move it into place if it is what it was; runs in a worker."""
    opened, reader = open_source(task.out, task.source, check_stamps=False)
    shard = task.shard
    scratch, folder = task.out / WORK_FOLDER / SCRATCH / shard.name, task.out / shard.split
    record = write_shard(
        scratch,
        shard.name,
        shard.split,
        opened.read_rows(shard),
        reader,
        opened.plan.recipe,
        sums=None,
        count_image=count_images,
    )
    fits = task.expected is None or record.shard == task.expected
    if task.expected is not None and fits:
        folder.mkdir(exist_ok=True)
        for suffix in SHARD_SUFFIXES:
            (scratch / f"{shard.name}{suffix}").replace(folder / f"{shard.name}{suffix}")
        sync_directory(folder)
    shutil.rmtree(scratch)
    return RepairedShard(shard=shard, fits=fits, entries=record.entries)
