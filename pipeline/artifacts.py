"""What lies on disk between the stages: shard sets and run directories, and how they are read and written."""

import hashlib
import io
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter, ValidationError

from pipeline.config import ExperimentConfig, InputError, check

T = TypeVar("T")
Split = Literal["train", "val", "test"]
FORMAT_VERSION = 1


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file that appears whole or not at all, even after a power cut; parents are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make renames within a directory durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Any) -> None:
    """Write a dataclass (or plain value) as indented JSON, whole or not at all."""
    write_bytes(path, to_json(value))


def to_json(value: Any) -> bytes:
    """Indented JSON of a dataclass or plain value."""
    plain = TypeAdapter(type(value)).dump_python(value, mode="json")
    return (json.dumps(plain, indent=1, ensure_ascii=False) + "\n").encode()


def read_json(path: Path, kind: type[T]) -> T:
    """Read a dataclass that `write_json` wrote.

    Raises:
        InputError: the file is missing, is no JSON, or its fields are not exactly those of `kind`.
    """
    check(path.is_file(), f"{path} does not exist")
    return from_json(path.read_bytes(), kind, path)


def from_json(text: bytes | str, kind: type[T], origin: Path) -> T:
    """Parse a dataclass that `to_json` wrote; `origin` is named when it does not fit.

    Raises:
        InputError: no JSON, or the fields are not exactly those of `kind`.
    """
    adapter = TypeAdapter(kind)
    try:
        plain = json.loads(text)
        value = adapter.validate_python(plain)
    except json.JSONDecodeError as error:
        raise InputError(f"{origin} is not valid JSON ({error}): restore it or write it anew") from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise InputError(
            f"{origin}: field {field or 'at the top'}: {first['msg']}, found {first['input']!r}"
        ) from error
    check(
        adapter.dump_python(value, mode="json") == plain,
        f"{origin} has fields that this version does not know or lacks some that it needs: write it anew",
    )
    return value


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


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRecord:
    """`config.json` of a run: what was asked for, on which data, from which code, where."""

    experiment: str
    status: str
    config: ExperimentConfig
    data: str
    data_digest: str
    data_layout: str
    num_train_images: int
    num_val_images: int
    commit: str
    dirty: bool
    machine: str
    world_size: int
    tools: dict[str, str]


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """Paths within the directory of one run."""

    path: Path

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.json"

    @property
    def journal(self) -> Path:
        """Every metric, append-only."""
        return self.path / "journal.jsonl"

    @property
    def checkpoints(self) -> Path:
        """Directory of `step-N.pt`."""
        return self.path / "checkpoints"

    @property
    def predictions(self) -> Path:
        """Directory of saved probabilities and counts."""
        return self.path / "predictions"

    @property
    def figures(self) -> Path:
        """Directory of pictures."""
        return self.path / "figures"

    def read_record(self) -> RunRecord:
        """Read `config.json`.

        Raises:
            InputError: this is no run directory, or the file does not fit.
        """
        check(self.config.is_file(), f"{self.path} has no config.json: pass a directory that `alexnet train` wrote")
        return read_json(self.config, RunRecord)


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationRecord:
    """`predictions/SPLIT-VIEWS-step-N.json`: exact counts; the probabilities lie beside it as `.npz`."""

    split: Split
    views: Literal["center", "ten"]
    step: int
    epoch: int
    num_images: int
    num_top1_errors: int
    num_top5_errors: int
    log_loss: float
    data_digest: str

    @property
    def top1_error(self) -> float:
        """Share of pictures whose likeliest label is wrong."""
        return self.num_top1_errors / self.num_images

    @property
    def top5_error(self) -> float:
        """Share of pictures whose label is not among the five likeliest."""
        return self.num_top5_errors / self.num_images
