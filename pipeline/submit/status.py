"""Where the jobs of a submission stand, why they wait, how far they are, and what to do about those that failed."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from tabulate import tabulate

from pipeline.artifacts import RunDirectory, to_json
from pipeline.errors import INPUT_ERROR_CODE
from pipeline.options.submit import ChainConfig
from pipeline.preprocess.status import read_status
from pipeline.submit.done import find_newest_step, is_trained
from pipeline.submit.reasons import NEVER, STATES, explain
from pipeline.submit.record import Record, SubmittedJob, find_records
from pipeline.submit.slurm import NoSlurmError, UnreachableError
from pipeline.submit.states import TaskState, read_accounting, read_queue
from pipeline.tracking import Journal

TAIL_BYTES = 65536


@dataclass(frozen=True, kw_only=True, slots=True)
class JobStatus:
    """A job, where it stands, and who says so; `tasks` is empty where only its files are left to tell.

    `makes` is the directory or file that it writes.
    """

    name: str
    makes: str
    stage: str
    id: str
    state: str
    tasks: tuple[TaskState, ...]
    source: Literal["squeue", "sacct", "sacct -c", "files"]
    why: str | None
    progress: str | None
    failed: bool
    log: str
    sentence: str | None
    advice: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ChainStatus:
    """All jobs that were submitted for a directory; `note` says why Slurm was not asked."""

    path: str
    note: str | None
    jobs: tuple[JobStatus, ...]


def show_status(config: ChainConfig) -> None:
    """Print where the jobs stand, for people or as JSON."""
    status = read_chain_status(config.path.absolute())
    print(to_json(status).decode() if config.json else format_status(status))


def read_chain_status(path: Path) -> ChainStatus:
    """Look at all jobs that were submitted for a directory; changes nothing.

    Raises:
        InputError: none were.
    """
    records = find_records(path)
    jobs = [(record, job) for record in records for job in record.jobs]
    ids = [job.id for _, job in jobs]
    tasks: dict[str, list[TaskState]] = {}
    note = None
    try:
        tasks = read_queue(ids)
        gone = [(job.id, job.array is not None) for _, job in jobs if job.id not in tasks]
        remembered = read_accounting([job_id for job_id, _ in gone])
        whole = {job_id for job_id, is_array in gone if not is_array}
        tasks |= {job_id: t for job_id, t in remembered.items() if job_id in whole or t[0].source == "sacct"}
    except (NoSlurmError, UnreachableError) as error:
        note = f"{error}; what follows is what the files show"
    found = tuple(describe_job(record, job, tasks.get(job.id, [])) for record, job in jobs)
    return ChainStatus(path=str(path), note=note, jobs=found)


def describe_job(record: Record, job: SubmittedJob, tasks: Sequence[TaskState]) -> JobStatus:
    """One job's status."""
    done = is_done(job)
    bad = [task for task in tasks if not task.is_alive and task.state != "COMPLETED"]
    whys = dict.fromkeys(filter(None, map(explain, tasks)))
    broken = bool(bad) and all(explain(task) for task in bad)  # cancelled because of another job, which says more
    stuck = any(task.is_waiting and task.reason in NEVER for task in tasks)
    failed = (bool(bad) and not broken and not done) or stuck or (not tasks and not done)
    submission = record.find_submission(job)
    again = f"`{submission.command}`, given in {submission.directory}, goes on from here"
    was_cancelled = bool(bad) and all(task.state == "CANCELLED" for task in bad)
    advice = again if was_cancelled or not tasks else f"when that is mended, {again}"
    if stuck:
        advice = f"take it down (alexnet submit cancel), then submit otherwise than with `{submission.command}`"
    return JobStatus(
        name=job.name,
        makes=job.makes,
        stage=job.stage,
        id=job.id,
        state=format_state(tasks) if tasks else "done" if done else "unknown",
        tasks=tuple(tasks),
        source=tasks[0].source if tasks else "files",
        why="; ".join(whys) or None,
        progress=describe_progress(job),
        failed=failed,
        log=job.find_log(bad[0].task or "*" if bad else "*"),
        sentence=find_sentence(record.path.parent, job, bad[0].task if bad else None) if failed and not stuck else None,
        advice=advice if failed else None,
    )


def is_done(job: SubmittedJob) -> bool:
    """Whether the files say that a job's work is done."""
    made = Path(job.makes)
    match job.stage:
        case "preprocess":
            return (made / "dataset.json").is_file()
        case "train":
            return is_trained(RunDirectory(made))
        case "evaluate":
            run = RunDirectory(made)
            return any(run.predictions.glob(f"*-step-{find_newest_step(run)}.json"))
        case "ensemble":
            return made.is_file()
        case "report":
            return (made / "report.md").is_file()


def describe_progress(job: SubmittedJob) -> str | None:
    """How far a training run or a shard set is; None where it has not begun."""
    made = Path(job.makes)
    if job.stage == "preprocess" and (made / ".work").is_dir():
        splits = read_status(made).splits.items()
        return ", ".join(f"{split.shards_done} of {split.num_shards} {name} shards" for name, split in splits) or None
    run = RunDirectory(made)
    if job.stage != "train" or not run.config.is_file():
        return None
    entries, errors = Journal(run.journal).read(), Journal(run.journal).read_metric("val/top1_error")
    epoch = f"epoch {entries[-1].epoch if entries else 0:.2f} of {run.read_record().config.schedule.epochs}"
    return f"{epoch}, validation top-1 error {errors[-1][1]:.2%}" if errors else epoch


def find_sentence(folder: Path, job: SubmittedJob, task: str | None) -> str | None:
    """Why a job ended: what its ranks left behind, the mistake first; or else the last such line of its log."""
    places = sorted(
        folder.glob(f"endings/{job.id}-*/rank-*"), key=lambda path: [int(n) for n in path.parent.name.split("-")]
    )
    endings = [path.read_text().strip() for path in places if path.parent == places[-1].parent]
    coded = [ending for ending in endings if re.match(r"\d+ ", ending)]
    if coded:
        codes = [int(ending.split()[0]) for ending in coded]
        told = coded[codes.index(INPUT_ERROR_CODE if INPUT_ERROR_CODE in codes else min(codes))]
        return told.split(maxsplit=1)[1]
    log = Path(job.find_log(task or ""))
    if not log.is_file():
        return None
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - TAIL_BYTES))
        lines = file.read().decode(errors="replace").splitlines()
    return next((line for line in reversed(lines) if line.startswith(("alexnet ", "alexnet-"))), None)


def format_state(tasks: Sequence[TaskState]) -> str:
    """The state of a job, or how many tasks of its array are in which."""
    counts = Counter(STATES.get(task.state, task.state.lower()) for task in tasks)
    if len(tasks) == 1:
        return next(iter(counts))
    return ", ".join(f"{count} {state}" for state, count in counts.most_common())


def format_span(tasks: Sequence[TaskState]) -> str:
    """For how long a job has been waiting or running, or ran, with the time of its end."""
    now = datetime.now().astimezone()
    begins = [task.began for task in tasks if task.began and not task.is_waiting]
    ends = [task.ended for task in tasks if task.ended]
    if not begins:
        submitted = [task.submitted for task in tasks if task.submitted]
        return f"for {format_duration((now - min(submitted)).total_seconds())}" if submitted else ""
    if any(task.is_alive for task in tasks):
        return f"for {format_duration((now - min(begins)).total_seconds())}"
    if not ends:
        return ""
    return f"{format_duration((max(ends) - min(begins)).total_seconds())}, to {max(ends):%H:%M on %d %b}"


def format_duration(seconds: float) -> str:
    """A length of time in its two largest units."""
    minutes, seconds = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (seconds, "s")]
    first = next((place for place, (count, _) in enumerate(parts) if count), len(parts) - 1)
    return " ".join(f"{count} {unit}" for count, unit in parts[first : first + 2])


def format_status(status: ChainStatus) -> str:
    """The status for people: a table, then what to do."""
    rows, has_runs = [], len({job.makes for job in status.jobs if job.stage == "train"}) > 1
    for job in status.jobs:
        codes = dict.fromkeys(task.exit_code for task in job.tasks if task.exit_code)
        restarts = [task.restarts for task in job.tasks if task.restarts]
        rows.append(
            (
                f"{job.name} of {Path(job.makes).name}" if has_runs else job.name,
                job.id,
                job.state,
                format_span(job.tasks),
                ", ".join(dict.fromkeys(task.nodes for task in job.tasks if task.nodes)),
                sum(restarts) or "",
                ", ".join(f"signal {-code}" if code < 0 else str(code) for code in codes if code is not None),
                "; ".join(filter(None, (job.why, job.progress))),
                job.source,
            )
        )
    headers = ("stage", "job", "state", "time", "nodes", "restarts", "exit", "why, how far", "says")
    widths = [None, None, None, None, 24, None, None, 60, None]
    lines = [status.note] if status.note else []
    lines.append(tabulate(rows, headers=headers, tablefmt="simple", maxcolwidths=widths, disable_numparse=True))
    failed = [job for job in status.jobs if job.failed]
    for job in failed:
        said = f": {job.sentence}" if job.sentence else ""
        is_written = any(Path(job.log).parent.glob(Path(job.log).name))
        log = f"; its log: {job.log}" if is_written else "; it has no log"
        lines.append(f"{job.name} ({job.id}) {job.state}{said}{log}")
    return "\n".join([*lines, *dict.fromkeys(f"next: {job.advice}" for job in failed)])
