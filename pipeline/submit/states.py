"""Where jobs stand: from the queue while Slurm knows them, else from what accounting remembers."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pipeline.submit.slurm import ask, run

FIELDS = ("JobArrayID", "State", "Reason", "RestartCnt", "SubmitTime", "StartTime", "EndTime", "exit_code", "NodeList")
ACCOUNTING_FIELDS = ("JobID", "State", "ExitCode", "Start", "End", "NodeList")
WAITING = ("PENDING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD", "REQUEUE_FED")
WORKING = ("CONFIGURING", "RUNNING", "COMPLETING", "STAGE_OUT", "SIGNALING", "SUSPENDED", "STOPPED", "RESIZING")


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskState:
    """Where a job stands, or a task of its array; `exit_code` is None until it ends, a signal's is negative.

    Times are those of the cluster's clock. `began` of a job that waits is when Slurm expects to start it.
    """

    task: str | None
    state: str
    reason: str | None
    restarts: int | None
    submitted: datetime | None
    began: datetime | None
    ended: datetime | None
    exit_code: int | None
    nodes: str | None
    source: Literal["squeue", "sacct", "sacct -c"]

    @property
    def is_waiting(self) -> bool:
        """Whether it is in the queue."""
        return self.state in WAITING

    @property
    def is_alive(self) -> bool:
        """Whether it waits or runs."""
        return self.state in WAITING + WORKING


def read_queue(job_ids: Sequence[str]) -> dict[str, list[TaskState]]:
    """What the controller knows of jobs: all that wait or run, and those that ended minutes ago.

    Raises:
        RunError: Slurm does not answer.
        InputError: there is no Slurm.
    """
    if not job_ids:
        return {}
    wanted = ",".join(f"{field}:|" for field in FIELDS)
    jobs = ",".join((*job_ids, job_ids[0]))  # of a single job that it does not know, Slurm says that this is no number
    text = ask(["squeue", "--noheader", "--array", "--states=all", f"--jobs={jobs}", f"--Format={wanted}"])
    found: dict[str, list[TaskState]] = {}
    for line in text.splitlines():
        values = [value.strip() for value in line.split("|")[: len(FIELDS)]]
        name, state, reason, restarts, submitted, began, over, code, nodes = values
        job_id, _, task = name.partition("_")
        alive = state in WAITING + WORKING
        found.setdefault(job_id, []).append(
            TaskState(
                task=task or None,
                state=state,
                reason=None if reason == "None" else reason,
                restarts=int(restarts),
                submitted=read_time(submitted),
                began=read_time(began),
                ended=None if alive else read_time(over),
                exit_code=None if alive else read_exit_code(code),
                nodes=nodes or None,
                source="squeue",
            )
        )
    return found


def read_accounting(job_ids: Sequence[str]) -> dict[str, list[TaskState]]:
    """What Slurm remembers of jobs that have left the queue: from its data base, or else its file of finished jobs.

    That file has arrays by other numbers, so they are not looked for there.

    Raises:
        RunError: Slurm does not answer.
        InputError: there is no Slurm.
    """
    if not job_ids:
        return {}
    words = ["--noheader", "--parsable2", f"--jobs={','.join(job_ids)}", f"--format={','.join(ACCOUNTING_FIELDS)}"]
    ended = run(["sacct", "--allocations", *words])
    if ended.returncode == 0:
        return _parse_accounting(ended.stdout, "sacct")
    return _parse_accounting(run(["sacct", "--completion", *words]).stdout, "sacct -c")


def _parse_accounting(text: str, source: Literal["sacct", "sacct -c"]) -> dict[str, list[TaskState]]:
    found: dict[str, dict[str, TaskState]] = {}
    for line in text.splitlines():
        name, state, code, began, over, nodes = line.split("|")
        job_id, _, task = name.partition("_")
        alive = state.split()[0] in WAITING + WORKING
        found.setdefault(job_id, {})[task] = TaskState(  # of a job that was requeued, the last line counts
            task=task or None,
            state=state.split()[0],  # "CANCELLED by 1000"
            reason=None,
            restarts=None,
            submitted=None,
            began=read_time(began),
            ended=None if alive else read_time(over),
            exit_code=None if alive else read_exit_code(code),
            nodes=nodes if nodes not in ("(null)", "None assigned") else None,
            source=source,
        )
    return {job_id: list(tasks.values()) for job_id, tasks in found.items()}


def read_time(text: str) -> datetime | None:
    """A time of Slurm; None for N/A and Unknown."""
    return datetime.fromisoformat(text).astimezone() if re.match(r"\d{4}-", text) else None


def read_exit_code(text: str) -> int:
    """An exit code as Slurm writes it, CODE:SIGNAL or a status of wait; that of a signal is negative."""
    code, colon, signal = text.partition(":")
    if not colon:
        return os.waitstatus_to_exitcode(int(code))
    return -int(signal) if int(signal) else int(code)
