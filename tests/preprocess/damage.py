"""Ways in which a shard set suffers, each with the files that it harms."""

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path

from pipeline.artifacts import ShardSetInfo, read_json, write_json

FILES = (
    "train/train-000001.tar",
    "train/train-000001.npy",
    "train/train-000001.idx",
    "val/val-000000.tar",
    "statistics/mean_image.npy",
    "statistics/statistics.svg",
    "ledger.jsonl",
    "plan/plan.json",
    "plan/train.npy",
)
"""One of each kind that `verify` proves; `dataset.json`, which proves them, proves itself."""


def flip_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def swap(one: Path, other: Path) -> None:
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "a flipped bit": flip_bit,
    "the last byte": cut_short,
    "a byte too many": lengthen,
    "gone": Path.unlink,
}


def describe_anew(out: Path, **changes: object) -> None:
    """Make `dataset.json` describe the files as they are, as if they had been written so."""
    info = read_json(out / "dataset.json", ShardSetInfo)
    splits = {
        split: dataclasses.replace(
            found,
            shards=tuple(
                dataclasses.replace(
                    shard,
                    size_bytes=(out / split / f"{shard.name}.tar").stat().st_size,
                    sha256=hash_file(out / split / f"{shard.name}.tar"),
                    index_sha256=hash_file(out / split / f"{shard.name}.npy"),
                    dali_index_sha256=hash_file(out / split / f"{shard.name}.idx"),
                )
                for shard in found.shards
            ),
        )
        for split, found in info.splits.items()
    }
    files = {name: hash_file(out / name) for name in info.files}
    info = dataclasses.replace(info, splits=splits, files=files, **changes)
    write_json(out / "dataset.json", dataclasses.replace(info, digest=info.compute_digest()))


def hash_file(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
