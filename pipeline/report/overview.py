"""Where runs stand, told from their directories alone: a row a run."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from tabulate import tabulate

from pipeline.artifacts import EvaluationRecord, RunDirectory, RunRecord, find_holder, find_runs, read_json
from pipeline.durations import format_seconds
from pipeline.errors import InputError, check
from pipeline.experiments import describe_status
from pipeline.options import RunsConfig
from pipeline.tracking import Journal, JournalEntry

NUM_RECENT = 50
"""Entries of the journal that tell how fast a run is now."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunState:
    """How far a run is; None where that is not known. Errors are fractions, times seconds, `updated` in Unix time."""

    run: str
    state: str
    experiment: str | None = None
    status: str | None = None
    epoch: float | None = None
    num_epochs: int | None = None
    step: int | None = None
    train_loss: float | None = None
    val_top1_error: float | None = None
    val_top5_error: float | None = None
    best_top1_error: float | None = None
    ten_views_top1_error: float | None = None
    ten_views_top5_error: float | None = None
    rate: float | None = None
    images_per_second: float | None = None
    seconds_left: float | None = None
    num_starts: int | None = None
    hosts: tuple[str, ...] = ()
    slurm_job_id: str | None = None
    updated: float | None = None


def list_states(config: RunsConfig) -> list[RunState]:
    """Read every run in or below the paths.

    Raises:
        InputError: a path is no directory, or there is no run.
    """
    for path in config.paths:
        check(path.is_dir(), f"{path} is no directory: pass run directories, or folders with some in them")
    found = [run for path in config.paths for run in find_runs(path)]
    where = " ".join(map(str, config.paths))
    check(found, f"{where} holds no run: pass a directory that `alexnet train` wrote, or a folder with some in it")
    return [read_state(RunDirectory(path)) for path in dict.fromkeys(found)]


def read_state(run: RunDirectory) -> RunState:
    """Read how far a run is, from its configuration, its journal and its lock; one that cannot be read says so."""
    if not run.config.is_file():
        return RunState(run=str(run.path), state="submitted")
    try:
        return read_readable(run)
    except InputError:
        return RunState(run=str(run.path), state="unreadable: written by another version")
    except OSError as error:  # that of somebody else, who does not show it
        return RunState(run=str(run.path), state=f"unreadable: {error.strerror}")


def read_readable(run: RunDirectory) -> RunState:
    """As `read_state`.

    Raises:
        InputError: a file is of another version.
        OSError: a file cannot be read.
    """
    record = run.read_record()
    entries, start = Journal(run.journal).read(), record.starts[-1]
    latest = {key: (entry, value) for entry in entries for key, value in entry.metrics.items()}

    def get(key: str) -> float | None:
        return latest[key][1] if key in latest else None

    errors = [entry.metrics["val/top1_error"] for entry in entries if "val/top1_error" in entry.metrics]
    step, epoch = (latest["train/loss"][0].step, latest["train/loss"][0].epoch) if "train/loss" in latest else (0, 0.0)
    is_running = find_holder(run.lock) is not None
    ten = find_newest(run, "val-ten-step-*.json")
    return RunState(
        run=str(run.path),
        state=name_state(record, is_running=is_running, is_whole=epoch >= record.config.schedule.epochs),
        experiment=record.experiment,
        status=describe_status(record.experiment, record.config, record.status),
        epoch=epoch,
        num_epochs=record.config.schedule.epochs,
        step=step,
        train_loss=get("train/loss"),
        val_top1_error=get("val/top1_error"),
        val_top5_error=get("val/top5_error"),
        best_top1_error=min(errors, default=None),
        ten_views_top1_error=ten.top1_error if ten else None,
        ten_views_top5_error=ten.top5_error if ten else None,
        rate=get("optim/lr"),
        images_per_second=get("perf/images_per_second"),
        seconds_left=estimate_seconds_left(
            [entry for entry in entries if entry.time >= start.time], record.config.schedule.epochs
        )
        if is_running
        else None,
        num_starts=len(record.starts),
        hosts=start.hosts,
        slurm_job_id=start.slurm_job_id,
        updated=max([start.time, *(entry.time for entry in entries)]),
    )


def name_state(record: RunRecord, *, is_running: bool, is_whole: bool) -> str:
    """The state in a word."""
    if is_running:
        return "training"
    if record.status == "imported":
        return "imported"
    return "finished" if is_whole else "stopped"


def find_newest(run: RunDirectory, pattern: str) -> EvaluationRecord | None:
    """The evaluation of the latest step."""
    found = (read_json(path, EvaluationRecord) for path in run.predictions.glob(pattern))
    return max(found, key=lambda evaluation: evaluation.step, default=None)


def estimate_seconds_left(entries: Sequence[JournalEntry], num_epochs: int) -> float | None:
    """At the pace of the newest entries, evaluations and checkpoints between them included; None before the second."""
    recent = [entry for entry in entries if "train/loss" in entry.metrics][-NUM_RECENT:]
    if len(recent) < 2 or recent[-1].epoch <= recent[0].epoch:
        return None
    pace = (recent[-1].time - recent[0].time) / (recent[-1].epoch - recent[0].epoch)
    return max(0.0, (num_epochs - recent[-1].epoch) * pace - (time.time() - recent[-1].time))


def format_states(states: Sequence[RunState]) -> str:
    """A row a run."""
    rows = [
        (
            state.run,
            f"{state.experiment} ({state.status})" if state.experiment else "",
            state.state,
            "" if state.epoch is None else f"{state.epoch:.4g}/{state.num_epochs}",
            "" if state.train_loss is None else f"{state.train_loss:.3f}",
            format_errors(state.val_top1_error, state.val_top5_error),
            format_errors(state.ten_views_top1_error, state.ten_views_top5_error),
            "" if state.rate is None else f"{state.rate:g}",
            "" if state.images_per_second is None else f"{state.images_per_second:,.0f}",
            "" if state.seconds_left is None else format_seconds(state.seconds_left),
            format_place(state),
            "" if state.updated is None else f"{format_seconds(time.time() - state.updated)} ago",
        )
        for state in states
    ]
    headers = (
        "run",
        "experiment",
        "state",
        "epoch",
        "loss",
        "val top-1/5 error, %",
        "ten views, %",
        "rate",
        "images/s",
        "left",
        "where",
        "last word",
    )
    shown = [i for i in range(len(headers)) if any(row[i] for row in rows)]
    return tabulate(
        [[row[i] for i in shown] for row in rows], headers=[headers[i] for i in shown], disable_numparse=True
    )


def format_errors(top1: float | None, top5: float | None) -> str:
    """Both errors in percent."""
    return "" if top1 is None or top5 is None else f"{top1 * 100:.2f}/{top5 * 100:.2f}"


def format_place(state: RunState) -> str:
    """Nodes, or the first of many, and the Slurm job."""
    nodes = f"{state.hosts[0]} and {len(state.hosts) - 1} more" if len(state.hosts) > 2 else ", ".join(state.hosts)
    return f"{nodes} (job {state.slurm_job_id})" if state.slurm_job_id else nodes
