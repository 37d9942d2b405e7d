"""Several runs as one: their saved probabilities averaged, picture by picture (Table 2)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
import torch
from tabulate import tabulate

from pipeline.artifacts import EvaluationRecord, RunDirectory, Split, read_json, write_json
from pipeline.errors import InputError, check
from pipeline.evaluate.topk import ErrorCounts, mark_errors
from pipeline.experiments import describe_status
from pipeline.options import EnsembleConfig

Views = Literal["center", "ten"]


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
    views: Views
    data_digest: str
    members: tuple[Member, ...]
    num_images: int
    num_top1_errors: int
    num_top5_errors: int
    log_loss: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Predictions:
    """Saved probabilities (N, classes) of pictures at `positions` (N,) of a shard set, and their labels (N,)."""

    data_digest: str
    positions: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.floating[Any]]

    def matches(self, other: "Predictions") -> bool:
        """Whether both are of the same pictures, in the same order."""
        return (
            self.data_digest == other.data_digest
            and np.array_equal(self.positions, other.positions)
            and np.array_equal(self.labels, other.labels)
        )

    def mark_errors(self) -> npt.NDArray[np.bool_]:
        """Top-1 and top-5 errors, (2, N)."""
        marked: npt.NDArray[np.bool_] = mark_errors(
            torch.from_numpy(self.probabilities), torch.from_numpy(self.labels)
        ).numpy()
        return marked


def read_predictions(file: Path, data_digest: str) -> Predictions:
    """Read the probabilities that an evaluation saved.

    Raises:
        InputError: the file is damaged.
    """
    try:
        with file.open("rb") as content, np.load(content) as saved:
            return Predictions(data_digest=data_digest, **{name: saved[name] for name in saved.files})
    except (BadZipFile, EOFError, TypeError, ValueError) as error:
        raise InputError(
            f"{file} is damaged ({error}): remove it and {file.with_suffix('.json').name}, and run `alexnet evaluate` "
            "again"
        ) from error


def average(paths: Sequence[Path], split: Split, views: Views) -> tuple[Predictions, list[EvaluationRecord]]:
    """The mean probabilities, in float64, of the runs' newest evaluations, and what each one counted.

    Raises:
        InputError: a run has no such predictions, or they are of other pictures than the first one's.
    """
    first, total, evaluations = None, np.zeros(()), list[EvaluationRecord]()
    for path in paths:
        file, evaluation = find_predictions(path, split, views)
        found = read_predictions(file, evaluation.data_digest)
        first = first or found
        check(
            found.matches(first),
            f"{path} was evaluated on other pictures than {paths[0]}: evaluate all on one shard set",
        )
        total = total + found.probabilities.astype(np.float64)
        evaluations.append(evaluation)
    assert first is not None
    return replace(first, probabilities=total / len(paths)), evaluations


def combine(config: EnsembleConfig) -> EnsembleRecord:
    """Average the probabilities of the runs' newest evaluations, count errors, and print them beside each run's own.

    Raises:
        InputError: a run has no such predictions, or they are of other pictures than the first one's.
    """
    mean, evaluations = average(config.runs, config.split, config.views)
    members = []
    for path, evaluation in zip(config.runs, evaluations, strict=True):
        run = RunDirectory(path).read_record()
        members.append(
            Member(
                run=str(path),
                experiment=run.experiment,
                status=describe_status(run.experiment, run.config, run.status),
                step=evaluation.step,
                top1_error=evaluation.top1_error,
                top5_error=evaluation.top5_error,
            )
        )
    counts = ErrorCounts()
    counts.add_batch(torch.from_numpy(mean.probabilities), torch.from_numpy(mean.labels))
    record = EnsembleRecord(
        split=config.split,
        views=config.views,
        data_digest=mean.data_digest,
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


def find_predictions(path: Path, split: Split, views: Views) -> tuple[Path, EvaluationRecord]:
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
