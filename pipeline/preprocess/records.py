"""What each finished shard leaves behind for the merge: its description, its odd pictures, its pixel sums."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pipeline.artifacts import WORK_FOLDER, ShardInfo, read_json, write_bytes, write_json
from pipeline.preprocess.ledger import LedgerEntry
from pipeline.preprocess.plan import PlannedShard
from pipeline.preprocess.statistics import PixelSums

SHARD_SUFFIXES = (".tar", ".npy", ".idx")


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardRecord:
    """A finished shard (None if no picture of it could be decoded) and its ledger entries."""

    shard: ShardInfo | None
    entries: tuple[LedgerEntry, ...]

    @property
    def dropped(self) -> tuple[LedgerEntry, ...]:
        """The pictures that could not be decoded."""
        return tuple(entry for entry in self.entries if entry.action == "dropped")


def write_record(out: Path, shard: PlannedShard, record: ShardRecord, sums: PixelSums | None) -> None:
    """Write down that a shard is done; comes after the shard itself, so that its presence says so."""
    if sums is not None:
        write_bytes(_sums_path(out, shard), sums.to_bytes())
    write_json(_record_path(out, shard), record)


def find_record(out: Path, shard: PlannedShard) -> ShardRecord | None:
    """The record of a shard, None where it is not done or its files are not there as they were left."""
    path = _record_path(out, shard)
    if not path.is_file():
        return None
    record = read_json(path, ShardRecord)
    if record.shard is None:
        return record
    tar, *indexes = (out / shard.split / f"{shard.name}{suffix}" for suffix in SHARD_SUFFIXES)
    whole = tar.is_file() and tar.stat().st_size == record.shard.size_bytes and all(map(Path.is_file, indexes))
    return record if whole else None


def read_sums(out: Path, shard: PlannedShard) -> PixelSums:
    """Pixel sums of a finished training shard."""
    return PixelSums.from_bytes(_sums_path(out, shard).read_bytes())


def find_records(out: Path, shards: Iterable[PlannedShard]) -> dict[PlannedShard, ShardRecord]:
    """The records of all shards that are done, in the order given."""
    found = ((shard, find_record(out, shard)) for shard in shards)
    return {shard: record for shard, record in found if record is not None}


def _record_path(out: Path, shard: PlannedShard) -> Path:
    return out / WORK_FOLDER / "done" / f"{shard.name}.json"


def _sums_path(out: Path, shard: PlannedShard) -> Path:
    return out / WORK_FOLDER / "done" / f"{shard.name}.npz"
