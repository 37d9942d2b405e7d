"""A shard set: `dataset.json`, tar shards with their indexes, statistics."""

import hashlib
import io
import json
import math
import os
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.artifacts.files import read_json, to_json
from pipeline.errors import InputError, RunError, check
from pipeline.options import Layout, PackingConfig, Split

SPLITS: tuple[Split, ...] = ("train", "val", "test")
FORMAT_VERSION = 2
MAX_OPEN_SHARDS = 200
"""Of a split: a process opens two, and may open 1,024 files by default; more shards are closed and opened again."""
WORK_FOLDER = ".work"
"""Where an unfinished shard set keeps its state; gone from a finished one."""
MEAN_IMAGE = "statistics/mean_image.npy"
STATISTICS_PICTURE = "statistics/statistics.svg"
LEDGER = "ledger.jsonl"
REPAIR_ADVICE = "restore it, or run `alexnet preprocess repair` with the pictures that the set was made from"


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassInfo:
    """One class; its label is its position in `ShardSetInfo.classes`."""

    id: str
    name: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardInfo:
    """One tar file, with `NAME.npy` (our index: offset, size, label, key) and `NAME.idx` (DALI's) beside it."""

    name: str
    num_images: int
    size_bytes: int
    sha256: str
    index_sha256: str
    dali_index_sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitInfo:
    """Pictures of one split, in the order in which the shards hold them."""

    num_images: int
    shards: tuple[ShardInfo, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ColorComponents:
    """Statistics of the training set's RGB values, on the 0-255 scale.

    Eigenvectors (3, 3) are those of the covariance, by column; eigenvalues (3,) fall; their roots are the standard
    deviations (3,) along the eigenvectors.
    """

    mean: tuple[float, ...]
    covariance: tuple[tuple[float, ...], ...]
    eigenvalues: tuple[float, ...]
    eigenvectors: tuple[tuple[float, ...], ...]
    standard_deviations: tuple[float, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardSetInfo:
    """`dataset.json`: written last, so that its presence says the set is whole; `digest` covers all the rest.

    `complete` says that the source was proved to be the whole of an official data set; `files` holds the SHA-256 of
    every file that is not a shard.
    """

    format_version: int
    layout: Layout
    complete: bool
    classes: tuple[ClassInfo, ...]
    splits: dict[Split, SplitInfo]
    num_dropped: int
    packing: PackingConfig
    color: ColorComponents
    files: dict[str, str]
    tools: dict[str, str]
    digest: str = ""

    def compute_digest(self) -> str:
        """SHA-256 of everything but the digest itself."""
        return hashlib.sha256(to_json(replace(self, digest=""))).hexdigest()


@dataclass(frozen=True, slots=True)
class ShardSet:
    """A shard set on disk whose `dataset.json` was read and proved."""

    path: Path
    info: ShardSetInfo

    def check_classes(self, num_outputs: int) -> None:
        """Refuse a network with another number of outputs than this set has classes.

        Raises:
            InputError: they differ.
        """
        found = len(self.info.classes)
        check(
            found == num_outputs,
            f"{self.path} has {found} classes and the network {num_outputs} outputs: "
            f"pass --model.num-classes {found} or another --data",
        )

    def read_mean_image(self) -> npt.NDArray[np.float32]:
        """Mean of the training pictures: (side, side, 3) float32, 0-255.

        Raises:
            InputError: the file is missing or not the one that belongs to this set.
        """
        content = read_proved(self.path / MEAN_IMAGE, self.info.files[MEAN_IMAGE])
        mean: npt.NDArray[np.float32] = np.load(io.BytesIO(content))
        return mean

    def open_split(self, split: Split) -> "ShardSplit":
        """Open a split for reading.

        Raises:
            InputError: the set has no such split, or a file of it is missing, cut short, or of another set.
        """
        check(
            split in self.info.splits,
            f"{self.path} has no split {split!r}, only {', '.join(self.info.splits)}",
        )
        return ShardSplit(self.path, split, self.info)


def compare_file(path: Path, sha256: str) -> str | None:
    """What is wrong with a file, None if nothing is."""
    if not path.is_file():
        return "is missing"
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    return None if found == sha256 else f"has SHA-256 {found[:12]}…, expected {sha256[:12]}…"


def read_proved(path: Path, sha256: str) -> bytes:
    """Read a file of a shard set.

    Raises:
        InputError: the file is missing or not the one that `dataset.json` describes.
    """
    check(path.is_file(), f"{path} does not exist: {REPAIR_ADVICE}")
    content = path.read_bytes()
    check(
        hashlib.sha256(content).hexdigest() == sha256,
        f"{path} is not the file that dataset.json describes: {REPAIR_ADVICE}",
    )
    return content


def read_shard_set(path: Path) -> ShardSet:
    """Read and prove `dataset.json`.

    Raises:
        InputError: the directory or the file is missing, or the digest does not match.
    """
    check(path.is_dir(), f"{path} is not a directory: pass the directory that `alexnet preprocess` wrote")
    file = path / "dataset.json"
    if not file.is_file():
        advice = "run `alexnet preprocess` first"
        if (path / WORK_FOLDER).is_dir():
            advice = f"see `alexnet preprocess status {path}`"
        elif (path / "plan").is_dir():
            advice = "restore it, or give the command that made the set again, which packs it anew"
        raise InputError(f"{path} has no dataset.json, so it is no finished shard set: {advice}")
    found = read_format_version(file)
    check(
        found == FORMAT_VERSION,
        f"{file} has format {found}, expected {FORMAT_VERSION}: run `alexnet preprocess` into a new directory",
    )
    info = read_json(file, ShardSetInfo)
    check(
        info.digest == info.compute_digest(),
        f"{path}/dataset.json does not match its own digest, so it was changed after it was written: restore it",
    )
    return ShardSet(path, info)


def read_format_version(file: Path) -> object:
    """Format version in a JSON file, None where it has none; read first, for the rest may differ with it."""
    try:
        plain = json.loads(file.read_bytes())
    except ValueError as error:
        raise InputError(f"{file} is not valid JSON ({error}): restore it") from error
    return plain.get("format_version") if isinstance(plain, dict) else None


class OpenFile:
    """A file that is open for reading at any place, until nobody needs it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __del__(self) -> None:
        os.close(self._descriptor)

    def read(self, size: int, offset: int) -> bytes:
        """Read `size` bytes from `offset` on, fewer where the file ends."""
        return os.pread(self._descriptor, size, offset)


class ShardSplit:
    """Random access to the pictures of one split, by their position in it.

    Shards are read, not mapped: a file cut short while in use is then an error and not the end of the process, and
    what was read does not count as this process's memory.
    """

    def __init__(self, path: Path, name: Split, shard_set: ShardSetInfo) -> None:
        self.path, self.name = path / name, name
        self.info, packing = shard_set.splits[name], shard_set.packing
        info = self.info
        self._raw_shape = (packing.pixels, packing.pixels, 3) if packing.encoding == "raw" else None
        indexes = [self._read_index(shard) for shard in info.shards]
        self._firsts = np.cumsum([0] + [len(index) for index in indexes])
        self._indexes = indexes
        for shard in info.shards:
            self._check_size(shard)
        paths = self._paths = [self.path / f"{shard.name}.tar" for shard in info.shards]
        # Without `self` in it, so that the files are closed with the last reference to the split.
        self._open_shard = lru_cache(MAX_OPEN_SHARDS)(lambda shard: OpenFile(os.open(paths[shard], os.O_RDONLY)))
        self.labels: npt.NDArray[np.int64] = np.concatenate([index["label"] for index in indexes]).astype(np.int64)
        """(N,) int64 label of each picture."""

    def _read_index(self, shard: ShardInfo) -> npt.NDArray[Any]:
        content = read_proved(self.path / f"{shard.name}.npy", shard.index_sha256)
        index: npt.NDArray[Any] = np.load(io.BytesIO(content))
        return index

    def _check_size(self, shard: ShardInfo) -> None:
        path = self.path / f"{shard.name}.tar"
        found = path.stat().st_size if path.is_file() else None
        check(
            found == shard.size_bytes,
            f"{path} has {found if found is not None else 'no'} bytes, expected {shard.size_bytes}: {REPAIR_ADVICE}",
        )

    def __len__(self) -> int:
        return self.info.num_images

    def _find(self, position: int) -> tuple[int, Any]:
        shard = int(np.searchsorted(self._firsts, position, side="right")) - 1
        return shard, self._indexes[shard][position - self._firsts[shard]]

    @property
    def is_raw(self) -> bool:
        """Whether pictures are stored as pixels, not encoded."""
        return self._raw_shape is not None

    def read(self, position: int) -> npt.NDArray[np.uint8]:
        """Encoded bytes of a picture, (num_bytes,) uint8; of a raw set its pixels, (side, side, 3) uint8. Read-only.

        Raises:
            RunError: the shard has gone or become shorter since the split was opened.
            OSError: its disk fails, or too many files are open.
        """
        shard, entry = self._find(position)
        size = math.prod(self._raw_shape) if self._raw_shape else int(entry["size"])
        try:
            content = self._open_shard(shard).read(size, int(entry["offset"]) + int(entry["size"]) - size)
        except FileNotFoundError as error:
            raise RunError(f"{self._paths[shard]} is gone, so the set changed while in use: {REPAIR_ADVICE}") from error
        except OSError as error:
            error.filename = str(self._paths[shard])
            raise
        if len(content) != size:
            raise RunError(f"{self.locate(position)} is cut short, so the shard changed while in use: {REPAIR_ADVICE}")
        return np.frombuffer(content, np.uint8).reshape(self._raw_shape or (size,))

    def key(self, position: int) -> str:
        """Key of a picture: class folder and name of its source file."""
        return str(self._find(position)[1]["key"].decode())

    def find_bytes(self, position: int) -> tuple[Path, int, int]:
        """Where the file of a picture lies: shard, offset and size in bytes."""
        shard, entry = self._find(position)
        return self._paths[shard], int(entry["offset"]), int(entry["size"])

    def locate(self, position: int) -> str:
        """Where a picture lies, for messages: `shard.tar:offset:key`."""
        path, offset, _ = self.find_bytes(position)
        return f"{path}:{offset}:{self.key(position)}"
