"""Claims of how training goes, answered from journals, and one from evaluations of both splits."""

import math
from collections.abc import Callable, Sequence
from functools import partial

from pipeline.artifacts import RunDirectory, Split
from pipeline.claims import AnyRun, Claim, Dataset, EpochRatio, GapRise, TrainingErrorRise, TrainingTime
from pipeline.durations import format_seconds
from pipeline.report.answer import Answer, Measurement, NotRunError, format_measurement, list_seeds
from pipeline.report.candidates import (
    choose_runs,
    find_evaluation_obstacle,
    find_training_obstacle,
    get_evaluation,
)
from pipeline.report.curves import average_by_epoch, find_crossing, format_crossing
from pipeline.report.document import format_count
from pipeline.report.intervals import Count, compute_sum_interval
from pipeline.report.measured import MeasuredRun
from pipeline.report.verdicts import find_claimed, judge_bounds, judge_difference
from pipeline.tracking import Journal

ABOVE_ZERO = (0.0, math.inf)
GAP_SPLITS: tuple[Split, Split] = "train", "val"


def answer_training(
    claim: Claim, measure: TrainingErrorRise | GapRise | EpochRatio | TrainingTime, runs: Sequence[MeasuredRun]
) -> Answer:
    """What runs say to a claim of how training goes.

    Raises:
        NotRunError: too few runs may take the row.
    """
    match measure:
        case TrainingErrorRise():
            return answer_training_rise(claim, measure, runs)
        case GapRise():
            return answer_gap_rise(claim, measure, runs)
        case EpochRatio():
            return answer_epoch_ratio(claim, measure, runs)
        case TrainingTime():
            return answer_time(claim, measure, runs)


def answer_training_rise(claim: Claim, measure: TrainingErrorRise, runs: Sequence[MeasuredRun]) -> Answer:
    """By how much the training error of the last epoch is above the baseline's.

    Raises:
        NotRunError: one of them has no run that may take the row.
    """
    chosen = choose_pair(measure, runs)
    worse, better = map(count_training_errors, chosen)
    rise = Measurement(value=worse.error - better.error, interval=compute_sum_interval([worse], [better]))
    return build_rise(
        claim, chosen, rise, f"{worse.error:.2%} without it, {better.error:.2%} with it: {format_measurement(rise)}"
    )


def answer_gap_rise(claim: Claim, measure: GapRise, runs: Sequence[MeasuredRun]) -> Answer:
    """By how much the gap from training to validation error, of the finished network, is wider than the baseline's.

    Raises:
        NotRunError: one of them has no run that may take the row.
    """
    chosen = choose_pair(measure, runs, find_gap_obstacle)
    (worse, worse_val), (better, better_val) = (
        [count_center_errors(run, split) for split in GAP_SPLITS] for run in chosen
    )
    gaps = worse_val.error - worse.error, better_val.error - better.error
    rise = Measurement(value=gaps[0] - gaps[1], interval=compute_sum_interval([worse_val, better], [worse, better_val]))
    said = (f"{val.error:.2%} − {train.error:.2%}" for val, train in ((worse_val, worse), (better_val, better)))
    return build_rise(
        claim,
        chosen,
        rise,
        "validation − training: {} without it, {} with it: {}".format(*said, format_measurement(rise)),
    )


def build_rise(claim: Claim, runs: Sequence[MeasuredRun], rise: Measurement, text: str) -> Answer:
    """An answer to a claim that something is higher without what the paper adds."""
    return Answer(
        claim=claim,
        verdict=judge_difference(rise.interval, ABOVE_ZERO),
        text=text,
        remarks=list_seeds(runs),
        runs=tuple(runs),
    )


def answer_epoch_ratio(claim: Claim, measure: EpochRatio, runs: Sequence[MeasuredRun]) -> Answer:
    """How many times as many epochs one takes to a training error as the other (Fig. 1).

    Raises:
        NotRunError: one of them has no run that may take the row.
    """
    chosen = choose_pair(measure, runs)
    slow, quick = (find_crossing(average_training_errors(run), measure.threshold) for run in chosen)
    if not quick.found:
        raise NotRunError(f"{chosen[1].path.name} never comes below {measure.threshold:.0%}")
    ratio = slow.epoch / quick.epoch
    low = ratio if slow.exact or not slow.found else 0.0
    high = ratio if slow.found and quick.exact else math.inf
    if low == 0 and math.isinf(high):
        raise NotRunError(f"{chosen[0].path.name} and {chosen[1].path.name} both begin below {measure.threshold:.0%}")
    bound = "" if low == high else "at least " if low > 0 else "at most "
    return Answer(
        claim=claim,
        verdict=judge_bounds((low, high), find_claimed(measure.times, precision=1.0)),
        text=f"{bound}{ratio:.1f} times: {format_crossing(slow)} and {format_crossing(quick)}",
        remarks=list_seeds(chosen),
        runs=tuple(chosen),
    )


def answer_time(claim: Claim, measure: TrainingTime, runs: Sequence[MeasuredRun]) -> Answer:
    """How long a run trained, validation left out.

    Raises:
        NotRunError: none may take the row.
    """
    run = choose_any(measure, runs)
    machines = dict.fromkeys(start.format_machine() for start in run.record.starts)
    return Answer(
        claim=claim,
        verdict="no verdict",
        text=f"{format_seconds(run.seconds)} for {format_count(run.record.config.schedule.epochs, 'epoch')}",
        remarks=tuple(machines),
        runs=(run,),
    )


def choose_pair(
    measure: TrainingErrorRise | GapRise | EpochRatio,
    runs: Sequence[MeasuredRun],
    find_obstacle: Callable[[MeasuredRun, Dataset], str | None] = find_training_obstacle,
) -> tuple[MeasuredRun, MeasuredRun]:
    """A finished run of the experiment, and one of its baseline.

    Raises:
        NotRunError: one of them is not there.
    """
    first, second = (
        choose_runs(runs, experiment, lambda run: find_obstacle(run, measure.dataset))[0]
        for experiment in measure.experiments
    )
    return first, second


def choose_any(measure: AnyRun, runs: Sequence[MeasuredRun]) -> MeasuredRun:
    """A finished run of the first experiment that has one.

    Raises:
        NotRunError: there is none.
    """
    refused = list[str]()
    for experiment, dataset in measure.choices:
        try:
            return choose_runs(runs, experiment, partial(find_training_obstacle, dataset=dataset))[0]
        except NotRunError as error:
            refused += error.args
    raise NotRunError(*refused)


def average_training_errors(run: MeasuredRun) -> tuple[tuple[float, float], ...]:
    """(epochs finished, mean training top-1 error over the last of them)."""
    return average_by_epoch(Journal(RunDirectory(run.path).journal).read_metric("train/top1_error"))


def count_training_errors(run: MeasuredRun) -> Count:
    """Top-1 errors in the last epoch, among the pictures of its whole batches."""
    num_images = run.record.num_train_images - run.record.num_train_images % run.record.config.global_batch_size
    return Count(round(average_training_errors(run)[-1][1] * num_images), num_images)


def find_gap_obstacle(run: MeasuredRun, dataset: Dataset) -> str | None:
    """Why a run may take no row of the gap between training and validation: both must have been evaluated."""
    obstacles = (find_evaluation_obstacle(run, dataset, split, "center", saved=False) for split in GAP_SPLITS)
    return next(filter(None, obstacles), None)


def count_center_errors(run: MeasuredRun, split: Split) -> Count:
    """Top-1 errors of the centre patches of a split, by an evaluation that is there."""
    evaluation = get_evaluation(run, split, "center")
    return Count(evaluation.num_top1_errors, evaluation.num_images)
