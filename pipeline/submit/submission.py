"""A chain goes to Slurm, job by job, and is written down; or is printed as the script that would do it."""

import shlex
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path

from pipeline.artifacts import TakenError, hold, to_json
from pipeline.errors import InputError, RunError, check
from pipeline.submit import slurm
from pipeline.submit.checks import check_partitions
from pipeline.submit.jobs import Chain, Job
from pipeline.submit.lines import build_command, build_environment, format_script
from pipeline.submit.record import Record, Submission, SubmittedJob, add_job, read_record
from pipeline.submit.request import Request
from pipeline.submit.slurm import NoSlurmError, UnreachableError
from pipeline.submit.states import read_queue


def submit_chain(chain: Chain, request: Request, command: str) -> None:
    """Submit a chain, or print it where --dry-run asks for that.

    Raises:
        InputError: jobs of an earlier submission are alive, or Slurm refuses one; then none stays in the queue.
        RunError: Slurm does not answer.
    """
    submission = plan_submission(chain, request, command)
    if request.config.dry_run:
        with suppress(NoSlurmError, UnreachableError):  # a dry run is for machines without Slurm, too
            check_partitions(chain, request)
        print(to_json(submission).decode() if request.config.json else format_script(chain, request, command))
        return
    with ExitStack() as stack:
        if chain.jobs:
            check_partitions(chain, request)
            for folder in chain.folders:
                stack.enter_context(claim_folder(folder))
            check_none_alive([read_record(folder) for folder in chain.folders])
        if not request.config.json:
            print("".join(f"submit: {sentence}\n" for sentence in chain.said), end="")
        if chain.jobs:
            submission = submit_jobs(chain, request, submission)
    if request.config.json:
        print(to_json(submission).decode())
    elif not chain.jobs:
        print("submit: nothing to submit")


@contextmanager
def claim_folder(folder: Path) -> Iterator[None]:
    """Keep other submissions out of a folder.

    Raises:
        InputError: one is at work there.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(hold(folder / "lock"))
        except TakenError as error:
            raise InputError(f"{error} is submitting to {folder} at this moment: look at its status") from error
        yield


def plan_submission(chain: Chain, request: Request, command: str) -> Submission:
    """The submission of a chain before any job has a number: names stand in their place."""
    names = {job.name: job.name for job in chain.jobs}
    return Submission(
        time=datetime.now().astimezone().isoformat(timespec="seconds"),
        command=command,
        directory=str(Path.cwd()),
        environment=build_environment(request, chain),
        jobs=tuple(describe_job(job, job.name, build_command(job, request, names), names) for job in chain.jobs),
    )


def describe_job(job: Job, job_id: str, command: Sequence[str], ids: dict[str, str]) -> SubmittedJob:
    """A job with its number, for the record."""
    return SubmittedJob(
        id=job_id,
        name=job.name,
        stage=job.stage,
        line=shlex.join(command),
        after=tuple(ids[name] for name in job.after),
        makes=str(job.makes),
        log=str(job.log),
        array=job.array,
    )


def submit_jobs(chain: Chain, request: Request, plan: Submission) -> Submission:
    """Submit the jobs of a chain in their order; each is written down at once, and all go if one is refused.

    Raises:
        InputError: Slurm refuses one.
        RunError: Slurm does not answer.
    """
    ids: dict[str, str] = {}
    submitted: list[SubmittedJob] = []
    for job in chain.jobs:
        command = build_command(job, request, ids)
        try:
            ids[job.name] = slurm.submit(job, command, plan.environment)
        except (InputError, RunError) as error:
            if not submitted:
                raise
            slurm.cancel(list(ids.values()))
            raise type(error)(f"{error}; the jobs before it were cancelled: {', '.join(ids)}") from error
        submitted.append(describe_job(job, ids[job.name], command, ids))
        add_job(job.folder, plan, submitted[-1])
        if not request.config.json:
            after = f", after {' '.join(submitted[-1].after)}" if job.after else ""
            print(f"submit: {job.name} is job {ids[job.name]}{after}", flush=True)
    if not request.config.json:
        place = chain.jobs[0].makes if chain.folder.suffix == ".slurm" else chain.folder.parent
        shown = shlex.quote(str(place))
        print(f"submit: see `alexnet submit status {shown}`; `alexnet submit cancel {shown}` takes it down")
    return Submission(
        time=plan.time,
        command=plan.command,
        directory=plan.directory,
        environment=plan.environment,
        jobs=tuple(submitted),
    )


def check_none_alive(records: Sequence[Record]) -> None:
    """Refuse to submit where jobs of an earlier submission are still in the queue.

    Raises:
        InputError: some are.
        RunError: Slurm does not answer.
    """
    jobs = {job.id: job for record in records for submission in record.submissions for job in submission.jobs}
    alive = [
        f"{jobs[found].name} ({found})"
        for found, tasks in read_queue(list(jobs)).items()
        if any(t.is_alive for t in tasks)
    ]
    check(
        not alive,
        f"jobs of an earlier submission are still in the queue: {', '.join(alive)}; wait for them, or take them "
        "down with `alexnet submit cancel`",
    )
