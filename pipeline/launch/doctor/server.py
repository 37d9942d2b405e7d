"""MLflow: the package, and the server by a route of its API, since `/health` answers those whom the API refuses."""

import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import InputError
from pipeline.launch.doctor.finding import Finding, explain, ill, quote, skipped, well
from pipeline.launch.doctor.machine import NETWORK_FILE_SYSTEMS, find_existing, find_file_system
from pipeline.options import DoctorConfig
from pipeline.tracking import check_form, mask

REQUEST_SECONDS = 5
SQLITE = "sqlite:///"
SUBJECT = "MLflow server"


def look_at_mlflow(config: DoctorConfig) -> Iterator[Finding]:
    """Import the package, then ask the server for an experiment."""
    os.environ |= {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(REQUEST_SECONDS),
        "PGCONNECT_TIMEOUT": str(REQUEST_SECONDS),
    }
    import mlflow

    logging.getLogger("mlflow").setLevel(logging.WARNING)  # only now, for the import sets it to INFO
    yield well("mlflow", str(mlflow.__version__))
    uri = config.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        yield skipped(
            SUBJECT, "no --tracking-uri and no MLFLOW_TRACKING_URI: metrics go to an sqlite file beside the runs"
        )
        return
    try:
        check_form(uri)
    except InputError as error:
        yield explain(SUBJECT, error, Path())
    else:
        yield find_database(uri) or ask_server(uri)


def find_database(uri: str) -> Finding | None:
    """What is to be said of an sqlite file before it is opened, if the server is one."""
    if not uri.startswith(SQLITE):
        return None
    database = Path(uri.removeprefix(SQLITE)).absolute()
    try:
        folder = find_existing(database.parent)
    except OSError as error:
        return explain(SUBJECT, error, database)
    file_system = find_file_system(folder)
    if file_system in NETWORK_FILE_SYSTEMS:
        advice = "start `mlflow server` on one machine and name that, or keep the file on a local disk"
        return ill(SUBJECT, f"{database} lies on {file_system}, where sqlite loses data", advice)
    if folder != database.parent:
        return ill(SUBJECT, f"{database.parent} does not exist", f"mkdir -p {database.parent}")
    return None if database.exists() else skipped(SUBJECT, f"{database} does not exist yet; the first run makes it")


def ask_server(uri: str) -> Finding:
    """Ask for an experiment, as a run would; a database first for a connection, which MLflow tries ten times."""
    from mlflow import MlflowClient
    from mlflow.store.db.db_types import DATABASE_ENGINES
    from sqlalchemy import create_engine

    shown = mask(uri)
    try:
        if re.split(r"[:+]", uri)[0] in DATABASE_ENGINES:
            create_engine(uri).connect().close()
        found = MlflowClient(tracking_uri=uri).search_experiments(max_results=1)
    except Exception as error:  # noqa: BLE001 - MLflow, SQLAlchemy and drivers raise their own, and passwords in them
        return explain_refusal(shown, mask(quote(error).replace(uri, shown)))
    return well(SUBJECT, f"{shown} answers{'' if found else ', without experiments yet'}")


def explain_refusal(shown: str, sentence: str) -> Finding:
    """What to do about an error of MLflow, of SQLAlchemy or of a driver."""
    advice = "start it, or mend the address; training goes on without it, `alexnet sync` catches up"
    if "403" in sentence or "Invalid Host" in sentence:
        advice = "start it with --allowed-hosts naming this address"
    elif "401" in sentence:
        advice = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
    elif "schema" in sentence:
        advice = f"mlflow db upgrade {shown}"
    elif sentence.startswith("No module named"):
        advice = (
            "install that driver, name another as in postgresql+psycopg2://, or name an MLflow server, which needs none"
        )
    if sentence.startswith("API request"):  # a chain of errors, of which the last says what happened
        sentence = sentence.rsplit(": ", 1)[-1].strip("\"')")
    return ill(SUBJECT, f"{shown}: {sentence}", advice)
