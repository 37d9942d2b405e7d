"""The preprocess stage: plan the shards once, pack those that are missing in parallel, merge when all are there."""

import json
import shutil
import sys
from contextlib import suppress
from pathlib import Path

import PIL

from pipeline.artifacts import LEDGER, WORK_FOLDER, ShardSetInfo, find_holder, hold, read_shard_set
from pipeline.errors import InputError, check
from pipeline.options import MergeConfig, PreprocessConfig
from pipeline.preprocess.claim import claim, claim_if_alone, plan_lock
from pipeline.preprocess.content import ContentReader
from pipeline.preprocess.merge import merge_shards, remove_leftovers
from pipeline.preprocess.packing import pack_missing, say
from pipeline.preprocess.plan import (
    PLAN_FILE,
    PLAN_FOLDER,
    Plan,
    begin_plan,
    check_plan_fits,
    check_source_unchanged,
    check_tools_fit,
    find_plan,
    open_plan,
    read_plan,
)
from pipeline.preprocess.records import find_records
from pipeline.preprocess.status import read_status, write_request
from pipeline.provenance import PILLOW_ADVICE, is_pillow_simd

NUM_COMPARED = 16
"""Pictures of a finished set that are looked up in the source that is named again."""


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
