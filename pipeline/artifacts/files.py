"""Files that appear whole or not at all, and JSON that is proved when it is read."""

import io
import json
import os
import socket
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter, ValidationError

from pipeline.errors import InputError, check

T = TypeVar("T")
MAX_QUOTED_CHARACTERS = 60
_ADAPTERS: dict[Any, TypeAdapter[Any]] = {}


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file that appears whole or not at all, even after a power cut; parents are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(path)
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_directory(path.parent)


def temporary_path(path: Path) -> Path:
    """Where this process, and no other on any node, writes a file before it takes its place."""
    return path.with_name(f".{path.name}.{socket.gethostname()}-{os.getpid()}.tmp")


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
    plain = get_adapter(type(value)).dump_python(value, mode="json")
    return (json.dumps(plain, indent=1, ensure_ascii=False) + "\n").encode()


def get_adapter(kind: type[T]) -> TypeAdapter[T]:
    """Pydantic's reader and writer of a type, which takes a while to build."""
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]


def to_npy(array: npt.NDArray[Any]) -> bytes:
    """An array as a NumPy file."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


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
    adapter = get_adapter(kind)
    try:
        plain = json.loads(text)
        value = adapter.validate_python(plain)
    except json.JSONDecodeError as error:
        raise InputError(f"{origin} is not valid JSON ({error}): restore it or write it anew") from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        found = "" if first["type"] == "missing" else f", found {str(first['input'])[:MAX_QUOTED_CHARACTERS]!r}"
        raise InputError(
            f"{origin} does not fit this version: field {field or 'at the top'}: {first['msg'].lower()}{found}; "
            "write it anew, or use the version that wrote it"
        ) from error
    check(
        adapter.dump_python(value, mode="json") == plain,
        f"{origin} has fields that this version does not know or lacks some that it needs: write it anew",
    )
    return value
