"""CIFAR-10 and FashionMNIST in the files that torchvision downloads, each one large array."""

import gzip
import io
import math
import pickle
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from pipeline.errors import InputError, check
from pipeline.options import Layout, Split
from pipeline.preprocess.labels import Found, check_whole
from pipeline.preprocess.listing import Container, IgnoredFiles, RowCollector, explain_os_errors, get_base, quote_error
from pipeline.preprocess.tars import read_small_tar

Pixels = npt.NDArray[np.uint8]
"""Pictures, (N, height, width, channels) uint8 with three channels, or one for grey."""

ArrayKind = Literal["cifar10", "idx"]
Part = tuple[str, Pixels, npt.NDArray[np.int64]]
"""A batch: its name, pictures, and labels (N,) int64."""

CIFAR10_FOLDER, CIFAR10_ARCHIVE = "cifar-10-batches-py", "cifar-10-python.tar.gz"
FASHION_FOLDER = "FashionMNIST/raw"
CIFAR10_SHAPE, RGB = (3, 32, 32), 3
IDX_IMAGES, IDX_LABELS = 0x803, 0x801  # unsigned bytes in three dimensions, or in one


@dataclass(frozen=True, kw_only=True, slots=True)
class ArrayDataset:
    """What a data set consists of: the split of each batch, words by class id in order of label, pictures by split."""

    layout: Layout
    kind: ArrayKind
    batches: dict[str, Split]
    classes: dict[str, str]
    counts: dict[str, int]


CIFAR10 = ArrayDataset(
    layout="cifar10",
    kind="cifar10",
    batches={
        "data_batch_1": "train",
        "data_batch_2": "train",
        "data_batch_3": "train",
        "data_batch_4": "train",
        "data_batch_5": "train",
        "test_batch": "test",
    },
    classes={
        name: name
        for name in ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    },
    counts={"train": 50_000, "test": 10_000},
)
FASHION_MNIST = ArrayDataset(
    layout="fashion-mnist",
    kind="idx",
    batches={"train": "train", "t10k": "test"},
    classes={  # numbers as ids, for classes are stored in order of id, and the labels count in this one
        "0": "T-shirt/top",
        "1": "Trouser",
        "2": "Pullover",
        "3": "Dress",
        "4": "Coat",
        "5": "Sandal",
        "6": "Shirt",
        "7": "Sneaker",
        "8": "Bag",
        "9": "Ankle boot",
    },
    counts={"train": 60_000, "test": 10_000},
)


def read_cifar10(root: Path, *, allow_partial: bool) -> Found:
    """Find CIFAR-10's pictures in `cifar-10-batches-py/` or, without unpacking it, in `cifar-10-python.tar.gz`.

    Args:
        root: the folder that holds either, or the archive itself.
        allow_partial: accept missing batches.

    Raises:
        InputError: a batch is missing, damaged, or holds what could run code.
    """
    folder = root / CIFAR10_FOLDER
    paths = [folder / name for name in CIFAR10.batches] if folder.is_dir() else [root / CIFAR10_ARCHIVE]
    return _list_arrays(CIFAR10, root, [root] if root.is_file() else paths, allow_partial=allow_partial)


def read_fashion_mnist(root: Path, *, allow_partial: bool) -> Found:
    """Find FashionMNIST's pictures in `FashionMNIST/raw/`, packed by gzip or not.

    Args:
        root: the folder that holds `FashionMNIST/`.
        allow_partial: accept that the test pictures are missing.

    Raises:
        InputError: a file is missing or damaged.
    """
    plain = [root / FASHION_FOLDER / f"{name}-images-idx3-ubyte" for name in FASHION_MNIST.batches]
    paths = [path if path.is_file() else path.with_name(f"{path.name}.gz") for path in plain]
    return _list_arrays(FASHION_MNIST, root, paths, allow_partial=allow_partial)


def _list_arrays(dataset: ArrayDataset, root: Path, paths: Sequence[Path], *, allow_partial: bool) -> Found:
    """List the pictures of those files that are there."""
    containers: list[Container] = []
    collectors: dict[Split, RowCollector] = {}
    missing = set(dataset.batches)
    for path in paths:
        if path.is_file():
            missing -= _list_file(path, dataset, len(containers), collectors)
            containers.append(Container(path=path.relative_to(root).as_posix(), kind=dataset.kind))
    expected = ", ".join(path.name for path in paths)
    check("train" in collectors, f"{root} has no training pictures of {dataset.layout}: expected {expected}")
    check_whole(
        not missing, f"{root} lacks {', '.join(sorted(missing))}: download it again", allow_partial=allow_partial
    )
    return Found(
        layout=dataset.layout,
        containers=tuple(containers),
        splits={split: collector.build() for split, collector in collectors.items()},
        names=dataset.classes,
        official=(dataset.counts,),
        ignored=IgnoredFiles(),
    )


def _list_file(path: Path, dataset: ArrayDataset, container: int, collectors: dict[Split, RowCollector]) -> set[str]:
    """List the pictures of a file, named by batch and number in it; returns the batches that it has."""
    class_ids = list(dataset.classes)
    seen, row = set(), 0
    stamp = path.stat().st_mtime_ns
    for batch, pixels, labels in _PART_READERS[dataset.kind](path):
        seen.add(batch)
        collector = collectors.setdefault(dataset.batches[batch], RowCollector())
        suffix, size = "ppm" if pixels.shape[-1] == RGB else "pgm", math.prod(pixels.shape[1:])
        for number, label in enumerate(labels.tolist()):
            if not 0 <= label < len(class_ids):
                raise InputError(f"{path}: {batch} has the label {label}, expected 0 to {len(class_ids) - 1}")
            name = f"{batch}_{number:05d}.{suffix}"
            collector.add(class_ids[label], name, container=container, offset=row, size=size, stamp=stamp)
            row += 1
    return seen


def load_pixels(path: Path, kind: ArrayKind) -> Pixels:
    """All pictures of a file, in the order of its rows.

    Raises:
        InputError: it is damaged.
    """
    return np.concatenate([pixels for _, pixels, _ in _PART_READERS[kind](path)])


def encode_pnm(pixels: npt.NDArray[np.uint8]) -> bytes:
    """A picture (height, width, 3 or 1) as an uncompressed PPM or PGM file, which every decoder reads."""
    height, width, channels = pixels.shape
    return b"P%d\n%d %d\n255\n" % (6 if channels == RGB else 5, width, height) + pixels.tobytes()


def _read_cifar10(path: Path) -> Iterator[Part]:
    """Yield the batches of the archive in their order, or the one that a file is."""
    if path.name in CIFAR10.batches:
        with explain_os_errors(path):
            yield path.name, *_read_batch(path.read_bytes(), str(path))
        return
    batches: dict[str, Part] = {}
    for member, content in read_small_tar(path, lambda member: get_base(member) in CIFAR10.batches):
        name = get_base(member)
        batches[name] = name, *_read_batch(content, f"{path}/{member}")
    yield from (batches[name] for name in CIFAR10.batches if name in batches)


def _read_batch(content: bytes, origin: str) -> tuple[Pixels, npt.NDArray[np.int64]]:
    try:
        batch = _ArrayUnpickler(io.BytesIO(content), encoding="latin1").load()
        plain = {key.decode() if isinstance(key, bytes) else key: value for key, value in batch.items()}
        labels = np.array(plain["labels"], dtype=np.int64)
        pixels = plain["data"].reshape(len(labels), *CIFAR10_SHAPE).transpose(0, 2, 3, 1)
        assert pixels.dtype == np.uint8
    except Exception as error:  # a damaged pickle can raise anything, says the library's manual
        raise InputError(f"{origin} is no batch of CIFAR-10 ({quote_error(error)}): download it again") from error
    return pixels, labels


class _ArrayUnpickler(pickle.Unpickler):
    """Admits arrays, numbers, text and plain containers: a pickle that asks for anything else could run any code."""

    def find_class(self, module: str, name: str) -> Any:
        found = _ADMITTED.get((module.replace("numpy.core", "numpy._core"), name))
        if found is None:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no batch needs and which could run code")
        return found


_ADMITTED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy._core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    ("numpy._core.multiarray", "scalar"): np.int64(0).__reduce__()[0],
    ("numpy._core.numeric", "_frombuffer"): np.empty(1).__reduce_ex__(5)[0],
    ("_codecs", "encode"): lambda text, _encoding: text.encode("latin1"),  # how bytes look in protocol 2
}


def _read_idx(path: Path) -> Iterator[Part]:
    """Yield the one batch of an image file and the label file beside it."""
    images = _parse_idx(path, IDX_IMAGES)
    label_path = path.with_name(path.name.replace("images-idx3", "labels-idx1"))
    labels = _parse_idx(label_path, IDX_LABELS)
    check(
        len(images) == len(labels),
        f"{path} has {len(images):,} pictures but {label_path} {len(labels):,} labels: download both again",
    )
    yield path.name.partition("-")[0], images[..., None], labels.astype(np.int64)


def _parse_idx(path: Path, magic: int) -> npt.NDArray[np.uint8]:
    with explain_os_errors(path):
        content = path.read_bytes()
    try:
        content = gzip.decompress(content) if path.suffix == ".gz" else content
        num_dimensions = magic & 0xFF
        found, *shape = np.frombuffer(content, ">i4", 1 + num_dimensions).tolist()
        values = np.frombuffer(content, np.uint8, offset=4 * (1 + num_dimensions)).reshape(shape)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise InputError(f"{path} is no IDX file, or damaged ({quote_error(error)}): download it again") from error
    check(found == magic, f"{path} begins with {found:#x}, expected {magic:#x}: download it again")
    return values


_PART_READERS: dict[ArrayKind, Callable[[Path], Iterator[Part]]] = {"cifar10": _read_cifar10, "idx": _read_idx}
