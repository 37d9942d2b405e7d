"""Packs the shards that are missing, in worker processes."""

import functools
import shutil
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from pipeline.options import PreprocessConfig
from pipeline.preprocess.content import ContentReader
from pipeline.preprocess.encodings import BYTES_PER_PIXEL
from pipeline.preprocess.merge import check_dropped
from pipeline.preprocess.plan import OpenPlan, Plan, PlannedShard, open_plan
from pipeline.preprocess.records import ShardRecord, find_records, write_record
from pipeline.preprocess.shards import write_shard
from pipeline.preprocess.statistics import PixelSums
from pipeline.preprocess.workers import build_bar, count_images, run_in_workers


@dataclass(frozen=True, kw_only=True, slots=True)
class PackingTask:
    """One shard to pack, and where from and to."""

    source: Path
    out: Path
    shard: PlannedShard


def pack_missing(config: PreprocessConfig, plan: Plan, shards: Sequence[PlannedShard]) -> None:
    """Pack those of `shards` that are not done, in worker processes.

    Raises:
        InputError: too many pictures cannot be decoded, or the source was changed.
        RunError: a worker was killed.
    """
    records = find_records(config.out, shards)
    missing = [shard for shard in shards if shard not in records]
    num_done = sum(shard.last - shard.first for shard in records)
    total = sum(shard.last - shard.first for shard in shards)
    counts = ", ".join(f"{split.num_images:,} {name}" for name, split in plan.splits.items())
    say(
        config,
        f"preprocess: {counts} pictures in {len(plan.classes):,} classes ({plan.layout}) of {config.source}; "
        f"{f'part {config.part}: ' if config.part else ''}{len(missing)} of {len(shards)} shards to pack"
        f"{f', {len(records)} are done' if records else ''}",
    )
    dropped = [entry for record in records.values() for entry in record.dropped]
    check_dropped(dropped, plan.num_images, config.max_dropped)
    warn_of_space(config, total - num_done)
    bar = build_bar("preprocess", total=total, initial=num_done)
    tasks = [PackingTask(source=config.source, out=config.out, shard=shard) for shard in missing]
    with closing(run_in_workers(pack_shard, tasks, num_workers=config.workers, bar=bar)) as results:
        for record in results:
            dropped += record.dropped
            bar.set_postfix(dropped=len(dropped), refresh=False)
            check_dropped(dropped, plan.num_images, config.max_dropped)


def warn_of_space(config: PreprocessConfig, num_images: int) -> None:
    """Say beforehand that the disk is likely to be too small; what is packed until it is full would not be lost."""
    needed = num_images * config.pixels**2 * BYTES_PER_PIXEL[config.encoding]
    free = shutil.disk_usage(config.out).free
    if needed > free:
        print(
            f"preprocess: warning: {num_images:,} pictures need about {needed / 1e6:,.0f} MB, and {config.out} has "
            f"{free / 1e6:,.0f} MB free: make room, or choose another --encoding or --out",
            file=sys.stderr,
        )


def say(config: PreprocessConfig, sentence: str) -> None:
    """Tell people; on standard error where standard output is for a script."""
    print(sentence, file=sys.stderr if config.json else sys.stdout, flush=True)


@functools.cache
def open_source(out: Path, source: Path, *, check_stamps: bool = True) -> tuple[OpenPlan, ContentReader]:
    """What a worker needs for any shard, opened once; see `ContentReader`."""
    opened = open_plan(out)
    return opened, ContentReader(source, opened.plan.containers, check_stamps=check_stamps)


def pack_shard(task: PackingTask) -> ShardRecord:
    """Pack one shard and write down that it is done; runs in a worker."""
    opened, reader = open_source(task.out, task.source)
    plan, shard = opened.plan, task.shard
    sums = PixelSums.empty(plan.packing.pixels) if shard.split == "train" else None
    record = write_shard(
        task.out / shard.split,
        shard.name,
        shard.split,
        opened.read_rows(shard),
        reader,
        plan.recipe,
        sums=sums,
        count_image=count_images,
    )
    write_record(task.out, shard, record, sums)
    return record
