"""What was submitted: `submission.json`, in the folder that takes the logs, too."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.artifacts import read_json, write_json
from pipeline.errors import check
from pipeline.submit.jobs import Stage

FILE = "submission.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class SubmittedJob:
    """A job in Slurm's hands: the line that submitted it, and the jobs that it waits for.

    `log` is a pattern of Slurm, `makes` what the stage writes, `array` the numbers of an array's tasks.
    """

    id: str
    name: str
    stage: Stage
    line: str
    after: tuple[str, ...]
    makes: str
    log: str
    array: str | None

    def find_log(self, task: str = "*") -> str:
        """Where the job writes, or one task of its array, or all of them as a pattern of a shell."""
        return re.sub("%[jA]", self.id, self.log).replace("%a", task)


@dataclass(frozen=True, kw_only=True, slots=True)
class Submission:
    """One start of `alexnet submit`: when (ISO 8601), with which command, from where, the variables, the jobs."""

    time: str
    command: str
    directory: str
    environment: dict[str, str]
    jobs: tuple[SubmittedJob, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """All submissions of a folder, oldest first."""

    path: Path
    submissions: tuple[Submission, ...]

    @property
    def jobs(self) -> tuple[SubmittedJob, ...]:
        """The newest job of each name, in the order of the chain."""
        newest = {job.name: job for submission in self.submissions for job in submission.jobs}
        return tuple(sorted(newest.values(), key=lambda job: int(job.id)))

    def find_submission(self, job: SubmittedJob) -> Submission:
        """The submission that a job belongs to."""
        return next(submission for submission in self.submissions if job in submission.jobs)


def find_shards_folder(shards: Path) -> Path:
    """Where jobs that make a shard set leave records and logs: beside it, since nothing else may lie in it."""
    return shards.with_name(f"{shards.name}.slurm")


def read_record(folder: Path) -> Record:
    """What was submitted with this folder; nothing where there is no record."""
    path = folder / FILE
    return Record(path=path, submissions=read_json(path, tuple[Submission, ...]) if path.is_file() else ())


def add_job(folder: Path, submission: Submission, job: SubmittedJob) -> None:
    """Write down a job as soon as it is submitted; those of the same submission are kept together."""
    record = read_record(folder)
    before, last = record.submissions, replace(submission, jobs=())
    if before and replace(before[-1], jobs=()) == last:
        before, last = before[:-1], before[-1]
    write_json(record.path, (*before, replace(last, jobs=(*last.jobs, job))))


def find_records(path: Path) -> list[Record]:
    """The records of a run directory, of a folder of run directories, or of a shard set.

    Raises:
        InputError: there is none.
    """
    folders = [find_shards_folder(path), path / "slurm", *sorted(path.glob("*/slurm"))]
    found = [record for record in map(read_record, folders) if record.submissions]
    check(
        found, f"nothing was submitted for {path}: pass the --out of `alexnet submit`, or a folder that holds several"
    )
    return found
