"""The report's tables: claim by claim, then run by run."""

from collections.abc import Sequence

from pipeline.artifacts import EvaluationRecord, RunRecord, format_commit
from pipeline.claims import AnyRun, Claim, Comparison, ErrorRate, ErrorRise, Errors
from pipeline.durations import format_clock
from pipeline.report.answer import Answer, Measurement, format_measurement
from pipeline.report.document import Table
from pipeline.report.intervals import Count, compute_interval
from pipeline.report.measured import MeasuredRun, format_epochs

NOT_RUN, NOT_EVALUATED = "not run", "not evaluated"
DIGEST_CHARACTERS = 12


def build_claims_table(answers: Sequence[Answer]) -> Table:
    """Every claim in the paper's order beside the source's own record and what was measured, and by which runs."""
    rows = tuple(
        (
            answer.claim.text,
            answer.claim.where,
            format_data(answer.claim),
            format_paper(answer.claim),
            format_source(answer.claim),
            answer.text or (NOT_RUN if answer.verdict == NOT_RUN else ""),
            answer.verdict,
            format_experiments(answer.claim),
            ", ".join(run.path.name for run in answer.runs),
            ", ".join(list_commits(answer.runs)),
            format_shard_sets(answer),
            ", ".join(format_clock(run.seconds) for run in answer.runs),
            "; ".join(filter(None, (answer.claim.note, *answer.remarks))),
        )
        for answer in answers
    )
    headers = (
        "claim",
        "where",
        "data",
        "paper: top-1/top-5 error, %",
        "source's own record, %",
        "measured, % [95% interval]",
        "verdict",
        "experiment",
        "run",
        "commit",
        "shard set",
        "training time, h:mm:ss",
        "remarks",
    )
    return Table(name="claims", headers=headers, rows=rows, printed=(*headers[:7], "run"))


def format_data(claim: Claim) -> str:
    """Data set, split and views of a claim that an experiment measures."""
    match claim.measure:
        case ErrorRate() | ErrorRise() as measure:
            return f"{measure.dataset} {measure.split}, {'ten views' if measure.views == 'ten' else 'centre'}"
        case Comparison(dataset=dataset):
            return dataset
        case AnyRun(choices=choices):
            return " or ".join(dict.fromkeys(dataset for _, dataset in choices))
        case _:
            return ""


def format_paper(claim: Claim) -> str:
    """What the paper says, errors in percent with as many digits as it prints."""
    if isinstance(claim.paper, str):
        return claim.paper
    return format_errors(claim.paper, digits=0 if claim.precision >= 0.01 else 1)


def format_source(claim: Claim) -> str:
    """What the source recorded, and for which net."""
    if claim.source is None:
        return ""
    log_loss = f", log loss {claim.source_log_loss:.4f}" if claim.source_log_loss is not None else ""
    return f"{format_errors(claim.source, digits=2)}{log_loss} (net {claim.source_net})"


def format_errors(errors: Errors, *, digits: int) -> str:
    """Both errors in percent."""
    return "/".join(f"{value * 100:.{digits}f}" if value is not None else "–" for value in (errors.top1, errors.top5))


def format_experiments(claim: Claim) -> str:
    """What measures a claim."""
    match claim.measure:
        case None:
            return ""
        case ErrorRate(members=members):
            return " + ".join(f"{num_seeds} × {name}" if num_seeds > 1 else name for name, num_seeds in members)
        case AnyRun() as measure:
            return " or ".join(measure.experiments)
        case measure:
            return " against ".join(measure.experiments)


def list_commits(runs: Sequence[MeasuredRun]) -> list[str]:
    """The commits that trained and evaluated, in short, each once."""
    trained = (start.format_commit() for run in runs for start in run.record.starts)
    evaluated = (format_commit(made.commit, dirty=made.dirty) for run in runs for made in run.evaluations)
    return list(dict.fromkeys((*trained, *evaluated)))


def format_shard_sets(answer: Answer) -> str:
    """Layout, digest in short and number of pictures of what the runs were trained on."""
    records = (run.record for run in answer.runs)
    trained = dict.fromkeys(f"{format_digest(record)}, {record.num_train_images:,} to train" for record in records)
    classified = [f"{answer.num_images:,} classified"] if answer.num_images is not None else []
    return ", ".join((*trained, *classified))


def format_digest(record: RunRecord) -> str:
    """A shard set's layout and digest in short."""
    return f"{record.data_layout} {record.data_digest[:DIGEST_CHARACTERS]}"


def build_runs_table(runs: Sequence[MeasuredRun]) -> Table:
    """Every run that was read, whether or not it may answer a claim."""
    rows = []
    for run in runs:
        record = run.record
        measured = [run.find_evaluation("val", views) for views in ("center", "ten")]
        rows.append(
            (
                run.path.name,
                f"{record.experiment} ({run.describe_status()})",
                str(record.config.seed),
                f"{record.num_train_images:,} / {record.num_val_images:,}, {record.config.model.num_classes} classes",
                format_digest(record),
                f"{format_epochs(run.num_epochs)} of {record.config.schedule.epochs}",
                *(format_evaluation(evaluation) if evaluation else NOT_EVALUATED for evaluation in measured),
                f"{100 * (1 - 1 / record.config.model.num_classes):.1f}",
                format_clock(run.seconds),
                ", ".join(list_commits([run])),
                "; ".join(dict.fromkeys(start.format_machine() for start in record.starts)),
            )
        )
    headers = (
        "run",
        "experiment",
        "seed",
        "train / val pictures",
        "shard set",
        "epochs",
        "val, centre: top-1 / top-5 error, %",
        "val, ten views: top-1 / top-5 error, %",
        "chance, %",
        "training time, h:mm:ss",
        "commit",
        "processes, machine",
    )
    printed = (*headers[:3], *headers[5:8], headers[9])
    return Table(name="runs", headers=headers, rows=tuple(rows), printed=printed)


def format_evaluation(evaluation: EvaluationRecord) -> str:
    """Both errors in percent with their intervals."""
    counts = (
        Count(num_errors, evaluation.num_images)
        for num_errors in (evaluation.num_top1_errors, evaluation.num_top5_errors)
    )
    return " / ".join(
        format_measurement(Measurement(value=count.error, interval=compute_interval(count))) for count in counts
    )
