"""One shard: a tar that webdataset and DALI read, its two indexes, and what was learnt while writing it."""

import hashlib
import io
import os
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.artifacts import ShardInfo, Split, sync_directory, write_bytes
from pipeline.preprocess.images import UndecodableError, pack_image
from pipeline.preprocess.ledger import Action, LedgerEntry
from pipeline.preprocess.sources import LabelledImage
from pipeline.preprocess.statistics import PixelSums

DALI_INDEX_VERSION = "v1.2"


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardResult:
    """A finished shard (None if no picture of it could be decoded), its pixel sums and ledger entries."""

    shard: ShardInfo | None
    sums: PixelSums
    entries: tuple[LedgerEntry, ...]


def write_shard(
    directory: Path,
    name: str,
    split: Split,
    images: Sequence[LabelledImage],
    *,
    side: int,
    count_image: Callable[[], None],
) -> ShardResult:
    """Pack pictures into `directory/name.tar`; a picture that cannot be decoded is dropped and written down.

    Args:
        directory: where the shard goes; made if missing.
        name: file name without suffix.
        split: split that the pictures belong to.
        images: the pictures, in the order in which they are stored.
        side: height and width of the stored pictures in pixels.
        count_image: called after each picture.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}.tar"
    temporary = directory / f".{name}.tar.tmp"
    sums, entries = PixelSums.empty(side), list[LedgerEntry]()
    labels: dict[str, int] = {}
    with temporary.open("wb") as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for image in images:
                try:
                    packed = pack_image(image.path.read_bytes(), side=side)
                except UndecodableError as error:
                    entries.append(_build_entry(split, image, "dropped", str(error)))
                    count_image()
                    continue
                entries += [_build_entry(split, image, "kept", note) for note in packed.notes]
                _add_member(tar, f"{image.key}.jpg", packed.encoded)
                _add_member(tar, f"{image.key}.cls", str(image.label).encode())
                sums.add_image(packed.pixels)
                labels[image.key] = image.label
                count_image()
        file.flush()
        os.fsync(file.fileno())
    if not labels:
        temporary.unlink()
        return ShardResult(shard=None, sums=sums, entries=tuple(entries))
    temporary.replace(path)
    sync_directory(directory)
    index_sha256 = _write_indexes(path, labels)
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    shard = ShardInfo(
        name=name,
        num_images=len(labels),
        size_bytes=path.stat().st_size,
        sha256=sha256,
        index_sha256=index_sha256,
    )
    return ShardResult(shard=shard, sums=sums, entries=tuple(entries))


def _build_entry(split: Split, image: LabelledImage, action: Action, detail: str) -> LedgerEntry:
    file = "/".join(image.path.parts[-2:])
    return LedgerEntry(split=split, key=image.key, file=file, action=action, detail=detail)


def _add_member(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)  # owner, mode and time stay at their defaults, so that bytes repeat
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def _write_indexes(path: Path, labels: dict[str, int]) -> str:
    """Write `.idx` for DALI's reader and `.npy` for ours, from the finished tar; returns the SHA-256 of ours."""
    with tarfile.open(path) as tar:
        members = {member.name: member for member in tar}
    lines, rows = [f"{DALI_INDEX_VERSION} {len(labels)}"], []
    for key, label in labels.items():
        picture, label_file = members[f"{key}.jpg"], members[f"{key}.cls"]
        lines.append(
            f"jpg {picture.offset_data} {picture.size} {picture.name} "
            f"cls {label_file.offset_data} {label_file.size} {label_file.name}"
        )
        rows.append((picture.offset_data, picture.size, label, key.encode()))
    longest = max(len(row[3]) for row in rows)
    kind = np.dtype([("offset", "<i8"), ("size", "<i4"), ("label", "<i4"), ("key", f"S{longest}")])
    index = io.BytesIO()
    np.save(index, np.array(rows, dtype=kind))
    write_bytes(path.with_suffix(".idx"), ("\n".join(lines) + "\n").encode())
    write_bytes(path.with_suffix(".npy"), index.getvalue())
    return hashlib.sha256(index.getvalue()).hexdigest()
