"""One shard: a tar that webdataset and DALI read, its two indexes, and what was learnt while writing it."""

import hashlib
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.artifacts import ShardInfo, Split, sync_directory, temporary_path, to_npy, write_bytes
from pipeline.preprocess.content import ContentReader
from pipeline.preprocess.encodings import EXTENSIONS
from pipeline.preprocess.images import Recipe, UndecodableError, pack_image
from pipeline.preprocess.ledger import Action, LedgerEntry
from pipeline.preprocess.listing import Rows
from pipeline.preprocess.records import ShardRecord
from pipeline.preprocess.statistics import PixelSums

DALI_INDEX_VERSION = "v1.2"


def write_shard(
    directory: Path,
    name: str,
    split: Split,
    rows: Rows,
    reader: ContentReader,
    recipe: Recipe,
    *,
    sums: PixelSums | None,
    count_image: Callable[[], None],
) -> ShardRecord:
    """Pack pictures into `directory/name.tar`; a picture that cannot be decoded is dropped and written down.

    Args:
        directory: where the shard goes; made if missing.
        name: file name without suffix.
        split: split that the pictures belong to.
        rows: the pictures, in the order in which they are stored.
        reader: hands out their bytes.
        recipe: what is done to them.
        sums: counts the stored pixels, where they are wanted.
        count_image: called after each picture.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}.tar"
    temporary = temporary_path(path)
    entries, members = list[LedgerEntry](), list[tuple[Any, ...]]()
    try:
        with temporary.open("wb") as file:
            with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
                for row in rows:
                    try:
                        packed = pack_image(reader.read(row), name=row["name"].decode(), recipe=recipe)
                    except UndecodableError as error:
                        entries.append(_build_entry(split, reader, row, "dropped", str(error)))
                    else:
                        entries += [_build_entry(split, reader, row, "kept", note) for note in packed.notes]
                        members.append(_add_picture(tar, row, packed.encoded, EXTENSIONS[recipe.encoding]))
                        if sums is not None:
                            sums.add_image(packed.pixels)
                    count_image()
            file.flush()
            os.fsync(file.fileno())
        if not members:
            return ShardRecord(shard=None, entries=tuple(entries))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_directory(directory)
    return ShardRecord(shard=_describe(path, members, EXTENSIONS[recipe.encoding]), entries=tuple(entries))


def _build_entry(split: Split, reader: ContentReader, row: Any, action: Action, detail: str) -> LedgerEntry:
    return LedgerEntry(split=split, key=row["key"].decode(), file=reader.describe(row), action=action, detail=detail)


def _add_picture(tar: tarfile.TarFile, row: Any, encoded: bytes, extension: str) -> tuple[Any, ...]:
    """Add a picture and its label; returns key, label, and where both lie and how long they are."""
    key, label = row["key"].decode(), int(row["label"])
    places = []
    for name, content in ((f"{key}.{extension}", encoded), (f"{key}.cls", str(label).encode())):
        member = tarfile.TarInfo(name)  # owner, mode and time stay at their defaults, so that bytes repeat
        member.size = len(content)
        places += [tar.offset + tarfile.BLOCKSIZE, len(content)]
        tar.addfile(member, io.BytesIO(content))
    return key, label, *places


def _describe(path: Path, members: list[tuple[Any, ...]], extension: str) -> ShardInfo:
    """Write `.npy` for our reader and `.idx` for DALI's; returns what is written down of the shard."""
    longest = max(len(key.encode()) for key, *_ in members)
    kind = np.dtype([("offset", "<i8"), ("size", "<i4"), ("label", "<i4"), ("key", f"S{longest}")])
    rows = [(offset, size, label, key.encode()) for key, label, offset, size, *_ in members]
    index = to_npy(np.array(rows, kind))
    lines = [f"{DALI_INDEX_VERSION} {len(members)}"]
    for key, _, offset, size, label_offset, label_size in members:
        lines.append(f"{extension} {offset} {size} {key}.{extension} cls {label_offset} {label_size} {key}.cls")
    dali_index = ("\n".join(lines) + "\n").encode()
    write_bytes(path.with_suffix(".npy"), index)
    write_bytes(path.with_suffix(".idx"), dali_index)
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return ShardInfo(
        name=path.stem,
        num_images=len(members),
        size_bytes=path.stat().st_size,
        sha256=sha256,
        index_sha256=hashlib.sha256(index).hexdigest(),
        dali_index_sha256=hashlib.sha256(dali_index).hexdigest(),
    )
