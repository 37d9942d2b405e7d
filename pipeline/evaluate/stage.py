"""The evaluate stage: a run's newest or best checkpoint on a split, counted exactly over all ranks."""

import gc
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import nn
from tqdm import tqdm

from pipeline.artifacts import (
    EvaluationRecord,
    RunDirectory,
    ShardSet,
    read_json,
    record_damage,
    write_bytes,
    write_json,
)
from pipeline.augment.geometry import Views
from pipeline.augment.loader import EvaluationLoader
from pipeline.checkpoint import Checkpoint, find_checkpoints, find_chosen, read_checkpoint
from pipeline.distributed import World, broadcast_from_main, decide_on_main, gather_to_main, join_world, wait_for_all
from pipeline.errors import check
from pipeline.evaluate.earlier import is_final
from pipeline.evaluate.features import Extractor, check_queries, save_neighbours
from pipeline.evaluate.topk import ErrorCounts
from pipeline.evaluate.views import Prediction, predict
from pipeline.model.alexnet import AlexNet, build_alexnet
from pipeline.model.precision import use_tensor_cores
from pipeline.options import EvaluateConfig
from pipeline.provenance import read_commit
from pipeline.tracking import Journal, sync_or_warn


def evaluate(config: EvaluateConfig) -> list[EvaluationRecord]:
    """Evaluate a run's newest or best checkpoint for each of `config.views`, and save counts and probabilities.

    Where `config.neighbours` are asked for, they are found and saved, too.

    Raises:
        InputError: no run, no checkpoint, another shard set than the run was trained on, or too few pictures in it.
    """
    run = RunDirectory(config.run)
    trained = run.read_record()
    check(
        len(find_checkpoints(run.checkpoints)) > 0,
        f"{run.checkpoints} holds no checkpoint yet: let `alexnet train` finish an epoch first",
    )
    shard_set = run.open_data(trained, config.data)
    check_queries(config, shard_set)
    with join_world(config.device) as world:
        chosen, warnings = decide_on_main(lambda: find_chosen(run.checkpoints, config.checkpoint))
        assert chosen is not None
        if world.is_main and warnings:
            print(*(f"evaluate: warning: {warning}" for warning in warnings), sep="\n", flush=True)
        checkpoint = read_checkpoint(chosen, device=world.device)
        network, commit = load_network(checkpoint, world), decide_on_main(read_commit)
        records = []
        for views in config.views:
            path = run.predictions / f"{config.split}-{views}-step-{checkpoint.step}.json"
            said = "in"
            known = broadcast_from_main(read_json(path, EvaluationRecord) if path.is_file() else None)
            if known is not None and is_final(known, commit):
                records.append(known)
                said = "measured earlier, in"
            else:
                gc.collect()  # a loader and its pipeline refer to each other, and would stay beside the next ones
                record, predictions = measure(config, views, checkpoint, network, shard_set, world)
                records.append(record)
                if world.is_main:
                    write_predictions(path, record, predictions)
                    if known is None or list_metrics(known) != list_metrics(record):
                        journal_record(run, record, checkpoint)
            if world.is_main:
                print(f"evaluate: {format_record(records[-1])}, {said} {path}", flush=True)
        if config.neighbours > 0:
            gc.collect()
            save_neighbours(
                Extractor(
                    config=config,
                    checkpoint=checkpoint,
                    network=network,
                    shard_set=shard_set,
                    commit=commit,
                    world=world,
                )
            )
        wait_for_all()
    if world.is_main:
        sync_or_warn(run)
    return records


def load_network(checkpoint: Checkpoint, world: World) -> AlexNet:
    """The network of a checkpoint on this rank's device."""
    config = checkpoint.config
    use_tensor_cores(enabled=config.precision == "tf32")
    network = build_alexnet(config.model, input_pixels=config.augment.input_pixels, seed=None)
    network.load_state_dict(checkpoint.model)
    return network.to(world.device)


Arrays = dict[str, npt.NDArray[np.generic]]


def measure(
    config: EvaluateConfig,
    views: Views,
    checkpoint: Checkpoint,
    network: nn.Module,
    shard_set: ShardSet,
    world: World,
) -> tuple[EvaluationRecord, list[Arrays]]:
    """Classify every picture of the split once over all ranks.

    Returns:
        The exact counts, and on the first rank every rank's predictions.
    """
    loader = EvaluationLoader(
        shard_set,
        checkpoint.config.augment,
        config.split,
        views,
        batch_size=config.batch_size,
        world=world,
        loading=config,
    )
    bar = tqdm(
        predict(network, loader.run(), precision=checkpoint.config.precision),
        total=len(loader),
        desc=f"evaluate {config.split}, {views}",
        unit=" batches",
        disable=None if world.is_main else True,
    )
    counts, predictions = ErrorCounts(), list[Prediction]()
    for prediction in bar:
        counts.add_batch(prediction.probabilities, prediction.labels)
        predictions.append(replace(prediction, probabilities=prediction.probabilities.cpu()))
    total = counts.sum_over_ranks(world.device)
    damaged, commit = gather_to_main(loader.damage.describe()), decide_on_main(read_commit)
    if world.is_main:
        record_damage(RunDirectory(config.run), damaged)
    record = EvaluationRecord(
        split=config.split,
        views=views,
        step=checkpoint.step,
        epoch=checkpoint.epoch,
        num_images=total.num_images,
        num_top1_errors=total.num_top1_errors,
        num_top5_errors=total.num_top5_errors,
        log_loss=total.log_loss,
        data_digest=shard_set.info.digest,
        commit=commit.id,
        dirty=commit.dirty,
        num_skipped=len(loader.split) - total.num_images,
    )
    return record, gather_to_main(_join_predictions(predictions))


def _join_predictions(predictions: list[Prediction]) -> Arrays:
    """One rank's predictions as arrays; empty arrays when it had no picture."""
    if not predictions:
        return {}
    return {
        "positions": np.concatenate([prediction.positions for prediction in predictions]),
        "labels": np.concatenate([prediction.labels.cpu().numpy() for prediction in predictions]),
        "probabilities": np.concatenate([prediction.probabilities.cpu().numpy() for prediction in predictions]),
    }


def write_predictions(path: Path, record: EvaluationRecord, parts: list[Arrays]) -> None:
    """Write probabilities in order of position, after proving that every picture is there once; then the counts."""
    filled = [part for part in parts if part]
    joined = {name: np.concatenate([part[name] for part in filled]) for name in filled[0]}
    order = np.argsort(joined["positions"])
    joined = {name: values[order] for name, values in joined.items()}
    assert len(np.unique(joined["positions"])) == len(order) == record.num_images, "a picture is missing or doubled"
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **joined)
    write_bytes(path.with_suffix(".npz"), content.getvalue())
    write_json(path, record)


def journal_record(run: RunDirectory, record: EvaluationRecord, checkpoint: Checkpoint) -> None:
    """Append the errors to the run's journal, at the checkpoint's step."""
    Journal(run.journal).append(
        step=record.step,
        epoch=record.step / checkpoint.steps_per_epoch,
        metrics=list_metrics(record),
    )


def list_metrics(record: EvaluationRecord) -> dict[str, float]:
    """The numbers by their names in the journal."""
    return {
        f"{record.split}/{record.views}_top1_error": record.top1_error,
        f"{record.split}/{record.views}_top5_error": record.top5_error,
        f"{record.split}/{record.views}_log_loss": record.log_loss,
        f"{record.split}/{record.views}_skipped_images": record.num_skipped,
    }


def format_record(record: EvaluationRecord) -> str:
    """The counts as a line for people."""
    return (
        f"{record.split}, {record.views} view{'s' if record.views == 'ten' else ''}, step {record.step}: "
        f"top-1 error {record.top1_error:.2%}, top-5 error {record.top5_error:.2%} of {record.num_images:,} pictures"
    ) + (f", {record.num_skipped:,} damaged left out" if record.num_skipped else "")
