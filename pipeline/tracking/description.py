"""What MLflow is told of a run beside its metrics: experiment, configuration, every start, the shard set."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from pipeline.artifacts import RunDirectory, RunRecord, ShardSetInfo, read_json
from pipeline.experiments import describe_status, flatten, get_experiment
from pipeline.tracking.server import once

MAX_PARAMS_PER_CALL = 100  # MLflow's limit
MAX_DIGEST_CHARACTERS = 36  # MLflow's limit
ID_TAG = "alexnet.id"


def find_or_create_run(client: Any, run: RunDirectory, record: RunRecord, *, local: bool) -> str:
    """Id of MLflow's run of a run directory; made with all that is fixed from the beginning, if it is not there.

    Args:
        client: `MlflowClient`.
        run: the run directory.
        record: its record.
        local: whether artifacts lie beside the run directory, for no server keeps them.
    """
    experiment_id = find_or_create_experiment(client, run, record.experiment, local=local)
    found = client.search_runs([experiment_id], filter_string=f"tags.`{ID_TAG}` = '{record.id}'", max_results=1)
    if not found:
        tags = {ID_TAG: record.id, "mlflow.note.content": write_note(record)}
        began = int(record.starts[0].time * 1000)
        with once():
            found = [client.create_run(experiment_id, began, tags, run_name=run.path.resolve().name)]
    run_id = str(found[0].info.run_id)
    log_configuration(client, run_id, run, record)  # also of one that was found: whoever made it may have died of it
    return run_id


def write_note(record: RunRecord) -> str:
    """What MLflow shows above a run: what it is to show, lest that be read as what it has shown."""
    note = f"Claim of the experiment: {get_experiment(record.experiment).claim}"
    status = describe_status(record.experiment, record.config, record.status)
    return note if status == "as registered" else f"{note}. This run is {status}."


def find_or_create_experiment(client: Any, run: RunDirectory, name: str, *, local: bool) -> str:
    """Id of MLflow's experiment of that name."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(
                client.create_experiment(
                    name,
                    artifact_location=(run.path.resolve().parent / "mlflow-artifacts").as_uri() if local else None,
                    tags={"mlflow.experimentKind": "custom_model_development"},
                )
            )
        except MlflowException:  # another run was quicker, or this is what raises again
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    return str(found.experiment_id)


def log_configuration(client: Any, run_id: str, run: RunDirectory, record: RunRecord) -> None:
    """Log every field of the configuration as a parameter, and the shard set as a dataset for each split."""
    from mlflow.entities import Param

    params = [Param(name, str(value)) for name, value in flatten(record.config)]
    for first in range(0, len(params), MAX_PARAMS_PER_CALL):
        client.log_batch(run_id, params=params[first : first + MAX_PARAMS_PER_CALL])
    if run.dataset.is_file():
        client.log_inputs(run_id, datasets=list(list_datasets(record, read_json(run.dataset, ShardSetInfo))))


def list_datasets(record: RunRecord, info: ShardSetInfo) -> Iterator[Any]:
    """Yield the splits that training reads as MLflow's `DatasetInput`, with digest and place, without their data."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    for split, context in (("train", "training"), ("val", "validation")):
        if split in info.splits:
            profile = {
                "num_images": info.splits[split].num_images,
                "num_classes": len(info.classes),
                "layout": info.layout,
                "complete": info.complete,
                "shard_set_digest": info.digest,
            }
            dataset = Dataset(
                name=f"{info.layout} {split}",
                digest=info.digest[:MAX_DIGEST_CHARACTERS],
                source_type="local",
                source=json.dumps({"uri": record.data}),
                profile=json.dumps(profile),
            )
            yield DatasetInput(dataset, tags=[InputTag("mlflow.data.context", context)])


def log_starts(client: Any, run_id: str, record: RunRecord) -> None:
    """Log every start as tags: of each its own, `attempt.N.…`, and of the newest those that MLflow's page shows."""
    from mlflow.entities import RunTag

    newest = record.starts[-1]
    tags = {
        "stage": "train",
        "status": record.status,
        "data_digest": record.data_digest,
        "num_attempts": str(len(record.starts)),
        "commit": newest.format_commit(),
        "machine": newest.machine,
        "device": newest.device,
        "world_size": str(newest.world_size),
        "command": newest.command,
        "mlflow.source.name": f"alexnet train {record.experiment}",  # its page shows what follows the last stroke
        "mlflow.source.git.commit": newest.commit,
    }
    for number, start in enumerate(record.starts):
        attempt = {
            "time": datetime.fromtimestamp(start.time, UTC).isoformat(timespec="seconds"),
            "hosts": ", ".join(start.hosts),
            "world_size": str(start.world_size),
            "device": start.device,
            "commit": start.commit,
            "dirty": str(start.dirty).lower(),
            "slurm_job_id": start.slurm_job_id,
            "image": start.image,
            **{f"version.{tool}": version for tool, version in start.tools.items()},
        }
        tags |= {f"attempt.{number}.{key}": value for key, value in attempt.items() if value is not None}
    words = [RunTag(key, value) for key, value in tags.items()]
    for first in range(0, len(words), MAX_PARAMS_PER_CALL):
        client.log_batch(run_id, tags=words[first : first + MAX_PARAMS_PER_CALL])
