"""Claims of errors and of differences between them, answered from counts and saved probabilities."""

from collections.abc import Sequence

import torch

from pipeline.artifacts import EvaluationRecord
from pipeline.claims import Claim, ErrorRate, ErrorRise
from pipeline.errors import InputError
from pipeline.evaluate.ensemble import average, read_predictions
from pipeline.evaluate.topk import ErrorCounts
from pipeline.report.answer import (
    Answer,
    Measurement,
    NotRunError,
    Verdict,
    format_measurement,
    list_seeds,
)
from pipeline.report.candidates import choose_runs, find_evaluation_obstacle, get_evaluation
from pipeline.report.intervals import Count, compute_interval, compute_paired_interval
from pipeline.report.measured import MeasuredRun, call_by_name
from pipeline.report.verdicts import judge_errors


def answer_errors(claim: Claim, measure: ErrorRate | ErrorRise, runs: Sequence[MeasuredRun]) -> Answer:
    """What runs say to a claim of errors.

    Raises:
        NotRunError: too few runs may take the row, or their probabilities are damaged.
    """
    try:
        if isinstance(measure, ErrorRate):
            return answer_rate(claim, measure, runs)
        return answer_rise(claim, measure, runs)
    except InputError as error:  # probabilities that are damaged or of other pictures cost the row, not the page
        raise NotRunError(call_by_name(str(error), *(run.path for run in runs))) from error


def answer_rate(claim: Claim, measure: ErrorRate, runs: Sequence[MeasuredRun]) -> Answer:
    """The errors of one run, or of the mean probabilities of several.

    Raises:
        NotRunError: too few runs may take the row.
    """
    is_ensemble = sum(num_seeds for _, num_seeds in measure.members) > 1
    chosen = [
        run
        for experiment, num_seeds in measure.members
        for run in choose_runs(
            runs,
            experiment,
            lambda run: find_evaluation_obstacle(run, measure.dataset, measure.split, measure.views, saved=is_ensemble),
            num_seeds=num_seeds,
        )
    ]
    counts: ErrorCounts | EvaluationRecord
    if is_ensemble:
        mean, _ = average([run.path for run in chosen], measure.split, measure.views)
        counts = together = ErrorCounts()
        together.add_batch(torch.from_numpy(mean.probabilities), torch.from_numpy(mean.labels))
    else:
        counts = get_evaluation(chosen[0], measure.split, measure.views)
    top1, top5 = (
        Measurement(value=count.error, interval=compute_interval(count))
        for count in (
            Count(counts.num_top1_errors, counts.num_images),
            Count(counts.num_top5_errors, counts.num_images),
        )
    )
    verdict, remarks = judge_errors(claim, top1, top5, "ensemble" if is_ensemble else "one run")
    return build_answer(
        claim,
        verdict,
        (*remarks, *list_weights(chosen)),
        chosen,
        top1,
        top5,
        num_images=counts.num_images,
        log_loss=counts.log_loss,
    )


def answer_rise(claim: Claim, measure: ErrorRise, runs: Sequence[MeasuredRun]) -> Answer:
    """By how much an experiment's errors are above those of its baseline, picture by picture.

    Raises:
        NotRunError: one of them has no run that may take the row, or they saw other pictures.
    """

    def find_obstacle(run: MeasuredRun) -> str | None:
        return find_evaluation_obstacle(run, measure.dataset, measure.split, measure.views, saved=True)

    chosen = [choose_runs(runs, experiment, find_obstacle)[0] for experiment in measure.experiments]
    saved = []
    for run in chosen:
        evaluation = get_evaluation(run, measure.split, measure.views)
        saved.append(read_predictions(run.find_probabilities(evaluation), evaluation.data_digest))
    if not saved[0].matches(saved[1]):
        raise NotRunError(f"{chosen[0].path.name} and {chosen[1].path.name} were evaluated on other pictures")
    worse, better = (predictions.mark_errors() for predictions in saved)
    num_images = worse.shape[1]
    top1, top5 = (
        Measurement(
            value=(int(first.sum()) - int(second.sum())) / num_images,
            interval=compute_paired_interval(int((first & ~second).sum()), int((second & ~first).sum()), num_images),
        )
        for first, second in zip(worse, better, strict=True)
    )
    verdict, remarks = judge_errors(claim, top1, top5, "difference")
    return build_answer(claim, verdict, remarks, chosen, top1, top5, num_images=num_images)


def build_answer(
    claim: Claim,
    verdict: Verdict,
    remarks: tuple[str, ...],
    runs: Sequence[MeasuredRun],
    top1: Measurement,
    top5: Measurement,
    *,
    num_images: int,
    log_loss: float | None = None,
) -> Answer:
    """An answer in errors."""
    text = " / ".join(map(format_measurement, (top1, top5)))
    return Answer(
        claim=claim,
        verdict=verdict,
        text=text if log_loss is None else f"{text}; log loss {log_loss:.4f}",
        remarks=(*remarks, *list_seeds(runs)),
        top1=top1,
        top5=top5,
        runs=tuple(runs),
        num_images=num_images,
    )


def list_weights(runs: Sequence[MeasuredRun]) -> tuple[str, ...]:
    """A remark on the weights that pre-trained runs began with, since nothing here knows what those were trained on."""
    digests = [run.record.weights_digest[:12] for run in runs if run.record.weights_digest]
    said = "began with the weights of SHA-256 {}; that they are of Fall 2011 is not proved"
    return (said.format(", ".join(digests)),) if digests else ()
