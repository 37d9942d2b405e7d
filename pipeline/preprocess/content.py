"""From a row to the bytes of its picture, and proof that the source is still what was listed."""

import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pipeline.errors import InputError
from pipeline.preprocess.arrays import ArrayKind, Pixels, encode_pnm, load_pixels
from pipeline.preprocess.listing import Container


def locate_container(root: Path, container: Container) -> Path:
    """Path of a container of the source at `root`."""
    return root / container.path


def describe_row(row: Any, containers: Sequence[Container]) -> str:
    """What people call a picture: its container and its name in it."""
    path, name = containers[row["container"]].path, row["name"].decode()
    return name if path == "." else f"{path}/{name}"


class ContentReader:
    """Hands out the bytes of pictures; tars stay open and arrays in memory, so take one reader a process.

    Args:
        root: the source.
        containers: those of the source, in order.
        check_stamps: refuse files that were changed after they were listed, even if they are as long as they were.
    """

    def __init__(self, root: Path, containers: Sequence[Container], *, check_stamps: bool = True) -> None:
        self._root = root
        self._containers = containers
        self._check_stamps = check_stamps
        self._tars: dict[Path, int] = {}
        self._arrays: dict[Path, Pixels] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the tars and forget the arrays."""
        for descriptor in self._tars.values():
            os.close(descriptor)
        self._tars.clear()
        self._arrays.clear()

    def describe(self, row: Any) -> str:
        """What people call the picture: its container and its name in it."""
        return describe_row(row, self._containers)

    def read(self, row: Any) -> bytes:
        """The file of the picture that `row`, an element of `Source.splits`, stands for; for arrays, a PPM or PGM.

        Raises:
            InputError: it is gone, cannot be read, or was changed.
        """
        container = self._containers[row["container"]]
        path = locate_container(self._root, container)
        if container.kind == "folder":
            path /= row["name"].decode()
        try:
            if container.kind == "tar":
                content = self._read_member(path, row)
            elif container.kind == "folder":
                content = self._read_file(path, row)
            else:
                return self._read_array(path, container.kind, row)
        except FileNotFoundError as error:
            raise InputError(f"{path} does not exist any more: put it back, or remove --out and begin anew") from error
        except OSError as error:
            raise InputError(
                f"{path} cannot be read ({error.strerror}): mend that, and start again to go on"
            ) from error
        if len(content) != row["size"]:
            raise InputError(_say_changed(path, f"{len(content):,} bytes for a picture of {row['size']:,}"))
        return content

    def _read_member(self, path: Path, row: Any) -> bytes:
        if path not in self._tars:
            self._tars[path] = os.open(path, os.O_RDONLY)
        self._prove_stamp(path, self._tars[path], row)
        return os.pread(self._tars[path], int(row["size"]), int(row["offset"]))

    def _read_file(self, path: Path, row: Any) -> bytes:
        with path.open("rb") as file:
            self._prove_stamp(path, file.fileno(), row)
            return file.read()

    def _read_array(self, path: Path, kind: ArrayKind, row: Any) -> bytes:
        if path not in self._arrays:
            with path.open("rb") as file:
                self._prove_stamp(path, file.fileno(), row)
            self._arrays[path] = load_pixels(path, kind)
        pixels = self._arrays[path]
        if row["offset"] >= len(pixels):
            raise InputError(_say_changed(path, f"{len(pixels):,} pictures"))
        return encode_pnm(pixels[row["offset"]])

    def _prove_stamp(self, path: Path, descriptor: int, row: Any) -> None:
        if self._check_stamps and os.fstat(descriptor).st_mtime_ns != row["stamp"]:
            raise InputError(_say_changed(path, "another time of its last change"))


def _say_changed(path: Path, found: str) -> str:
    advice = "put the old file back, or remove --out and begin anew"
    return f"{path} changed since this shard set was begun (found {found}): {advice}"
