"""MLflow: the package, and the server by a route of its API, since `/health` answers those whom the API refuses."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from pipeline.launch.doctor.disk import NETWORK_FILE_SYSTEMS, find_existing, find_file_system
from pipeline.launch.doctor.finding import Finding, ill, skipped, well
from pipeline.launch.doctor.processes import quote
from pipeline.options import DoctorConfig

REQUEST_SECONDS = 5
SQLITE = "sqlite:///"


def look_at_mlflow(config: DoctorConfig) -> Iterator[Finding]:
    """Import the package, then ask the server for an experiment."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = str(REQUEST_SECONDS)
    from pipeline.tracking import find_version

    yield well("mlflow", str(mlflow.__version__))
    uri = config.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
