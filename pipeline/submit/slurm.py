"""The only place that runs Slurm's commands; what they refuse becomes a sentence."""

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.errors import InputError, RunError
from pipeline.submit.jobs import Job

ANSWER_SECONDS = 90.0
"""A client without its configuration tries for 60 seconds before it says so."""
REFUSALS = (
    ("invalid partition", "name one that `sinfo` lists with --partition, or as SBATCH_PARTITION in slurm/site.env"),
    ("Node count specification", "ask for fewer --nodes, or for a --partition that has more"),
    (
        "node configuration is not available",
        "no node has so much (`sinfo -o '%P %G %c %m'`): pass other --gpus-per-node, --sbatch --cpus-per-task=N",
    ),
    ("More processors requested", "pass --sbatch --cpus-per-task=N with fewer cores than `sinfo -o '%P %c'` lists"),
    (
        "generic resource",
        "it has no GPUs of that name (`sinfo -o %G`): correct GPU_TYPE in slurm/site.env, or pass --gpus-per-node 0",
    ),
    ("time limit", "pass a shorter --time, after which the job goes on by itself in the next"),
    ("ccount", "name yours with --account, or as SBATCH_ACCOUNT in slurm/site.env (`sacctmgr show user -s $USER`)"),
    ("qos", "name one of yours with --qos, or as SBATCH_QOS in slurm/site.env (`sacctmgr show user -s $USER`)"),
    ("nvalid feature", "correct SBATCH_CONSTRAINT in slurm/site.env, or --sbatch --constraint (`sinfo -o %f`)"),
    ("reservation is invalid", "correct SBATCH_RESERVATION in slurm/site.env (`scontrol show reservation`)"),
)
"""What of a message of sbatch tells the mistake, and what to do about it."""


class NoSlurmError(InputError):
    """This machine has no Slurm."""


class UnreachableError(RunError):
    """Slurm does not answer."""


def run(
    words: Sequence[str], environment: Mapping[str, str] | None = None, *, seconds: float = ANSWER_SECONDS
) -> subprocess.CompletedProcess[str]:
    """Run a command of Slurm.

    Args:
        words: the command.
        environment: variables beside those of this process.
        seconds: to wait for its answer.

    Raises:
        NoSlurmError: it is not there.
        UnreachableError: it does not answer, or cannot reach the controller.
    """
    try:
        ended = subprocess.run(
            words,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **(environment or {})},
        )
    except FileNotFoundError as error:
        raise NoSlurmError(
            f"there is no Slurm here, `{words[0]}` is not to be found: submit on a login node of the cluster (perhaps "
            "after `module load slurm`), or run the stages without it, as in `alexnet train`"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise UnreachableError(
            f"`{words[0]}` did not answer within {seconds:g} seconds: try again when `scontrol ping` says UP"
        ) from error
    if ended.returncode != 0 and re.search(r"Unable to contact|configuration (file|source)", ended.stderr):
        raise UnreachableError(
            f"Slurm does not answer ({find_message(ended.stderr)}): try again when `scontrol ping` says UP"
        )
    return ended


def ask(words: Sequence[str]) -> str:
    """What a command of Slurm prints.

    Raises:
        NoSlurmError: it is not there.
        UnreachableError: see `run`.
        RunError: it fails.
    """
    ended = run(words)
    if ended.returncode != 0:
        raise RunError(f"`{words[0]}` failed ({find_message(ended.stderr)}): try `{' '.join(words)}` by hand")
    return ended.stdout


def find_message(stderr: str) -> str:
    """The last message of a command of Slurm, without the command's name."""
    lines = [line for line in stderr.splitlines() if line.strip() and "--help" not in line]
    message = re.sub(r"^\w+: ((error|fatal): )?", "", lines[-1]) if lines else "without a word"
    return message.removeprefix("Batch job submission failed: ")


def submit(job: Job, command: Sequence[str], environment: Mapping[str, str]) -> str:
    """Submit a job; returns its number.

    Raises:
        InputError: Slurm refuses it.
        UnreachableError: see `run`.
    """
    ended = run(command, environment)
    if ended.returncode != 0:
        advice = [advice for mark, advice in REFUSALS if mark in ended.stderr]
        what_to_do = advice[0] if advice else "change what it asks for; --dry-run prints the line"
        raise InputError(f"Slurm refuses the {job.name} job ({find_message(ended.stderr)}): {what_to_do}")
    return ended.stdout.strip().partition(";")[0]


def cancel(job_ids: Sequence[str]) -> None:
    """Take jobs out of the queue, for good.

    Raises:
        RunError: Slurm refuses, or does not answer.
    """
    for job_id in job_ids:  # a script that is told to stop would requeue its job, even one that was cancelled
        run(["scontrol", "update", f"JobId={job_id}", "Requeue=0"])
    ask(["scancel", *job_ids])


@dataclass(frozen=True, kw_only=True, slots=True)
class Partition:
    """A partition: how many nodes it has and gives to one job, and for how long, as Slurm writes it."""

    name: str
    is_default: bool
    max_nodes: int
    max_time: str


def read_partitions() -> list[Partition]:
    """All partitions, those included that are hidden from this user.

    Raises:
        RunError: see `run`.
    """
    found = []
    for line in ask(["scontrol", "--all", "--oneliner", "show", "partition"]).splitlines():
        values = dict(re.findall(r"(\w+)=(\S*)", line))
        total, limit = int(values["TotalNodes"]), values["MaxNodes"]
        found.append(
            Partition(
                name=values["PartitionName"],
                is_default=values["Default"] == "YES",
                max_nodes=min(total, int(limit)) if limit.isdigit() else total,
                max_time=values["MaxTime"],
            )
        )
    return found
