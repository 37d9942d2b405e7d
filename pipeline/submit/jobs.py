"""One job: a script of slurm/, its words, what it asks Slurm for, and so the exact line of sbatch."""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.errors import check
from pipeline.options.submit import SubmitConfig, SubmitRanksConfig
from pipeline.submit.site import Site

Stage = Literal["preprocess", "train", "evaluate", "ensemble", "report"]
RESUMABLE: tuple[Stage, ...] = ("preprocess", "train", "evaluate")
"""Stages that stop at a signal and are requeued; the others take minutes."""
RANKED: tuple[Stage, ...] = ("train", "evaluate")
"""Stages that run in a rank per GPU."""
OWN_OPTIONS = re.compile(
    r"--(partition|account|qos|time|nodes|gres|gpus\S*|signal|site)\b|--(array|dependency|output|error|parsable|export"
    r"|job-name|chdir|wrap|test-only|wait|requeue|no-requeue)\b|-[pAqtNGadoeDJ]"
)
"""What --sbatch may not set: it has a flag of its own, or submit sets it itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One job of a chain.

    `folder` takes its logs and the record of its submission, `makes` is what the stage writes; `array` holds the numbers
    of an array's tasks, as Slurm writes them. The job starts when those that `after` names have ended well, or
    `after_any` however they ended.
    """

    name: str
    stage: Stage
    folder: Path
    makes: Path
    words: tuple[str, ...]
    array: str | None = None
    after: tuple[str, ...] = ()
    after_any: bool = False

    @property
    def variable(self) -> str:
        """The job's name as a variable of a shell."""
        return self.name.replace("-", "_").replace(".", "_")

    def find_log(self, job_id: str) -> Path:
        """Where the job writes, with %a in place of an array task's number."""
        return self.folder / f"alexnet-{self.name}-{job_id}{'-%a' if self.array else ''}.log"


@dataclass(frozen=True, kw_only=True, slots=True)
class Chain:
    """Jobs in the order in which they are submitted, and what is said of those that are not needed.

    `folder` belongs to the chain as a whole; `main` is the stage that --time and --nodes are meant for.
    """

    folder: Path
    main: Stage
    jobs: tuple[Job, ...]
    said: tuple[str, ...] = ()
    num_parts: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What is asked of Slurm for all jobs of a chain."""

    config: SubmitConfig
    site: Site
    main: Stage

    def find_script(self, stage: Stage) -> Path:
        """The script of a stage."""
        return self.site.root / "slurm" / f"{stage}.sbatch"

    def read_header(self, stage: Stage) -> dict[str, str]:
        """What a stage's script asks for itself, by option."""
        text = self.find_script(stage).read_text()
        return dict(re.findall(r"^#SBATCH --([\w-]+)=(\S+)", text, re.MULTILINE))

    def count_nodes(self, stage: Stage) -> int:
        """Nodes of a stage's job."""
        asked = self.config.nodes if isinstance(self.config, SubmitRanksConfig) and stage == self.main else None
        return asked or int(self.read_header(stage).get("nodes", "1"))

    def count_gpus(self, stage: Stage) -> int:
        """GPUs of each node of a stage's job."""
        if isinstance(self.config, SubmitRanksConfig) and self.config.gpus_per_node is not None:
            return self.config.gpus_per_node if stage in RANKED else 0
        return int(self.read_header(stage).get("gres", "gpu:0").rpartition(":")[2])

    def count_ranks(self, stage: Stage) -> int:
        """Ranks of a stage's job, over all its nodes."""
        assert isinstance(self.config, SubmitRanksConfig)
        told = self.config.ranks_per_node or self.site.get("RANKS_PER_NODE")
        return self.count_nodes(stage) * (int(told) if told else max(1, self.count_gpus(stage)))

    def find_partition(self, stage: Stage) -> str:
        """Partition of a stage's job; empty for Slurm's default."""
        on_cpus = "" if stage in RANKED else self.site.get("CPU_PARTITION")
        return on_cpus or self.config.partition or self.site.get("SBATCH_PARTITION")

    def find_time(self, stage: Stage) -> str:
        """Time limit of a stage's job, as Slurm writes it."""
        asked, written = self.config.time, self.read_header(stage)["time"]
        wanted = asked is not None and (stage == self.main or count_seconds(asked) < count_seconds(written))
        return asked if asked is not None and wanted else written


def count_seconds(limit: str) -> float:
    """Seconds of a time limit as Slurm writes it: M, M:S, H:M:S, D-H, D-H:M, D-H:M:S, UNLIMITED."""
    if not limit[0].isdigit():
        return float("inf")
    days, dash, rest = limit.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    if dash or len(parts) == 3:
        hours, minutes, seconds = [*parts, 0, 0][:3]
    else:
        hours, (minutes, seconds) = 0, [*parts, 0][:2]
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds


def build_environment(request: Request, num_parts: int | None) -> dict[str, str]:
    """The variables that sbatch is started with, beside those of whoever starts it; jobs get them, too."""
    config, site = request.config, request.site
    told: dict[str, object] = {"ALEXNET_HOME": site.root, "MAX_REQUEUES": config.max_requeues, "PARTS": num_parts}
    if not site.is_default:
        told["ALEXNET_SITE"] = site.path
    if isinstance(config, SubmitRanksConfig):
        told |= {"MAX_RESTARTS": config.max_restarts, "RANKS_PER_NODE": config.ranks_per_node}
    return {name: str(value) for name, value in told.items() if value is not None} | site.list_sbatch_variables()


def build_options(job: Job, request: Request, log: Path) -> list[str]:
    """What a job asks Slurm for, beyond what its script and the environment do."""
    config = request.config
    wanted = {
        "job-name": None if job.name == job.stage else f"alexnet-{job.name}",
        "output": str(log),
        "array": job.array,
        "partition": config.partition,
        "account": config.account,
        "qos": config.qos,
        "time": request.find_time(job.stage) if config.time else None,
        "signal": f"B:USR1@{config.signal_seconds}" if job.stage in RESUMABLE else None,
    }
    if job.stage == request.main and isinstance(config, SubmitRanksConfig) and config.nodes is not None:
        wanted["nodes"] = str(config.nodes)
    if job.stage not in RANKED and request.site.get("CPU_PARTITION"):
        wanted["partition"] = request.site.get("CPU_PARTITION")
    options = [f"--{name}={value}" for name, value in wanted.items() if value is not None]
    return [*options, *format_gpus(job.stage, request), *split_further(config.sbatch, job.stage)]


def format_gpus(stage: Stage, request: Request) -> list[str]:
    """How the GPUs of a node are asked for; nothing where the script does so already.

    `--gpus-per-node` adds to the script's `--gres`, so that one has to go.
    """
    kind, way = request.site.get("GPU_TYPE"), request.site.get("GPU_REQUEST") or "gres"
    check(
        way in ("gres", "gpus-per-node"), f"GPU_REQUEST is {way} in {request.site.path}: choose gres or gpus-per-node"
    )
    count = request.count_gpus(stage)
    asked = isinstance(request.config, SubmitRanksConfig) and request.config.gpus_per_node is not None
    if stage not in RANKED or not (asked or kind or way != "gres"):
        return []
    if count == 0:
        return ["--gres=none"]
    amount = f"{kind}:{count}" if kind else str(count)
    return [f"--gres=gpu:{amount}"] if way == "gres" else ["--gres=none", f"--gpus-per-node={amount}"]


def split_further(texts: Sequence[str], stage: Stage) -> list[str]:
    """The options of --sbatch that are meant for a stage.

    Raises:
        InputError: one of them has a flag of its own, or is none.
    """
    options = []
    for text in texts:
        wanted, colon, rest = text.partition(":")
        is_stage = bool(colon) and (wanted in RESUMABLE or wanted in ("ensemble", "report"))
        for option in shlex.split(rest if is_stage else text):
            check(option.startswith("-"), f"--sbatch {text}: {option!r} is no option: write --NAME=VALUE")
            check(
                not OWN_OPTIONS.match(option),
                f"--sbatch {text}: {option} is not for here: pass the flag of `alexnet submit` that is meant for it, or "
                "leave it out",
            )
            if not is_stage or wanted == stage:
                options.append(option)
    return options


def build_command(job: Job, request: Request, ids: Mapping[str, str]) -> list[str]:
    """The command that submits a job.

    Args:
        job: the job.
        request: what is asked for.
        ids: by name, of the jobs before it.
    """
    before = ":".join(ids[name] for name in job.after)
    options = build_options(job, request, Path(str(job.find_log("%j")).replace("-%j-%a", "-%A-%a")))
    if before and job.after_any:
        options.insert(0, f"--dependency=afterany:{before}")
    elif before:
        options[:0] = [f"--dependency=afterok:{before}", "--kill-on-invalid-dep=yes"]
    return ["sbatch", "--parsable", *options, str(request.find_script(job.stage)), *job.words]


def format_script(chain: Chain, request: Request, command: str) -> str:
    """A shell script that submits the chain as `alexnet submit` would."""
    environment = build_environment(request, chain.num_parts)
    lines = ["#!/bin/sh", f"# {command}", *(f"# {sentence}" for sentence in chain.said), "set -eu"]
    lines += [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]
    if chain.jobs:
        lines.append(f"mkdir -p {shlex.join(dict.fromkeys(str(job.folder) for job in chain.jobs))}")
    marks = {job.name: f"@{job.variable}@" for job in chain.jobs}
    for job in chain.jobs:
        line = shlex.join(build_command(job, request, marks))
        for earlier in job.after:  # from a word without quotes to one with a variable between quotes
            line = line.replace(marks[earlier], f'"${dict_variable(chain, earlier)}"')
        lines.append(f"{job.variable}=$({line})")
    return "\n".join(lines)
