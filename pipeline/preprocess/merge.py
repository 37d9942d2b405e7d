"""The merge: when every shard is done, statistics, ledger and, last of all, `dataset.json`."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.artifacts import (
    FORMAT_VERSION,
    LEDGER,
    MEAN_IMAGE,
    SPLITS,
    STATISTICS_PICTURE,
    ShardSetInfo,
    Split,
    SplitInfo,
    to_npy,
    write_bytes,
    write_json,
)
from pipeline.errors import check
from pipeline.preprocess.ledger import LedgerEntry, format_ledger
from pipeline.preprocess.pictures import draw_statistics
from pipeline.preprocess.plan import PLAN_FILE, PLAN_FOLDER, Plan, PlannedShard
from pipeline.preprocess.records import ShardRecord, read_sums
from pipeline.preprocess.statistics import PixelSums


def merge_shards(
    out: Path, plan: Plan, records: Mapping[PlannedShard, ShardRecord], *, max_dropped: float
) -> ShardSetInfo:
    """Describe the shard set whose shards are all done; the same bytes whoever merges, and however often.

    Raises:
        InputError: too many pictures were dropped, or all of a split.
    """
    dropped = [entry for record in records.values() for entry in record.dropped]
    check_dropped(dropped, plan.num_images, max_dropped)
    splits = {split: describe_split(split, records) for split in SPLITS if split in plan.splits}
    sums = PixelSums.empty(plan.packing.pixels)
    for shard in plan.shards:
        if shard.split == "train":
            sums.merge(read_sums(out, shard))
    mean_image, color = sums.compute_mean_image(), sums.compute_color_components()
    entries = (*plan.ignored, *(entry for record in records.values() for entry in record.entries))
    files = {
        LEDGER: format_ledger(entries),
        MEAN_IMAGE: to_npy(mean_image),
        STATISTICS_PICTURE: draw_statistics(mean_image, color),
    }
    for name, content in files.items():
        write_bytes(out / name, content)
    planned = {f"{PLAN_FOLDER}/{split}.npy": planned.index_sha256 for split, planned in plan.splits.items()}
    info = ShardSetInfo(
        format_version=FORMAT_VERSION,
        layout=plan.layout,
        complete=plan.complete,
        classes=plan.classes,
        splits=splits,
        num_dropped=len(dropped),
        packing=plan.packing,
        color=color,
        files={name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        | {PLAN_FILE: hashlib.sha256((out / PLAN_FILE).read_bytes()).hexdigest()}
        | planned,
        tools=plan.tools,
    )
    info = replace(info, digest=info.compute_digest())
    write_json(out / "dataset.json", info)
    return info


def check_dropped(dropped: Sequence[LedgerEntry], num_images: int, max_dropped: float) -> None:
    """Refuse to lose more pictures than allowed.

    Args:
        dropped: those that could not be decoded.
        num_images: all of the source.
        max_dropped: largest share.

    Raises:
        InputError: there are more.
    """
    check(
        len(dropped) <= max_dropped * num_images,
        f"{len(dropped)} of {num_images:,} pictures cannot be decoded, {dropped[0].file if dropped else ''} first "
        f"({dropped[0].detail if dropped else ''}): allow a larger share than {max_dropped:g} with "
        "--max-dropped, which goes on from here, or replace them and begin anew",
    )


def describe_split(split: Split, records: Mapping[PlannedShard, ShardRecord]) -> SplitInfo:
    """The shards of a split that hold pictures.

    Raises:
        InputError: none does.
    """
    found = (record.shard for shard, record in records.items() if shard.split == split)
    shards = tuple(shard for shard in found if shard is not None)
    check(len(shards) > 0, f"not one {split} picture of the source could be decoded: look at the source")
    return SplitInfo(num_images=sum(shard.num_images for shard in shards), shards=shards)


def remove_leftovers(out: Path) -> None:
    """Remove the half-written files of processes that were killed; only for who holds the whole shard set."""
    for leftover in out.rglob(".*.tmp"):
        leftover.unlink(missing_ok=True)
