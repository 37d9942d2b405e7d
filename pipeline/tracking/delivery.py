"""`mlflow.json`: what each tracking server has of a run."""

from dataclasses import dataclass, field

from pipeline.artifacts import RunDirectory, read_json, write_json
from pipeline.errors import InputError


@dataclass(kw_only=True, slots=True)
class TrackedModel:
    """A checkpoint as MLflow's logged model: which metrics it has there, and its version in the registry."""

    model_id: str
    metrics: list[str] = field(default_factory=list)
    version: str | None = None


@dataclass(kw_only=True, slots=True)
class Delivery:
    """The run's identity at one server, and what has arrived there.

    A loss of this file costs a second transfer and doubles nothing.
    """

    server: str
    """Address of the server, without user and password."""
    run_id: str
    num_starts: int = 0
    positions: dict[str, int] = field(default_factory=dict)
    """File of metrics → bytes of it that have arrived."""
    files: dict[str, str] = field(default_factory=dict)
    """Artifact → its SHA-256."""
    models: dict[int, TrackedModel] = field(default_factory=dict)
    """Step of a checkpoint → its model."""


def read_deliveries(run: RunDirectory) -> dict[str, Delivery]:
    """Deliveries of a run by server.

    Raises:
        InputError: the file does not fit.
    """
    path = run.path / "mlflow.json"
    try:
        return {delivery.server: delivery for delivery in read_json(path, list[Delivery])} if path.is_file() else {}
    except InputError as error:
        raise InputError(f"{path} cannot be read: remove it, and all is sent again, and nothing doubled") from error


def write_delivery(run: RunDirectory, delivery: Delivery) -> None:
    """Note a delivery beside those to other servers."""
    known = read_deliveries(run)
    if known.get(delivery.server) != delivery:
        write_json(run.path / "mlflow.json", list((known | {delivery.server: delivery}).values()))
