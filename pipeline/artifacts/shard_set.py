"""A shard set: `dataset.json`, tar shards with their indexes, statistics."""

import hashlib
import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from pipeline.artifacts.files import read_json, to_json
from pipeline.errors import check

Split = Literal["train", "val", "test"]
FORMAT_VERSION = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassInfo:
    """One class; its label is its position in `ShardSetInfo.classes`."""

    id: str
    name: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardInfo:
    """One tar file, with `NAME.idx` (DALI's text index) and `NAME.npy` (ours: offset, size, label, key) beside it."""

    name: str
    num_images: int
    size_bytes: int
    sha256: str
    index_sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitInfo:
    """Pictures of one split, in the order in which the shards hold them."""

    num_images: int
    shards: tuple[ShardInfo, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ColorComponents:
    """Statistics of the training set's RGB values, on the 0-255 scale.

    Eigenvectors (3, 3) are those of the covariance, by column; eigenvalues (3,) fall.
    """

    mean: tuple[float, ...]
    covariance: tuple[tuple[float, ...], ...]
    eigenvalues: tuple[float, ...]
    eigenvectors: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardSetInfo:
    """`dataset.json`: written last, so that its presence says the set is whole; `digest` covers all the rest."""

    format_version: int
    layout: str
    classes: tuple[ClassInfo, ...]
    splits: dict[Split, SplitInfo]
    num_dropped: int
    image_pixels: int
    encoding: str
    resize: str
    shuffle_seed: int
    color: ColorComponents
    mean_image_sha256: str
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

    def read_mean_image(self) -> npt.NDArray[np.float32]:
        """Mean of the training pictures: (256, 256, 3) float32, 0-255.

        Raises:
            InputError: the file is missing or not the one that belongs to this set.
        """
        path = mean_image_path(self.path)
        check(path.is_file(), f"{path} does not exist: restore it or run `alexnet preprocess` again")
        content = path.read_bytes()
        check(
            hashlib.sha256(content).hexdigest() == self.info.mean_image_sha256,
            f"{path} is not the mean image that dataset.json describes: restore it or run `alexnet preprocess` again",
        )
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
        return ShardSplit(self.path / split, self.info.splits[split])


def mean_image_path(shard_set: Path) -> Path:
    """Where a shard set keeps its mean image."""
    return shard_set / "statistics" / "mean_image.npy"


def read_shard_set(path: Path) -> ShardSet:
    """Read and prove `dataset.json`.

    Raises:
        InputError: the directory or the file is missing, or the digest does not match.
    """
    check(path.is_dir(), f"{path} is not a directory: pass the directory that `alexnet preprocess` wrote")
    check(
        (path / "dataset.json").is_file(),
        f"{path} has no dataset.json, so it is no finished shard set: run `alexnet preprocess` first",
    )
    info = read_json(path / "dataset.json", ShardSetInfo)
    check(
        info.format_version == FORMAT_VERSION,
        f"{path}/dataset.json has format {info.format_version}, expected {FORMAT_VERSION}: "
        "run `alexnet preprocess` again",
    )
    check(
        info.digest == info.compute_digest(),
        f"{path}/dataset.json does not match its own digest, so it was changed after it was written: restore it",
    )
    return ShardSet(path, info)


class ShardSplit:
    """Random access to the pictures of one split, by their position in it. Shards are mapped, not read."""

    def __init__(self, path: Path, info: SplitInfo) -> None:
        self.path = path
        self.info = info
        indexes = [self._read_index(shard) for shard in info.shards]
        self._firsts = np.cumsum([0] + [len(index) for index in indexes])
        self._indexes = indexes
        self._maps = [self._map_shard(shard) for shard in info.shards]
        self.labels: npt.NDArray[np.int64] = np.concatenate([index["label"] for index in indexes]).astype(np.int64)
        """(N,) int64 label of each picture."""

    def _read_index(self, shard: ShardInfo) -> npt.NDArray[Any]:
        path = self.path / f"{shard.name}.npy"
        check(path.is_file(), f"{path} does not exist: restore it or run `alexnet preprocess` again")
        content = path.read_bytes()
        check(
            hashlib.sha256(content).hexdigest() == shard.index_sha256,
            f"{path} is not the index that dataset.json describes: restore it or run `alexnet preprocess` again",
        )
        index: npt.NDArray[Any] = np.load(io.BytesIO(content))
        return index

    def _map_shard(self, shard: ShardInfo) -> npt.NDArray[np.uint8]:
        path = self.path / f"{shard.name}.tar"
        found = path.stat().st_size if path.is_file() else None
        check(
            found == shard.size_bytes,
            f"{path} has {found if found is not None else 'no'} bytes, expected {shard.size_bytes}: "
            "restore it or run `alexnet preprocess` again",
        )
        return np.memmap(path, dtype=np.uint8, mode="r")

    def __len__(self) -> int:
        return self.info.num_images

    def _find(self, position: int) -> tuple[int, Any]:
        shard = int(np.searchsorted(self._firsts, position, side="right")) - 1
        return shard, self._indexes[shard][position - self._firsts[shard]]

    def read(self, position: int) -> npt.NDArray[np.uint8]:
        """Encoded bytes of a picture, (num_bytes,) uint8."""
        shard, entry = self._find(position)
        start = int(entry["offset"])
        return self._maps[shard][start : start + int(entry["size"])]

    def key(self, position: int) -> str:
        """Key of a picture: class folder and name of its source file."""
        return str(self._find(position)[1]["key"].decode())

    def locate(self, position: int) -> str:
        """Where a picture lies, for messages: `shard.tar:offset:key`."""
        shard, entry = self._find(position)
        return f"{self.path / self.info.shards[shard].name}.tar:{int(entry['offset'])}:{entry['key'].decode()}"
