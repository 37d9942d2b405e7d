"""The report's tables in Markdown: claim by claim, then run by run."""

from collections.abc import Sequence

from tabulate import tabulate

from pipeline import paper
from pipeline.artifacts import EvaluationRecord
from pipeline.report.measured import MeasuredRun, compute_interval, find_answer, judge

NOT_RUN = "not run"


def format_claims(runs: Sequence[MeasuredRun]) -> str:
    """Every claim in the paper's order beside the source's own record and what was measured."""
    rows = []
    for claim in paper.CLAIMS:
        answer = find_answer(claim, runs)
        measured, verdict, name = NOT_RUN, NOT_RUN, ""
        if answer is not None:
            run, evaluation = answer
            measured, verdict, name = _format_measured(evaluation), judge(claim, evaluation), run.path.name
        source = f"{_format_errors(claim.source, 2)} ({claim.source_net})" if claim.source else ""
        rows.append(
            (
                claim.text,
                claim.where,
                f"{claim.dataset} {claim.split}" if claim.dataset else "",
                _format_errors(claim.paper, 1),
                source,
                measured,
                verdict,
                name,
            )
        )
    headers = (
        "claim",
        "where",
        "data",
        "paper: top-1/top-5 error, %",
        "source's own record (net), %",
        "measured, % [95% interval]",
        "verdict",
        "run",
    )
    return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)


def _format_errors(errors: paper.Errors, digits: int) -> str:
    return "/".join(f"{value * 100:.{digits}f}" if value is not None else "–" for value in (errors.top1, errors.top5))


def _format_measured(evaluation: EvaluationRecord) -> str:
    parts = []
    for num_errors in (evaluation.num_top1_errors, evaluation.num_top5_errors):
        low, high = compute_interval(num_errors, evaluation.num_images)
        parts.append(f"{num_errors / evaluation.num_images * 100:.2f} [{low * 100:.2f}, {high * 100:.2f}]")
    return " / ".join(parts)


def format_runs(runs: Sequence[MeasuredRun]) -> str:
    """Every run that was read, whether or not it may answer a claim."""
    rows = []
    for run in runs:
        record = run.record
        measured = [run.find_evaluation("val", views) for views in ("center", "ten")]
        rows.append(
            (
                run.path.name,
                f"{record.experiment} ({record.status})",
                f"{record.num_train_images:,} / {record.num_val_images:,}, {record.config.model.num_classes} classes",
                f"{run.num_epochs:g} of {record.config.schedule.epochs}",
                *(_format_measured(evaluation) if evaluation else NOT_RUN for evaluation in measured),
                f"{100 * (1 - 1 / record.config.model.num_classes):.1f}",
                f"{run.seconds:.0f}",
                ", ".join(dict.fromkeys(start.format_commit() for start in record.starts)),
                "; ".join(dict.fromkeys(start.format_machine() for start in record.starts)),
            )
        )
    headers = (
        "run",
        "experiment",
        "train / val pictures",
        "epochs",
        "val, centre: top-1 / top-5 error, %",
        "val, ten views: top-1 / top-5 error, %",
        "chance, %",
        "seconds in training steps",
        "commit",
        "processes, machine",
    )
    return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)


def format_origins(runs: Sequence[MeasuredRun]) -> str:
    """For each run the command that started it, and what it changed in the registered experiment."""
    return "\n".join(_format_origin(run) for run in runs)


def _format_origin(run: MeasuredRun) -> str:
    said = f"- **{run.path.name}**: `{run.record.starts[0].command}`"
    if len(run.record.starts) > 1:
        said += f", resumed {len(run.record.starts) - 1} times"
    if run.num_skipped:
        said += f"; left out as damaged in training and its validation: {run.num_skipped:,} times"
    for found in run.evaluations:
        if found.num_skipped:
            whole = found.num_images + found.num_skipped
            said += (
                f"; {found.split}, {found.views}: {found.num_images:,} of {whole:,} pictures, the others are damaged"
            )
    if run.record.status == "modified":
        said += f"; changed (registered value in brackets): {'; '.join(run.list_modifications())}"
    return said
