"""Where MLflow is, and how to talk to it without waiting for long."""

import logging
import os
import re
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from pipeline.artifacts import RunDirectory, temporary_path
from pipeline.errors import check

SQLITE = "sqlite:///"
ADDRESS = re.compile(r"(?!sqlite://[^/])[a-z][\w+.-]*://.")
FILE_PATIENCE = 12
"""How many times longer than any other answer that to a file may take."""
SECRETS = ("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_PASSWORD")


def find_tracking_uri(run: RunDirectory) -> str:
    """MLFLOW_TRACKING_URI where it is set, or else an sqlite file beside the run directory."""
    return os.environ.get("MLFLOW_TRACKING_URI") or name_default(run)


def name_default(run: RunDirectory) -> str:
    """Address of the sqlite file beside a run directory."""
    return name_database(run.path.resolve().parent / "mlflow.db")


def name_database(path: Path) -> str:
    """Address of an sqlite file; what SQLAlchemy would read otherwise is escaped."""
    return SQLITE + str(path).replace("%", "%25").replace("?", "%3F")


def find_database(uri: str) -> Path | None:
    """The sqlite file that an address names, if it does."""
    if not uri.startswith(SQLITE):
        return None
    return Path(uri.removeprefix(SQLITE).partition("?")[0].replace("%3F", "?").replace("%25", "%"))


def check_address(uri: str, *, is_read: bool = False) -> None:
    """Prove that there may be a tracking server, before MLflow tries it for minutes.

    Args:
        uri: its address.
        is_read: an sqlite file has to be there; one that is written to is made.

    Raises:
        InputError: it is no address, or that of a file that is not there and cannot be made.
    """
    check_form(uri)
    database = find_database(uri)
    if database is None or database.exists():
        return
    check(not is_read, f"{database} does not exist: pass an sqlite file that MLflow has written")
    check(
        os.access(database.parent, os.W_OK, effective_ids=True),
        f"{database} cannot be made, for its folder is missing or cannot be written to: name another server with "
        "--tracking-uri or MLFLOW_TRACKING_URI",
    )


def check_form(uri: str) -> None:
    """Prove that an address is one; MLflow would take anything else for a folder.

    Raises:
        InputError: it is none.
    """
    check(
        ADDRESS.match(uri),
        f"{mask(uri)} is no address of MLflow: pass one as --tracking-uri or MLFLOW_TRACKING_URI, "
        "as http://HOST:PORT, https://HOST, sqlite:///FILE or postgresql://HOST/DATABASE",
    )


def mask(text: str) -> str:
    """Text without the user, password and query of an address in it, however they are written."""
    without_user = re.sub(r"(?<!sqlite)(://).*@", r"\1", text)
    return re.sub(r"\?\S+", "", re.sub(r"\w+:[^\s/@]+@", "", without_user))  # also where `http://` was forgotten


def describe_failure(error: Exception, uri: str) -> str:
    """First line of what went wrong, without the passwords that MLflow and drivers quote."""
    first = find_first(error)
    if isinstance(first, ConnectionRefusedError | socket.gaierror) and first.strerror:
        return first.strerror  # what MLflow says of it quotes those who quote it
    text = mask(str(error).replace(uri, mask(uri)))
    for name in SECRETS:
        for secret in filter(None, map(str.strip, os.environ.get(name, "").splitlines())):
            text = text.replace(secret, "***")  # a token with a line's end in it is quoted as no header
    lines = text.strip().splitlines()
    return lines[0] if lines else type(error).__name__


def find_first(error: BaseException) -> BaseException:
    """The error that began a chain of them."""
    while cause := error.__cause__ or error.__context__:
        error = cause
    return error


def connect(uri: str, *, is_read: bool = False) -> Any:
    """An `MlflowClient` that gives up soon; an sqlite file is made if missing, but not to be read.

    Raises:
        InputError: as in `check_address`.
        mlflow.exceptions.MlflowException: the address is of no use.
    """
    check_address(uri, is_read=is_read)
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # it has the password in it
    from mlflow import MlflowClient

    logging.getLogger("mlflow").setLevel(logging.WARNING)  # only now, for the import sets it to INFO
    database = find_database(uri)
    if database is not None:
        _create_database(database)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def as_default(uri: str) -> AbstractContextManager[None]:
    """Make a server that of MLflow's calls that take none."""
    return setting("MLFLOW_TRACKING_URI", uri)


def once() -> AbstractContextManager[None]:
    """Keep MLflow's client from repeating a call that makes something: one whose answer was lost would make two."""
    return setting("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


def patiently() -> AbstractContextManager[None]:
    """Give a server longer for a file than for an answer: it hands the file on to its store before it answers."""
    name = "MLFLOW_HTTP_REQUEST_TIMEOUT"
    return setting(name, str(FILE_PATIENCE * int(os.environ[name])))


@contextmanager
def setting(name: str, value: str) -> Iterator[None]:
    """Set a variable of the environment for a while."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _create_database(path: Path) -> None:
    """Make an sqlite file with MLflow's tables, whole or not at all: MLflow cannot mend one that was left halfway."""
    if path.exists():
        return
    from mlflow import MlflowClient

    begun = temporary_path(path)
    MlflowClient(tracking_uri=name_database(begun)).search_experiments(max_results=1)
    try:
        os.link(begun, path)
    except FileExistsError:  # another process was quicker
        pass
    except OSError:  # a file system without links
        begun.rename(path)
    begun.unlink(missing_ok=True)
