"""Which class a run took each picture for, from its saved probabilities."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.artifacts import ClassInfo, EvaluationRecord, RunDirectory, ShardSetInfo, read_json
from pipeline.drawing import shorten
from pipeline.evaluate.ensemble import Predictions, read_predictions
from pipeline.report.measured import MeasuredRun

NAME_COLUMNS = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class Guesses:
    """The label of each picture of a split, and the one that it was taken for.

    A tie with the right label is an error, as in the counts of the evaluation.
    """

    evaluation: EvaluationRecord
    classes: tuple[str, ...]
    """Names by label."""
    labels: npt.NDArray[np.int64]
    """(N,) int64."""
    likeliest: npt.NDArray[np.int64]
    """(N,) int64."""

    def describe(self) -> str:
        """Which pictures, and how they were seen."""
        views = "ten views" if self.evaluation.views == "ten" else "centre patch"
        return f"{self.evaluation.num_images:,} pictures of {self.evaluation.split}, {views}"


def read_guesses(run: MeasuredRun) -> Guesses | None:
    """Those of a run's newest saved evaluation, of test and of ten views first; None where there is none.

    Raises:
        InputError: the run directory has no description of its data.
    """
    evaluation = find_saved(run)
    if evaluation is None:
        return None
    predictions = read_predictions(get_predictions_file(run, evaluation), evaluation.data_digest)
    return Guesses(
        evaluation=evaluation,
        classes=name_classes(read_json(RunDirectory(run.path).dataset, ShardSetInfo).classes),
        labels=predictions.labels,
        likeliest=find_likeliest(predictions),
    )


def find_saved(run: MeasuredRun) -> EvaluationRecord | None:
    """The newest evaluation that has left its predictions, of test and of ten views first; never of train."""
    return max(
        (found for found in run.evaluations if found.split != "train" and get_predictions_file(run, found).is_file()),
        key=lambda found: (found.step, found.split == "test", found.views == "ten"),
        default=None,
    )


def get_predictions_file(run: MeasuredRun, evaluation: EvaluationRecord) -> Path:
    """Where an evaluation's probabilities lie."""
    name = f"{evaluation.split}-{evaluation.views}-step-{evaluation.step}.npz"
    return RunDirectory(run.path).predictions / name


def find_likeliest(predictions: Predictions) -> npt.NDArray[np.int64]:
    """The likeliest label of each picture, (N,); of a picture that counts as an error the likeliest wrong one."""
    (wrong,) = np.nonzero(predictions.mark_errors()[0])
    others = predictions.probabilities[wrong]
    others[np.arange(len(wrong)), predictions.labels[wrong]] = -np.inf
    likeliest = predictions.labels.copy()
    likeliest[wrong] = others.argmax(axis=1)
    return likeliest


def name_classes(classes: tuple[ClassInfo, ...]) -> tuple[str, ...]:
    """The first of each class's names, with its id where another class has it, too: ImageNet has two cranes."""
    first = [shorten(info.name.split(",")[0], NAME_COLUMNS) for info in classes]
    known = Counter(first)
    return tuple(
        name if known[name] == 1 else f"{name} ({shorten(info.id, NAME_COLUMNS)})"
        for name, info in zip(first, classes, strict=True)
    )
