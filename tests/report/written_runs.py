"""Run directories as training and evaluation leave them, on an ImageNet of a few pictures, with errors as asked for."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import paper
from pipeline.artifacts import EvaluationRecord, RunDirectory, RunRecord, Start, to_json
from pipeline.experiments import get_experiment, get_status
from pipeline.options import PackingConfig
from pipeline.report.measured import MeasuredRun, read_run

NUM_TRAIN, NUM_EVALUATED, NUM_CLASSES = 256, 400, 8
DIGEST = "d1ge57" * 10
START = Start(
    command="alexnet train",
    commit="c0ffee" * 7,
    dirty=False,
    machine="AMD EPYC, 2 cores",
    device="CPU",
    world_size=1,
    tools={},
    time=0.0,
    hosts=("node",),
)


@pytest.fixture(autouse=True)
def tiny_imagenet(monkeypatch: pytest.MonkeyPatch) -> None:
    """The official counts of data sets that these runs have seen the whole of."""
    counts = {"train": NUM_TRAIN, "val": NUM_EVALUATED, "test": NUM_EVALUATED}
    monkeypatch.setattr(paper, "NUM_IMAGES", {"ILSVRC-2010": counts, "ILSVRC-2012": counts})
    monkeypatch.setattr(paper, "CIFAR10_NUM_IMAGES", counts)


def write_run(
    folder: Path,
    experiment: str,
    *,
    seed: int = 0,
    train_errors: Sequence[float] = (0.5,),
    val_error: float = 0.5,
    **changes: Any,
) -> Path:
    """Write a finished run of an experiment.

    Args:
        folder: where runs lie; this one has the experiment's name and its seed's.
        experiment: as registered but for the seed.
        seed: 0 is the registered one.
        train_errors: of the first epochs; the last one goes on to the end.
        val_error: after the last epoch.
        changes: fields of its record that are not as they should be.
    """
    config = dataclasses.replace(get_experiment(experiment).config, seed=seed)
    record = RunRecord(
        id=f"{experiment}-{seed}",
        experiment=experiment,
        status=get_status(experiment, config),
        config=config,
        data="/data",
        data_digest=DIGEST,
        data_layout="cifar10" if config.model.num_classes == 10 else "ilsvrc2012",
        data_complete=True,
        data_packing=PackingConfig(pixels=32 if config.model.num_classes == 10 else 256),
        num_dropped_images=0,
        num_train_images=NUM_TRAIN,
        num_val_images=NUM_EVALUATED,
        starts=(START,),
        weights="weights.pt" if config.pretrained != "none" else None,
        weights_digest="ab" * 32 if config.pretrained != "none" else None,
    )
    run = RunDirectory(folder / (f"{experiment}-{seed}" if seed else experiment))
    write_quickly(run.config, dataclasses.replace(record, **changes))
    lines = []
    for epoch in range(1, config.schedule.epochs + 1):
        error = train_errors[min(epoch, len(train_errors)) - 1]
        metrics = {"train/loss": error, "train/top1_error": error, "val/top1_error": val_error, "perf/seconds": 60.0}
        lines.append(json.dumps({"step": 2 * epoch, "epoch": epoch, "time": 0.0, "metrics": metrics}) + "\n")
    run.journal.write_text("".join(lines))
    return run.path


def write_quickly(path: Path, value: Any) -> None:
    """`write_json` for many files at once: without bringing each one to disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(to_json(value))


def write_evaluation(
    path: Path, ranks: Sequence[int], *, split: str = "val", views: str = "ten", **changes: Any
) -> None:
    """Save the predictions of a run whose network holds each picture's label to be the likeliest but so many."""
    generator = np.random.default_rng(len(path.name) + sum(ranks))
    labels = np.arange(len(ranks)) % NUM_CLASSES
    probabilities = np.sort(generator.random((len(ranks), NUM_CLASSES)), axis=1)[:, ::-1]
    probabilities /= probabilities.sum(1, keepdims=True)
    order = np.stack([np.roll(np.delete(np.arange(NUM_CLASSES), label), label) for label in labels])
    columns = np.stack([np.insert(row, rank, label) for row, rank, label in zip(order, ranks, labels, strict=True)])
    placed = np.empty_like(probabilities)
    np.put_along_axis(placed, columns, probabilities, axis=1)
    run, asked = RunDirectory(path), np.asarray(ranks)
    epochs = run.read_record().config.schedule.epochs
    record = EvaluationRecord(
        split=split,
        views=views,
        step=2 * epochs,
        epoch=epochs,
        num_images=len(ranks),
        num_top1_errors=int((asked > 0).sum()),
        num_top5_errors=int((asked > 4).sum()),
        log_loss=float(-np.log(placed[np.arange(len(labels)), labels]).mean()),
        data_digest=run.read_record().data_digest,
        commit=run.read_record().starts[-1].commit,
        dirty=False,
    )
    arrays = {"positions": np.arange(len(ranks)), "labels": labels, "probabilities": placed.astype(np.float32)}
    file = run.predictions / f"{split}-{views}-step-{record.step}.json"
    write_quickly(file, dataclasses.replace(record, **changes))
    np.savez(file.with_suffix(".npz"), allow_pickle=False, **arrays)


def write_kernels(path: Path, kernels: np.ndarray) -> None:
    """Save the first layer's kernels of a run."""
    RunDirectory(path).figures.mkdir(exist_ok=True)
    np.save(RunDirectory(path).kernels, kernels)


def draw_ranks(generator: np.random.Generator, *, top1: int, top5: int) -> list[int]:
    """Ranks of labels with so many top-1 and, among them, top-5 errors, in any order of pictures."""
    ranks = np.array([5] * top5 + [1] * (top1 - top5) + [0] * (NUM_EVALUATED - top1))
    return generator.permutation(ranks).tolist()


def read_runs(*paths: Path) -> list[MeasuredRun]:
    """What the report reads."""
    return [read_run(path) for path in paths]
