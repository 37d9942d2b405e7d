"""What a run measured."""

import math
import re
from dataclasses import dataclass
from pathlib import Path

from pipeline.artifacts import EvaluationRecord, RunDirectory, RunRecord, read_json
from pipeline.experiments import describe_status, find_differences, get_experiment
from pipeline.tracking import Journal


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasuredRun:
    """One run: its configuration, its evaluations, and its curves as (epoch, value)."""

    path: Path
    record: RunRecord
    evaluations: tuple[EvaluationRecord, ...]
    val_top1_errors: tuple[tuple[float, float], ...]
    train_losses: tuple[tuple[float, float], ...]
    seconds: float  # in training steps alone, whatever lay between them
    num_skipped: int  # times that training, or validation within it, left out a damaged picture

    @property
    def num_epochs(self) -> float:
        """Epochs trained."""
        return self.train_losses[-1][0] if self.train_losses else 0.0

    def find_evaluation(self, split: str, views: str) -> EvaluationRecord | None:
        """The evaluation of the latest step for a split and views."""
        found = [record for record in self.evaluations if (record.split, record.views) == (split, views)]
        return max(found, key=lambda record: record.step, default=None)

    def find_probabilities(self, evaluation: EvaluationRecord) -> Path:
        """Where the probabilities of an evaluation lie."""
        name = f"{evaluation.split}-{evaluation.views}-step-{evaluation.step}.npz"
        return RunDirectory(self.path).predictions / name

    def describe_status(self) -> str:
        """The run's status in words."""
        return describe_status(self.record.experiment, self.record.config, self.record.status)

    def list_modifications(self) -> list[str]:
        """Fields that differ from the registered experiment, as `field = value (registered)`."""
        registered = get_experiment(self.record.experiment).config
        return [
            f"`{name}` = {found} ({expected})"
            for name, (expected, found) in find_differences(registered, self.record.config).items()
        ]


def format_epochs(epochs: float) -> str:
    """Epochs that were trained, rounded down to the tenth, so that only the whole is the whole."""
    return f"{math.floor(10 * epochs) / 10:g}"


def call_by_name(sentence: str, *paths: Path) -> str:
    """A sentence that calls run directories by their names, as the page does.

    What a server sent lies somewhere for a moment only.
    """
    for path in paths:
        name = path.name.replace("\\", r"\\")
        sentence = re.sub(rf"(?<![\w./-]){re.escape(str(path))}(?![\w.-])", name, sentence)
    return sentence


def read_run(path: Path) -> MeasuredRun:
    """Read a run directory.

    Raises:
        InputError: it is none.
    """
    run = RunDirectory(path if path.name not in ("", "..") else path.resolve())
    record, journal = run.read_record(), Journal(run.journal)
    return MeasuredRun(
        path=run.path,
        record=record,
        evaluations=tuple(read_json(file, EvaluationRecord) for file in sorted(run.predictions.glob("*.json"))),
        val_top1_errors=tuple((entry.epoch, value) for entry, value in journal.read_metric("val/top1_error")),
        train_losses=tuple((entry.epoch, value) for entry, value in journal.read_metric("train/loss")),
        seconds=sum(value for _, value in journal.read_metric("perf/seconds")),
        num_skipped=sum(
            round(value)
            for key in ("data/skipped_images", "val/skipped_images")
            for _, value in journal.read_metric(key)
        ),
    )
