"""What the runs say to every claim of the paper."""

from collections.abc import Sequence
from dataclasses import replace

from pipeline.claims import CLAIMS, AnyRun, Claim, ErrorRate, ErrorRise, KernelColors, Neighbours, NetworkCount
from pipeline.report.answer import Answer, Measurement, NotRunError, Verdict
from pipeline.report.error_answers import answer_errors
from pipeline.report.measured import MeasuredRun
from pipeline.report.network_answers import answer_network
from pipeline.report.training_answers import answer_training

__all__ = ["Answer", "Measurement", "Verdict", "list_answers"]


def list_answers(runs: Sequence[MeasuredRun]) -> list[Answer]:
    """An answer to every claim, in the paper's order.

    Runs are only set beside others on the same shard set; where there are several sets, the first one that has all the
    runs that a claim needs answers it. What a single run of several experiments may show is looked for in all of them.
    """
    digests = dict.fromkeys(run.record.data_digest for run in runs)
    groups = [[run for run in runs if run.record.data_digest == digest] for digest in digests] or [[]]
    return [answer_claim(claim, groups) for claim in CLAIMS]


def answer_claim(claim: Claim, groups: Sequence[Sequence[MeasuredRun]]) -> Answer:
    """The answer of the first group of runs that has one; otherwise that nobody ran it, and what is in the way."""
    if claim.by_others:
        return Answer(claim=claim, verdict="others' work")
    if isinstance(claim.measure, AnyRun):
        groups = [[run for runs in groups for run in runs]]
    obstacles = list[str]()
    for runs in groups:
        try:
            answer = measure_claim(claim, runs)
        except NotRunError as error:
            obstacles += error.args
        else:
            return replace(answer, remarks=(*answer.remarks, *list_rivals(answer, groups)))
    return Answer(claim=claim, verdict="not run", remarks=tuple(dict.fromkeys(obstacles)))


def list_rivals(answer: Answer, groups: Sequence[Sequence[MeasuredRun]]) -> tuple[str, ...]:
    """A remark on runs of the same experiments and seeds that could have answered, had they come first."""
    names = [
        rival.path.name
        for runs in groups
        for rival in runs
        if all(rival is not run for run in answer.runs)
        and any(is_twin(rival, run) for run in answer.runs)
        and can_answer(answer.claim, rival, [run for run in runs if run is rival or not is_twin(rival, run)])
    ]
    return (f"{', '.join(names)} could have answered, too, and came later",) if names else ()


def is_twin(run: MeasuredRun, other: MeasuredRun) -> bool:
    """Whether two runs are of one experiment and seed."""
    ours, theirs = run.record, other.record
    return (ours.experiment, ours.config.seed) == (theirs.experiment, theirs.config.seed)


def can_answer(claim: Claim, run: MeasuredRun, runs: Sequence[MeasuredRun]) -> bool:
    """Whether a run is among those that answer a claim."""
    try:
        return any(run is found for found in measure_claim(claim, runs).runs)
    except NotRunError:
        return False


def measure_claim(claim: Claim, runs: Sequence[MeasuredRun]) -> Answer:
    """Measure a claim as its kind asks for.

    Raises:
        NotRunError: no run may take its row.
    """
    match claim.measure:
        case None:
            raise NotRunError
        case ErrorRate() | ErrorRise() as measure:
            return answer_errors(claim, measure, runs)
        case NetworkCount() | KernelColors() | Neighbours() as measure:
            return answer_network(claim, measure, runs)
        case measure:
            return answer_training(claim, measure, runs)
