"""MLflow: the package, and the server by a route of its API, since `/health` answers those whom the API refuses."""

import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path

from pipeline.launch.doctor.disk import NETWORK_FILE_SYSTEMS, find_existing, find_file_system
from pipeline.launch.doctor.finding import Finding, ill, quote, skipped, well
from pipeline.options import DoctorConfig

REQUEST_SECONDS = 5
SQLITE = "sqlite:///"
SUBJECT = "MLflow server"


def look_at_mlflow(config: DoctorConfig) -> Iterator[Finding]:
    """Import the package, then ask the server for an experiment."""
    os.environ |= {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(REQUEST_SECONDS),
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
    yield find_database(uri) or ask_server(uri)


def find_database(uri: str) -> Finding | None:
    """What is to be said of an sqlite file before it is opened, if the server is one."""
    if not uri.startswith(SQLITE):
        return None
    database = Path(uri.removeprefix(SQLITE)).absolute()
    folder = find_existing(database.parent)
    file_system = find_file_system(folder)
    if file_system in NETWORK_FILE_SYSTEMS:
        advice = "start `mlflow server` on one machine and name that, or keep the file on a local disk"
        return ill(SUBJECT, f"{database} lies on {file_system}, where sqlite loses data", advice)
    if folder != database.parent:
        return ill(SUBJECT, f"{database.parent} does not exist", f"mkdir -p {database.parent}")
    return None if database.exists() else skipped(SUBJECT, f"{database} does not exist yet; the first run makes it")


def ask_server(uri: str) -> Finding:
    """Ask for an experiment, as a run would."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    shown = re.sub(r"(?<=://)[^/@]*@", "", uri)  # without user and password
    try:
        found = MlflowClient(tracking_uri=uri).search_experiments(max_results=1)
    except (MlflowException, OSError) as error:
        sentence = quote(error).replace(uri, shown)
        advice = "start it, or mend the address; training goes on without it, `alexnet sync` catches up"
        if "403" in sentence or "Invalid Host" in sentence:
            advice = "start it with --allowed-hosts naming this address"
        elif "401" in sentence:
            advice = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
        elif "schema" in sentence:
            advice = f"mlflow db upgrade {shown}"
        if sentence.startswith("API request"):  # a chain of errors, of which the last says what happened
            sentence = sentence.rsplit(": ", 1)[-1].strip("\"')")
        return ill(SUBJECT, f"{shown}: {sentence}", advice)
    return well(SUBJECT, f"{shown} answers" + ", without experiments yet" * (not found))
