"""What lies where: a row of an array for each picture, and a count for what is left out."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from pipeline.errors import InputError, check
from pipeline.options import Split
from pipeline.preprocess.ledger import LedgerEntry

MAX_CLASS_BYTES, MAX_STEM_BYTES = 155, 96  # what a tar header holds of NAME/STEM.jpg
ROWS_PER_CHUNK = 10_000  # so that 1.3 million pictures are never 1.3 million Python objects
HIDDEN = (".", "__MACOSX")  # how names begin that file managers leave behind, `._x` and `.DS_Store` among them

Rows = npt.NDArray[np.void]
"""One row a picture: container, offset, size, label, stamp, name, key; see `Source`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Container:
    """What holds pictures: a tar, a class folder, or a file of arrays.

    `path` is relative to the source, "." where the source itself is that file.
    """

    path: str
    kind: Literal["tar", "folder", "cifar10", "idx"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Listing:
    """Pictures in any order; `rows["label"]` are positions in `groups`, and `rows["key"]` is the file's stem alone.

    A group is what labels its pictures, a class or a folder; it may be empty.
    """

    groups: tuple[str, ...]
    rows: Rows

    @classmethod
    def label(cls, rows: Rows, groups: Sequence[str]) -> "Listing":
        """Pictures whose groups are given one by one."""
        names, labels = np.unique(np.array(groups, dtype=np.str_), return_inverse=True)
        rows["label"] = labels
        return cls(groups=tuple(names.tolist()), rows=rows)

    def count(self) -> npt.NDArray[np.int64]:
        """Pictures of each group, (num_groups,) int64."""
        return np.bincount(self.rows["label"], minlength=len(self.groups))

    def regroup(self, names: Sequence[str], groups: Sequence[str]) -> "Listing":
        """Rename each group and order them as `groups` says; pictures of a group that is not there are left out."""
        positions = {name: position for position, name in enumerate(groups)}
        labels = np.array([positions.get(name, -1) for name in names], np.int32)[self.rows["label"]]
        rows = self.rows[labels >= 0]
        rows["label"] = labels[labels >= 0]
        return Listing(groups=tuple(groups), rows=rows)


class RowCollector:
    """Gathers rows; `build` turns them into a listing."""

    def __init__(self) -> None:
        self._groups: dict[str, int] = {}
        self._pending: list[tuple[int, int, int, int, int, bytes, bytes]] = []
        self._chunks: list[Rows] = []

    def add_group(self, group: str) -> int:
        """Make the group known, even if it stays empty; returns its position.

        Raises:
            InputError: its name is not UTF-8.
        """
        if group not in self._groups:
            encode_name(group, group)
        return self._groups.setdefault(group, len(self._groups))

    def add(self, group: str, name: str, *, container: int, offset: int, size: int, stamp: int) -> None:
        """Add a picture.

        Raises:
            InputError: the name is not UTF-8 or too long to be stored.
        """
        origin = f"{group}/{name}"
        stem = clean_key_part(get_stem(name), origin, MAX_STEM_BYTES)
        label = self.add_group(group)
        self._pending.append((container, offset, size, label, stamp, encode_name(name, origin), stem))
        if len(self._pending) == ROWS_PER_CHUNK:
            self._flush()

    def _flush(self) -> None:
        name_bytes = max((len(row[5]) for row in self._pending), default=1)
        key_bytes = max((len(row[6]) for row in self._pending), default=1)
        self._chunks.append(np.array(self._pending, dtype=build_row_type(name_bytes, key_bytes)))
        self._pending.clear()

    def build(self) -> Listing:
        """Everything that was added, in the order in which it was."""
        self._flush()
        return Listing(groups=tuple(self._groups), rows=np.concatenate(self._chunks))


def get_base(name: str) -> str:
    """A file's name without folders."""
    return name.rpartition("/")[2]


def get_stem(name: str) -> str:
    """A file's name without folders and suffix."""
    file = get_base(name)
    return file.rpartition(".")[0] or file


def build_row_type(name_bytes: int, key_bytes: int) -> np.dtype[np.void]:
    """Type of a row whose names and keys have at most so many bytes."""
    numbers = [("container", "<i4"), ("offset", "<i8"), ("size", "<i8"), ("label", "<i4"), ("stamp", "<i8")]
    return np.dtype([*numbers, ("name", f"S{name_bytes}"), ("key", f"S{key_bytes}")])


def clean_key_part(part: str, origin: str, max_bytes: int) -> bytes:
    """A class or stem as it stands in keys: free of the dots and blanks that tar readers split at.

    Raises:
        InputError: it is not UTF-8, or longer than a tar header holds.
    """
    encode_name(part, origin)
    cleaned = re.sub(r"[^\w-]", "_", part).encode()
    found = len(cleaned)
    check(
        found <= max_bytes,
        f"{origin}: {cleaned.decode()} has {found} bytes, but tar files hold names of {max_bytes}: shorten it",
    )
    return cleaned


def encode_name(name: str, origin: str) -> bytes:
    """A name as UTF-8.

    Raises:
        InputError: the file system or the tar holds other bytes, which Python marks with surrogates.
    """
    try:
        return name.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{show(origin)}: the name is not UTF-8: rename it") from error


def show(name: str) -> str:
    """A name that any terminal can print."""
    return name.encode(errors="backslashreplace").decode()


def quote_error(error: Exception) -> str:
    """The first line of what a library says, for a sentence."""
    return str(error).partition("\n")[0].rstrip(":,")


class IgnoredFiles:
    """Counts what is left out on purpose, so that 50,000 files of a kind in a folder make one line of the ledger."""

    def __init__(self) -> None:
        self._found: dict[tuple[Split, str, str], tuple[int, str]] = {}

    def add(self, split: Split, folder: str, kind: str, name: str, *, count: int = 1) -> None:
        """Count files of a kind; `name` is kept if it is the first."""
        before, first = self._found.get((split, folder, kind), (0, name))
        self._found[split, folder, kind] = before + count, first

    def build_entries(self) -> tuple[LedgerEntry, ...]:
        """One entry for each folder and kind."""
        return tuple(
            LedgerEntry(
                split=split,
                key="",
                file=show(folder),
                action="ignored",
                detail=f"{count:,} {kind}, {show(first)} first",
            )
            for (split, folder, kind), (count, first) in sorted(self._found.items())
        )


def is_hidden(path: str) -> bool:
    """Whether any part of a path is what file managers and archivers leave behind."""
    return any(part.startswith(HIDDEN) for part in path.split("/") if part not in ("", ".", ".."))


@contextmanager
def explain_os_errors(path: Path) -> Iterator[None]:
    """Turn what the operating system refuses into a sentence.

    Raises:
        InputError: reading `path` failed.
    """
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{error.filename or path} cannot be read ({error.strerror or error}): check that it exists, that you may "
            "read it, and that its disk is sound"
        ) from error


def list_folder(path: Path) -> list[os.DirEntry[str]]:
    """What lies in a folder, by name, without what is hidden.

    Raises:
        InputError: it cannot be read.
    """
    with explain_os_errors(path), os.scandir(path) as entries:
        return sorted((entry for entry in entries if not is_hidden(entry.name)), key=lambda entry: entry.name)
