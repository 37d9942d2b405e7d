"""Whether shards and pictures can be read, and how quickly."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from pipeline.artifacts import REPAIR_ADVICE, SPLITS, ShardSet, ShardSplit, read_shard_set
from pipeline.errors import InputError, RunError, check
from pipeline.launch.doctor.finding import Finding, explain, ill, skipped, well
from pipeline.options import DoctorConfig
from pipeline.preprocess.sources import find_layout

MAX_SECONDS = 2.0
MAX_PIECES = 2000
"""About 80 MB of shards; 2 GB of archives, which the time mostly forbids."""
PIECE_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of a file that are read at once."""

    path: Path
    offset: int
    size: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Rate:
    """How quickly pieces were read, one after the other."""

    pieces_per_second: float
    bytes_per_second: float

    def describe(self) -> str:
        """Speed in words."""
        return f"{self.bytes_per_second / 1e6:,.0f} MB/s by one thread"


def look_at_data(config: DoctorConfig) -> Iterator[Finding]:
    """Prove `dataset.json`, every index and every size of --data, then read pictures as the loader does."""
    if config.data is None:
        yield skipped("shards", "name a shard set with --data")
        return
    try:
        shard_set = read_shard_set(config.data)
        if damaged := find_damaged(shard_set):
            yield ill("shards", f"{config.data}: {len(damaged)} missing or cut short: {damaged[0]} …", REPAIR_ADVICE)
            return
        splits = {split: shard_set.open_split(split) for split in SPLITS if split in shard_set.info.splits}
        counts = ", ".join(f"{split} {len(each):,}" for split, each in splits.items())
        yield well("shards", f"{config.data}: {counts} pictures, digest {shard_set.info.digest[:12]}")
        yield time_shards(splits["train"])
    except (InputError, RunError, OSError) as error:
        yield explain("shards", error, config.data)


def find_damaged(shard_set: ShardSet) -> list[Path]:
    """Shards that are missing or have another size than they were written with."""
    damaged = []
    for split, info in shard_set.info.splits.items():
        for shard in info.shards:
            path = shard_set.path / split / f"{shard.name}.tar"
            if not path.is_file() or path.stat().st_size != shard.size_bytes:
                damaged.append(path)
    return damaged


def time_shards(split: ShardSplit) -> Finding:
    """Read pictures at random places, one after the other, as a rank does in an epoch's order."""
    positions = np.random.default_rng().permutation(len(split))[:MAX_PIECES]
    pieces = [Piece(*split.find_bytes(int(position))) for position in positions]
    rate = time_reading(pieces, lambda number: split.read(int(positions[number])))
    seconds = len(split) / rate.pieces_per_second
    found = (
        f"{rate.pieces_per_second:,.0f} pictures/s, {rate.describe()}; an epoch of {len(split):,} in {seconds:,.0f} s"
    )
    return well("shard speed", found, images_per_second=rate.pieces_per_second, bytes_per_second=rate.bytes_per_second)


def look_at_source(config: DoctorConfig) -> Iterator[Finding]:
    """Tell what --source is, and read from the first files in it."""
    if config.source is None:
        yield skipped("source", "name pictures to preprocess with --source")
        return
    try:
        check(
            config.source.exists(), f"{config.source} does not exist: pass what holds the pictures, a folder or a tar"
        )
        layout = find_layout(config.source)
        pieces = list(islice(list_pieces(config.source), MAX_PIECES))
        check(pieces, f"{config.source} holds no files: pass what holds the pictures")
        rate = time_reading(pieces, lambda number: read_piece(pieces[number]))
    except (InputError, OSError) as error:
        yield explain("source", error, config.source)
        return
    yield well("source", f"{config.source}: {layout}, {rate.describe()}", bytes_per_second=rate.bytes_per_second)


def list_pieces(source: Path) -> Iterator[Piece]:
    """Files of a source from their beginnings on, in pieces."""
    files = (path for path in source.rglob("*") if path.is_file()) if source.is_dir() else [source]
    for path in files:
        size = path.stat().st_size
        for offset in range(0, size, PIECE_BYTES):
            yield Piece(path, offset, min(PIECE_BYTES, size - offset))


def read_piece(piece: Piece) -> None:
    """Read the bytes of a piece."""
    descriptor = os.open(piece.path, os.O_RDONLY)
    try:
        os.pread(descriptor, piece.size, piece.offset)
    finally:
        os.close(descriptor)


def time_reading(pieces: Sequence[Piece], read: Callable[[int], object]) -> Rate:
    """Read pieces in order for as long as the time allows, each after the page cache was asked to forget it.

    Args:
        pieces: at least one.
        read: reads a piece by its number; its time is what counts.
    """
    count, elapsed, end = 0, 0.0, time.perf_counter() + MAX_SECONDS
    while count < len(pieces) and (count == 0 or time.perf_counter() < end):
        forget(pieces[count])
        begin = time.perf_counter()
        read(count)
        elapsed += time.perf_counter() - begin
        count += 1
    num_bytes = sum(piece.size for piece in pieces[:count])
    return Rate(pieces_per_second=count / elapsed, bytes_per_second=num_bytes / elapsed)


def forget(piece: Piece) -> None:
    """Ask the page cache to forget a piece; it keeps pages that others use, and some file systems know no better."""
    descriptor = os.open(piece.path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, piece.offset, piece.size, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
