"""Several runs as one: their saved probabilities averaged, picture by picture (Table 2)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from tabulate import tabulate

from pipeline.artifacts import EvaluationRecord, RunDirectory, Split, read_json, write_json
from pipeline.errors import InputError, check
from pipeline.evaluate.topk import ErrorCounts
from pipeline.options import EnsembleConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """One run of an ensemble: where it is, what it trained, and how it does alone."""

    run: str
    experiment: str
    status: str
    step: int
    top1_error: float
    top5_error: float


@dataclass(frozen=True, kw_only=True, slots=True)
class EnsembleRecord:
    """Exact counts of the averaged probabilities, and the runs that they are from."""

    split: Split
    views: Literal["center", "ten"]
    data_digest: str
    members: tuple[Member, ...]
    num_images: int
    num_top1_errors: int
    num_top5_errors: int
    log_loss: float


def combine(config: EnsembleConfig) -> EnsembleRecord:
    """Average the probabilities of the runs' newest evaluations, count errors, and print them beside each run's own.

    Raises:
        InputError: a run has no such predictions, or they are of other pictures than the first one's.
    """
    members, probabilities, reference = list[Member](), 0.0, None
    for path in config.runs:
        file, evaluation = find_predictions(path, config.split, config.views)
        with np.load(file) as saved:
            pictures = (evaluation.data_digest, saved["positions"], saved["labels"])
            reference = reference or pictures
            check(
                pictures[0] == reference[0] and all(map(np.array_equal, pictures[1:], reference[1:])),
                f"{path} was evaluated on other pictures than {config.runs[0]}: evaluate all on one shard set",
            )
            probabilities = probabilities + saved["probabilities"].astype(np.float64)
        run = RunDirectory(path).read_record()
        members.append(
            Member(
                run=str(path),
                experiment=run.experiment,
                status=run.status,
                step=evaluation.step,
                top1_error=evaluation.top1_error,
                top5_error=evaluation.top5_error,
            )
        )
    assert reference is not None
    counts = ErrorCounts()
    mean = torch.from_numpy(np.asarray(probabilities / len(members)))
    counts.add_batch(mean, torch.from_numpy(reference[2]))
    record = EnsembleRecord(
        split=config.split,
        views=config.views,
        data_digest=reference[0],
        members=tuple(members),
        num_images=counts.num_images,
        num_top1_errors=counts.num_top1_errors,
        num_top5_errors=counts.num_top5_errors,
        log_loss=counts.log_loss,
    )
    if config.out is not None:
        write_json(config.out, record)
    print(format_ensemble(record, counts))
    return record


def find_predictions(path: Path, split: Split, views: str) -> tuple[Path, EvaluationRecord]:
    """The probabilities of a run's newest evaluation, and its counts.

    Raises:
        InputError: there are none.
    """
    files = RunDirectory(path).predictions.glob(f"{split}-{views}-step-*.json")
    found = sorted((read_json(file, EvaluationRecord) for file in files), key=lambda record: record.step)
    if not found:
        raise InputError(
            f"{path} has no predictions for {split}, {views}: run `alexnet evaluate {path} --split {split}` first"
        )
    return RunDirectory(path).predictions / f"{split}-{views}-step-{found[-1].step}.npz", found[-1]


def format_ensemble(record: EnsembleRecord, counts: ErrorCounts) -> str:
    """A row a run, and one for all together."""
    rows = [
        (member.run, f"{member.experiment} ({member.status})", f"{member.top1_error:.2%}", f"{member.top5_error:.2%}")
        for member in record.members
    ]
    rows.append((f"the {len(rows)} together", "", f"{counts.top1_error:.2%}", f"{counts.top5_error:.2%}"))
    title = f"{record.split}, {record.views} view{'s' if record.views == 'ten' else ''}, {record.num_images:,} pictures"
    return f"{title}\n" + tabulate(
        rows, headers=("run", "experiment", "top-1 error", "top-5 error"), colalign=("left", "left", "right", "right")
    )
