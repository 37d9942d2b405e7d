"""Where MLflow is, and how to talk to it without waiting for long."""

import logging
import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from pipeline.artifacts import RunDirectory, temporary_path

SQLITE = "sqlite:///"
FILE_PATIENCE = 12
"""How many times longer than any other answer that to a file may take."""
SECRETS = ("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_PASSWORD")


def find_tracking_uri(run: RunDirectory) -> str:
    """MLFLOW_TRACKING_URI where it is set, or else an sqlite file beside the run directory."""
    return os.environ.get("MLFLOW_TRACKING_URI") or name_database(run.path.resolve().parent / "mlflow.db")


def name_database(path: Path) -> str:
    """Address of an sqlite file; what SQLAlchemy would read otherwise is escaped."""
    return SQLITE + str(path).replace("%", "%25").replace("?", "%3F")


def find_database(uri: str) -> Path | None:
    """The sqlite file that an address names, if it does."""
    return Path(uri.removeprefix(SQLITE).replace("%3F", "?").replace("%25", "%")) if uri.startswith(SQLITE) else None


def mask(text: str) -> str:
    """Text without the user, password and query of an address in it, however they are written."""
    without_user = re.sub(r"(?<!sqlite)(://).*@", r"\1", text)
    return re.sub(r"\?\S+", "", re.sub(r"\w+:[^\s/@]+@", "", without_user))  # also where `http://` was forgotten


def describe_failure(error: Exception, uri: str) -> str:
    """First line of what went wrong, without the passwords that MLflow and drivers quote."""
    text = mask(str(error).replace(uri, mask(uri)))
    for name in SECRETS:
        for secret in filter(None, map(str.strip, os.environ.get(name, "").splitlines())):
            text = text.replace(secret, "***")  # a token with a line's end in it is quoted as no header
    lines = text.strip().splitlines()
    return lines[0] if lines else type(error).__name__


def connect(uri: str) -> Any:
    """An `MlflowClient` that gives up soon; an sqlite file is made if missing.

    Raises:
        mlflow.exceptions.MlflowException: the address is of no use.
    """
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
    if path.exists() or not path.parent.is_dir():
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
