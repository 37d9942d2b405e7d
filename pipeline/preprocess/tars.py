"""Tars, and tars inside tars, read in place: where each member lies, and proof that none is missing."""

import os
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tqdm import tqdm

from pipeline.errors import InputError, check
from pipeline.options import Split
from pipeline.preprocess.listing import IgnoredFiles, Listing, RowCollector, explain_os_errors, is_hidden, quote_error

COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


class Archive:
    """An uncompressed tar.

    Args:
        file: the tar, or a view of one inside another.
        where: how sentences call it.
        start: byte of the file on disk at which it begins.

    Raises:
        InputError: it is empty, compressed, or no tar.
    """

    def __init__(self, file: IO[bytes], where: str, start: int = 0) -> None:
        self._file, self._where, self._start = file, where, start
        self._size = file.seek(0, os.SEEK_END)
        file.seek(0)
        try:
            self._tar = tarfile.TarFile(fileobj=file, encoding="utf-8")
        except (tarfile.TarError, ValueError) as error:
            raise InputError(self._say_why_not_tar()) from error

    def walk(self) -> Iterator[tarfile.TarInfo]:
        """Yield the visible members one by one, then prove that the archive ends where tarfile stopped.

        For tarfile a damaged header, or a file that stops between two members, is an end like any other.

        Raises:
            InputError: it is damaged or was cut short.
        """
        while True:
            try:
                member = self._tar.next()
            except (tarfile.TarError, ValueError) as error:
                raise InputError(self._say_damaged(self._tar.offset, quote_error(error))) from error
            if member is None:
                break
            if member.isreg() and not member.issparse() and member.offset_data + member.size > self._size:
                raise InputError(self._say_damaged(self._size, f"amid {member.name}"))
            check(member.name, self._say_damaged(member.offset, "a member without name"))
            self._tar.members.clear()  # type: ignore[attr-defined]  # else it keeps every member it ever met
            if not is_hidden(member.name):
                yield member
        self._check_end(self._tar.offset)

    def locate(self, member: tarfile.TarInfo) -> int:
        """First byte of a member's content in the file on disk."""
        return self._start + member.offset_data

    def open_inner(self, member: tarfile.TarInfo) -> "Archive":
        """Open a member that is a tar itself.

        Raises:
            InputError: it is none.
        """
        view = self._tar.extractfile(member)
        assert view is not None, "only regular files are opened"
        return Archive(view, f"{self._where}, member {member.name},", self.locate(member))

    def _check_end(self, end: int) -> None:
        self._file.seek(end)
        mark = self._file.read(tarfile.BLOCKSIZE)
        check(len(mark) == tarfile.BLOCKSIZE, self._say_damaged(end, "it should end with a block of zeros"))
        check(not any(mark), self._say_damaged(end, "no valid header"))
        while block := self._file.read(tarfile.RECORDSIZE):
            check(
                not any(block),
                f"{self._where} has an end mark at byte {self._start + end:,} and more data after it: it is damaged "
                "(copy or download it again), or several archives were joined (unpack them with tar --ignore-zeros)",
            )

    def _say_damaged(self, offset: int, reason: str) -> str:
        place = f"byte {self._start + offset:,}"
        return f"{self._where} is damaged or was cut short at {place} ({reason}): copy or download it again"

    def _say_why_not_tar(self) -> str:
        self._file.seek(0)
        block = self._file.read(tarfile.BLOCKSIZE)
        if not block:
            return f"{self._where} is empty (0 bytes): copy or download it again"
        for magic, name in COMPRESSED.items():
            if block.startswith(magic):
                return f"{self._where} is compressed ({name}), so no picture can be reached at random: unpack it first"
        return f"{self._where} is no tar file, or damaged at byte {self._start:,}: copy or download it again"


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Open a tar on disk.

    Raises:
        InputError: it cannot be read, or is no uncompressed tar.
    """
    with explain_os_errors(path), path.open("rb") as file:
        yield Archive(file, str(path))


def read_small_tar(path: Path, is_wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of the wanted files of a tar, compressed or not.

    Raises:
        InputError: it cannot be read to its end.
    """
    try:
        with path.open("rb") as file, tarfile.open(fileobj=file) as archive:
            for member in archive:
                content = archive.extractfile(member) if member.isreg() and is_wanted(member.name) else None
                if content:
                    yield member.name, content.read()
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise InputError(f"{path} cannot be unpacked ({quote_error(error)}): download it again") from error


def list_tar(path: Path, container: int, split: Split | None, ignored: IgnoredFiles) -> Listing:
    """List the pictures of a tar, grouped by the folder that they lie in, "" at the top.

    Args:
        path: the tar.
        container: its number.
        split: what all pictures belong to; None if their folders say so.
        ignored: gets what is no picture.

    Raises:
        InputError: it is damaged, or no uncompressed tar.
    """
    collector = RowCollector()
    with open_archive(path) as archive:
        stamp = path.stat().st_mtime_ns
        members = archive.walk()
        for member in tqdm(members, desc=f"index {path.name}", unit=" files", disable=None, leave=False):
            *folders, name = [part for part in member.name.split("/") if part not in ("", ".")] or [""]
            if member.isdir():
                collector.add_group("/".join([*folders, name]))
                continue
            folder = "/".join(folders)
            if is_picture(member, split or guess_split(folders), f"{path.name}/{folder}".rstrip("/"), ignored):
                offset = archive.locate(member)
                collector.add(folder, member.name, container=container, offset=offset, size=member.size, stamp=stamp)
    return collector.build()


def is_picture(member: tarfile.TarInfo, split: Split, folder: str, ignored: IgnoredFiles) -> bool:
    """Whether a member is a regular file; what is neither that nor a folder goes to the ledger."""
    if member.isreg() and not member.issparse():
        return True
    if not member.isdir():
        kind = "links" if member.issym() or member.islnk() else "sparse files" if member.isreg() else "special files"
        ignored.add(split, folder, kind, member.name)
    return False


def guess_split(folders: list[str]) -> Split:
    """The split that the folders of a path name, train if none."""
    return "val" if "val" in folders else "test" if "test" in folders else "train"
