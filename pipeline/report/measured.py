"""What the runs measured, and which claim of the paper each may answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scipy.stats import binomtest

from pipeline import paper
from pipeline.artifacts import EvaluationRecord, RunDirectory, RunRecord, read_json
from pipeline.experiments import find_differences, get_experiment, get_status
from pipeline.tracking import Journal

CONFIDENCE = 0.95


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

    def list_modifications(self) -> list[str]:
        """Fields that differ from the registered experiment, as `field = value (registered)`."""
        registered = get_experiment(self.record.experiment).config
        return [
            f"`{name}` = {found} ({expected})"
            for name, (expected, found) in find_differences(registered, self.record.config).items()
        ]


def read_run(path: Path) -> MeasuredRun:
    """Read a run directory.

    Raises:
        InputError: it is none.
    """
    run = RunDirectory(path)
    record, journal = run.read_record(), Journal(run.journal)
    return MeasuredRun(
        path=path,
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


def compute_interval(num_errors: int, num_images: int) -> tuple[float, float]:
    """95% interval of an error (Wilson), as fractions."""
    interval = binomtest(num_errors, num_images).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


def find_answer(claim: paper.Claim, runs: Sequence[MeasuredRun]) -> tuple[MeasuredRun, EvaluationRecord] | None:
    """The run that may take a claim's row, and the evaluation that does.

    It takes the registered configuration, committed code at every start, the whole data set but for pictures that were
    undecodable when it was packed, and the errors of the last epoch. A difference between two experiments is no single
    run's to answer.
    """
    if claim.dataset is None or claim.split is None or claim.worse_than is not None:
        return None
    sizes = paper.NUM_IMAGES[claim.dataset]
    for run in runs:
        record, evaluation = run.record, run.find_evaluation(claim.split, claim.views)
        if (
            evaluation is not None
            and record.experiment == claim.experiment
            and record.status == get_status(record.experiment, record.config) == "as registered"
            and not any(start.dirty for start in record.starts)
            and evaluation.epoch == record.config.schedule.epochs
            and is_official(record)
            and run.num_skipped == evaluation.num_skipped == 0
            and 0 <= sizes["train"] - record.num_train_images <= record.num_dropped_images
            and 0 <= sizes[claim.split] - evaluation.num_images <= record.num_dropped_images
        ):
            return run, evaluation
    return None


def is_official(record: RunRecord) -> bool:
    """Whether a run saw the whole of an official data set, the pictures made as in §2."""
    packing = record.data_packing
    return record.data_complete and packing.resize == "crop" and packing.pixels == paper.IMAGE_PIXELS


def judge(claim: paper.Claim, evaluation: EvaluationRecord) -> str:
    """Whether the paper's top-1 error lies in the measured one's 95% interval, below it or above it."""
    low, high = compute_interval(evaluation.num_top1_errors, evaluation.num_images)
    assert claim.paper.top1 is not None
    if low <= claim.paper.top1 <= high:
        return "reproduced"
    return "better than the paper" if high < claim.paper.top1 else "not reproduced"
