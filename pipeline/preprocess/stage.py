"""The preprocess stage: plan the shards once, pack those that are missing in parallel, merge when all are there."""

import functools
import json
import shutil
import sys
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import PIL

from pipeline.artifacts import LEDGER, WORK_FOLDER, ShardSetInfo, read_shard_set
from pipeline.errors import InputError, check
from pipeline.options import MergeConfig, PreprocessConfig
from pipeline.preprocess.claim import claim, claim_if_alone, find_holder, hold, plan_lock
from pipeline.preprocess.content import ContentReader
from pipeline.preprocess.encodings import BYTES_PER_PIXEL
from pipeline.preprocess.merge import check_dropped, merge_shards, remove_leftovers
from pipeline.preprocess.plan import (
    PLAN_FILE,
    PLAN_FOLDER,
    OpenPlan,
    Plan,
    PlannedShard,
    begin_plan,
    check_plan_fits,
    check_source_unchanged,
    check_tools_fit,
    find_plan,
    open_plan,
    read_plan,
)
from pipeline.preprocess.records import ShardRecord, find_records, write_record
from pipeline.preprocess.shards import write_shard
from pipeline.preprocess.statistics import PixelSums
from pipeline.preprocess.status import read_status, write_request
from pipeline.preprocess.workers import build_bar, count_images, run_in_workers
from pipeline.provenance import PILLOW_ADVICE, is_pillow_simd

NUM_COMPARED = 16
"""Pictures of a finished set that are looked up in the source that is named again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PackingTask:
    """One shard to pack, and where from and to."""

    source: Path
    out: Path
    shard: PlannedShard


def preprocess(config: PreprocessConfig) -> ShardSetInfo | None:
    """Pack the pictures of `config.source` into a shard set at `config.out`, going on where an earlier start ended.

    Returns:
        What the finished set holds; None while other parts of it are missing.

    Raises:
        InputError: the source does not fit or was changed, the output is another's, or too many pictures are
            undecodable.
        RunError: a worker was killed.
    """
    check_places(config)
    if not is_finished(config.out):
        warn_without_simd()
        existed = config.out.is_dir()
        try:
            pack_part(config)
        except InputError:
            remove_if_not_begun(config.out, existed=existed)
            raise
    if (config.out / WORK_FOLDER).is_dir():
        merge_if_last(config.out, max_dropped=config.max_dropped)
    if not is_finished(config.out):
        if config.json:
            print(json.dumps({"out": str(config.out), "finished": False}))
        done = f"part {config.part} is done, others are not" if config.part else "another process has taken over"
        say(config, f"preprocess: {done}: see `alexnet preprocess status {config.out}`")
        return None
    info = read_shard_set(config.out).info
    check_finished_fits(config)
    summarize(config.out, info, as_json=config.json)
    return info


def is_finished(out: Path) -> bool:
    """Whether a shard set is whole."""
    return (out / "dataset.json").is_file()


def check_places(config: PreprocessConfig) -> None:
    """Refuse to write into the source, into a file, or among files of something else.

    Raises:
        InputError: it would.
    """
    out, source = config.out, config.source
    check(source.exists(), f"--source {source} does not exist: pass the folder or the tar that holds the pictures")
    inside = out.resolve().is_relative_to(source.resolve())
    check(not inside, f"--out {out} lies inside --source {source}: choose a directory beside it")
    check(not out.exists() or out.is_dir(), f"--out {out} is a file: choose a directory that does not exist yet")
    ours = is_finished(out) or (out / WORK_FOLDER).is_dir() or (out / PLAN_FILE).is_file()
    check(
        ours or not out.is_dir() or not any(out.iterdir()),
        f"--out {out} already holds something that is no shard set: choose a directory that does not exist yet",
    )


def pack_part(config: PreprocessConfig) -> None:
    """Do this part, or all of it, unless another process is at it.

    Raises:
        InputError: one is, or see `preprocess`.
    """
    part, num_parts = config.parse_part()
    with claim(config.out, (part, num_parts)):
        if is_finished(config.out):  # another process may have ended its work meanwhile
            return
        plan = agree_on_plan(config)
        if num_parts == 1:
            remove_leftovers(config.out)
        write_request(config)
        pack_missing(config, plan, [shard for shard in plan.shards if shard.number % num_parts == part])


def remove_if_not_begun(out: Path, *, existed: bool) -> None:
    """Leave nothing behind where the source did not fit, so that no plan came of it; a folder that existed stays."""
    with claim_if_alone(out) as alone:
        if alone and not is_finished(out) and find_plan(out) is None:
            if not (out / PLAN_FILE).is_file():
                shutil.rmtree(out / PLAN_FOLDER, ignore_errors=True)
            shutil.rmtree(out / WORK_FOLDER, ignore_errors=True)
            if not existed:
                with suppress(OSError):  # another process writes there by now
                    out.rmdir()


def check_finished_fits(config: PreprocessConfig) -> None:
    """Refuse to call a set finished that was made with other flags or, as some pictures show, from another source.

    Raises:
        InputError: it was.
    """
    shard_set = read_shard_set(config.out)
    for split in shard_set.info.splits:
        shard_set.open_split(split)  # which says what is missing
    opened = open_plan(config.out)
    check_plan_fits(opened.plan, config.packing, config.out)
    with ContentReader(config.source, opened.plan.containers, check_stamps=False) as reader:
        for row in opened.read_rows(opened.plan.shards[0])[:NUM_COMPARED]:
            reader.read(row)


def warn_without_simd() -> None:
    """Say so when plain Pillow is active, which resizes several times slower."""
    if not is_pillow_simd():
        print(
            f"preprocess: warning: plain Pillow {PIL.__version__} is active, slower than Pillow-SIMD: {PILLOW_ADVICE}",
            file=sys.stderr,
        )


def agree_on_plan(config: PreprocessConfig) -> Plan:
    """The plan of this shard set; of several parts that start at once, one makes it and the others wait.

    Raises:
        InputError: the source does not fit, was changed, or was begun with other flags.
    """
    if holder := find_holder(plan_lock(config.out)):
        say(config, f"preprocess: waiting for {holder} to look through the source")
    with hold(plan_lock(config.out), wait=True):
        plan = find_plan(config.out)
        if plan is None:
            if (config.out / PLAN_FILE).is_file():  # of a set whose dataset.json was lost
                check_plan_fits(read_plan(config.out), config.packing, config.out)
            shutil.rmtree(config.out / PLAN_FOLDER, ignore_errors=True)  # of a start that did not come this far
            return begin_plan(config.source, config.packing, config.out)
    check_plan_fits(plan, config.packing, config.out)
    check_tools_fit(plan, config.out)
    check_source_unchanged(config.source, plan, config.out)
    return plan


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


def summarize(out: Path, info: ShardSetInfo, *, as_json: bool) -> None:
    """Say what came out, for people or as JSON."""
    size = sum(shard.size_bytes for split in info.splits.values() for shard in split.shards)
    kept = {split: found.num_images for split, found in info.splits.items()}
    if as_json:
        print(
            json.dumps(
                {"out": str(out), "finished": True, "images": kept, "bytes": size, "dropped": info.num_dropped}
                | {
                    "classes": len(info.classes),
                    "layout": info.layout,
                    "complete": info.complete,
                    "digest": info.digest,
                }
            )
        )
        return
    whole = "partial" if info.packing.allow_partial else "no official data set"
    whole = f"all of {info.layout}, proved by its counts" if info.complete else whole
    print(
        f"preprocess: {sum(kept.values()):,} pictures, {size / 1e6:,.1f} MB in {out} ({whole}), "
        f"{info.num_dropped} dropped{f' (see {out}/{LEDGER})' if info.num_dropped else ''}, "
        f"digest {info.digest[:12]}"
    )


def say(config: PreprocessConfig, sentence: str) -> None:
    """Tell people; on standard error where standard output is for a script."""
    print(sentence, file=sys.stderr if config.json else sys.stdout, flush=True)


@functools.cache
def open_source(out: Path, source: Path) -> tuple[OpenPlan, ContentReader]:
    """What a worker needs for any shard, opened once."""
    opened = open_plan(out)
    return opened, ContentReader(source, opened.plan.containers)


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


def merge_if_last(out: Path, *, max_dropped: float) -> None:
    """Merge if every shard is done and no other process is at work.

    Raises:
        InputError: too many pictures were dropped.
    """
    with claim_if_alone(out) as alone:
        if not alone:
            return
        if not is_finished(out):
            plan = read_plan(out)
            records = find_records(out, plan.shards)
            if len(records) < len(plan.shards):
                return
            merge_shards(out, plan, records, max_dropped=max_dropped)
        remove_leftovers(out)
        shutil.rmtree(out / WORK_FOLDER, ignore_errors=True)  # on NFS the lock, still open, leaves a file for a while


def merge(config: MergeConfig) -> ShardSetInfo:
    """Describe a shard set whose parts are all done, if the last one could not.

    Raises:
        InputError: some are not, or a process is still at work.
    """
    status = read_status(config.shards)
    if not status.finished:
        advice = f"see `alexnet preprocess status {config.shards}`"
        check(status.splits, f"{config.shards} has no plan yet, let alone shards: {advice}")
        check(
            not status.missing,
            f"{config.shards} lacks {len(status.missing)} shards, {', '.join(status.missing[:1])} first: {advice} for "
            "the command that packs them",
        )
        merge_if_last(config.shards, max_dropped=config.max_dropped)
        check(is_finished(config.shards), f"{config.shards} is being written by another process: wait for it")
    info = read_shard_set(config.shards).info
    summarize(config.shards, info, as_json=False)
    return info
