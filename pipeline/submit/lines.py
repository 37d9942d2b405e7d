"""The exact line of sbatch for each job, and the whole chain as a script."""

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import get_args

from pipeline.errors import check
from pipeline.options.submit import SubmitRanksConfig
from pipeline.submit.jobs import RANKED, RESUMABLE, Chain, Job, Stage
from pipeline.submit.request import Request

OWN_OPTIONS = re.compile(
    r"--(partition|account|qos|time|nodes|gres|gpus|gpus-per-.*|signal|array|dependency|output|error|parsable|export"
    r"|job-name|chdir|wrap|test-only|wait|no-requeue)"
)
"""What --sbatch may not set: it has a flag of its own, or submit sets it itself."""


def build_environment(request: Request, chain: Chain) -> dict[str, str]:
    """The variables that sbatch is started with, beside those of whoever starts it; jobs get them, too."""
    config, site = request.config, request.site
    told: dict[str, object] = {"ALEXNET_HOME": site.root, "MAX_REQUEUES": config.max_requeues, "PARTS": chain.num_parts}
    if not site.is_default:
        told["ALEXNET_SITE"] = site.path
    if isinstance(config, SubmitRanksConfig):
        told |= {"MAX_RESTARTS": config.max_restarts, "RANKS_PER_NODE": config.ranks_per_node}
    return {name: str(value) for name, value in told.items() if value is not None} | site.list_sbatch_variables()


def build_options(job: Job, request: Request) -> list[str]:
    """What a job asks Slurm for, beyond what its script and the environment do."""
    config = request.config
    wanted = {
        "job-name": None if job.name == job.stage else f"alexnet-{job.name}",
        "output": str(job.log),
        "array": job.array,
        "partition": request.ask_partition(job.stage),
        "account": config.account,
        "qos": config.qos,
        "time": request.ask_time(job.stage),
        "signal": f"B:USR1@{config.signal_seconds}" if job.stage in RESUMABLE else None,
    }
    if job.stage == request.main and isinstance(config, SubmitRanksConfig) and config.nodes is not None:
        wanted["nodes"] = str(config.nodes)
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
    return list_gpu_options(count, kind, way)


def list_gpu_options(count: int, kind: str | None, way: str) -> list[str]:
    """Words of sbatch for GPUs of each node: how many, of which type, by `gres` or by `gpus-per-node`."""
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
        is_stage = bool(colon) and wanted in get_args(Stage)
        for option in shlex.split(rest if is_stage else text):
            check(option.startswith("--"), f"--sbatch {text}: {option!r} is no option: write --NAME=VALUE")
            check(
                not OWN_OPTIONS.fullmatch(option.partition("=")[0]),
                f"--sbatch {text}: {option} is not for here: pass the flag of `alexnet submit` for it, or leave it out",
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
    dependency = [f"--dependency=afterok:{before}", "--kill-on-invalid-dep=yes"]
    if job.after_any:
        dependency = [f"--dependency=afterany:{before}"]
    options = [*(dependency if before else []), *build_options(job, request)]
    return ["sbatch", "--parsable", *options, str(request.find_script(job.stage)), *job.words]


def format_script(chain: Chain, request: Request, command: str) -> str:
    """A shell script that submits the chain as `alexnet submit` would, the jobs' numbers in variables."""
    lines = [
        "#!/bin/sh",
        f"# {command}",
        "# Leaves no record for `alexnet submit status`.",
        *(f"# {sentence}" for sentence in chain.said),
        "set -eu",
    ]
    lines += [f"export {name}={shlex.quote(value)}" for name, value in build_environment(request, chain).items()]
    lines += [f"mkdir -p {shlex.quote(str(folder))}" for folder in chain.folders]
    variables = {job.name: job.name.replace("-", "_") for job in chain.jobs}
    ids = {name: f"${variable}" for name, variable in variables.items()}
    for job in chain.jobs:
        words = build_command(job, request, ids)
        quoted = (f'"{word}"' if word.startswith("--dependency=") else shlex.quote(word) for word in words)
        lines.append(f"{variables[job.name]}=$({' '.join(quoted)})")
    return "\n".join(lines)
