"""Kept checkpoints as MLflow's logged models, with their errors; the best of those evaluated gets an alias.

Weights stay where they are: a model at MLflow says which file of which run it is, and how it does.
"""

import math
from typing import Any

from pipeline.artifacts import EvaluationRecord, RunDirectory, RunRecord, list_steps, read_json
from pipeline.tracking.delivery import Delivery, TrackedModel
from pipeline.tracking.journal import JournalEntry
from pipeline.tracking.points import is_of_network
from pipeline.tracking.server import as_default, once

ALIAS = "best"
DIGEST_CHARACTERS = 8
ERROR_TAG = "val_center_top1_error"
EXTERNAL_TAG = "mlflow.model.isExternal"


def track_models(
    client: Any, run: RunDirectory, record: RunRecord, delivery: Delivery, entries: list[JournalEntry]
) -> None:
    """Bring MLflow's models to the checkpoints that are kept.

    Args:
        client: `MlflowClient`.
        run: the run directory.
        record: its record.
        delivery: what MLflow has; changed in place.
        entries: those of the journal with metrics of networks.
    """
    kept = list_steps(run.checkpoints)
    if not kept:  # a copy that came without its checkpoints says nothing of them
        return
    for step in kept:
        if step not in delivery.models:
            delivery.models[step] = create_model(client, run, record, delivery.run_id, step)
        log_errors(client, delivery.run_id, delivery.models[step], [entry for entry in entries if entry.step == step])
        register_evaluated(client, run, record, delivery.models[step], step)
    for step in sorted(delivery.models.keys() - set(kept)):
        if delivery.models[step].version is None:
            client.delete_logged_model(delivery.models[step].model_id)
            del delivery.models[step]


def forget_deleted(client: Any, delivery: Delivery) -> None:
    """Forget models that somebody has deleted at MLflow: those of checkpoints that are kept are made again."""
    from mlflow.exceptions import MlflowException

    for step, model in list(delivery.models.items()):
        try:
            client.get_logged_model(model.model_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            del delivery.models[step]


def create_model(client: Any, run: RunDirectory, record: RunRecord, run_id: str, step: int) -> TrackedModel:
    """Log a checkpoint as a model that lies elsewhere; one that is there already is taken."""
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus

    name, at_mlflow = f"step-{step}", client.get_run(run_id)
    experiment_id = at_mlflow.info.experiment_id
    found = client.search_logged_models(
        [experiment_id], filter_string=f"source_run_id = '{run_id}' AND name = '{name}'", max_results=1
    )
    tags = {"run": run.path.resolve().name, "experiment": record.experiment, "step": str(step), EXTERNAL_TAG: "true"}
    with once():
        (model,) = found or [
            client.create_logged_model(
                experiment_id, name=name, source_run_id=run_id, tags=tags, model_type="checkpoint"
            )
        ]
        if model.model_id not in {output.model_id for output in at_mlflow.outputs.model_outputs}:
            client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step)])
    if model.status != LoggedModelStatus.READY:  # of one that was found: whoever made it may have died of it
        client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    return TrackedModel(model_id=model.model_id)


def log_errors(client: Any, run_id: str, model: TrackedModel, entries: list[JournalEntry]) -> None:
    """Log the metrics of a checkpoint's step with its model, once."""
    from mlflow.entities import Metric

    new = {
        key: Metric(key, value, int(entry.time * 1000), entry.step, model_id=model.model_id)
        for entry in reversed(entries)  # MLflow has the first of two values of a step
        for key, value in entry.metrics.items()
        if is_of_network(key) and key not in model.metrics
    }
    if new:
        client.log_batch(run_id, metrics=list(new.values()))
        model.metrics += new


def register_evaluated(client: Any, run: RunDirectory, record: RunRecord, model: TrackedModel, step: int) -> None:
    """Make an evaluated checkpoint a version of its experiment's registered model, and the best of them `best`.

    A registered model is that of an experiment, modified or not, on one shard set, so that versions can be compared.
    """
    path = run.predictions / f"val-center-step-{step}.json"
    if model.version is not None or not path.is_file():
        return
    error, name = read_json(path, EvaluationRecord).top1_error, name_registered_model(record)
    version = find_or_create_version(client, name, run, model, step, error)
    aliases = client.get_registered_model(name).aliases
    best = client.get_model_version(name, aliases[ALIAS]) if ALIAS in aliases else None
    if best is None or error < float(best.tags.get(ERROR_TAG, math.inf)):  # a version of somebody else says nothing
        client.set_registered_model_alias(name, ALIAS, version)
    model.version = version


def name_registered_model(record: RunRecord) -> str:
    """Name of the registered model that checkpoints of a run are versions of."""
    changed = "" if record.status == "as registered" else f"-{record.status}"
    return f"{record.experiment}{changed}-{record.data_digest[:DIGEST_CHARACTERS]}"


def find_or_create_version(
    client: Any, name: str, run: RunDirectory, model: TrackedModel, step: int, error: float
) -> str:
    """Number of a model's version of a registered model, which is made if missing."""
    from mlflow.exceptions import MlflowException

    source = f"models:/{model.model_id}"
    try:
        client.create_registered_model(name, description="Evaluated checkpoints; `best` has the lowest error.")
    except MlflowException as exists:
        if exists.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    found = client.search_model_versions(f"name = '{name}' AND source_path = '{source}'", max_results=1)
    if found:
        return str(found[0].version)
    tags = {"run": run.path.resolve().name, "step": str(step), ERROR_TAG: repr(error)}
    with once(), as_default(client.tracking_uri):  # where a database looks for the model, whatever the client says
        return str(client.create_model_version(name, source=source, model_id=model.model_id, tags=tags).version)
