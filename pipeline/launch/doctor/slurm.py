"""Slurm as seen from here: whether its controller answers, its partitions, what it does about GPUs and pre-emption."""

import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from dotenv import dotenv_values

from pipeline.errors import RunError
from pipeline.launch.doctor.finding import Finding, ill, skipped, well
from pipeline.options import DoctorConfig

ANSWER_SECONDS = 5
NO_CLUSTER = "Could not establish a configuration source"
SITE_ADVICE = "cp slurm/site.env.example slurm/site.env, and say there what this cluster wants"


def look_at_slurm(config: DoctorConfig) -> Iterator[Finding]:
    """Ask the controller, if there is any, and compare `slurm/site.env` with it."""
    path = Path(os.environ.get("ALEXNET_SITE") or Path(os.environ.get("ALEXNET_HOME", ".")) / "slurm" / "site.env")
    if shutil.which("sbatch") is None:
        yield skipped("Slurm", "no sbatch here")
        return
    try:
        settings = dict(re.findall(r"^(\w+)\s*= (.*)$", ask("scontrol", "show", "config"), re.MULTILINE))
        partitions = [parse_fields(line) for line in ask("scontrol", "--oneliner", "show", "partition").splitlines()]
        nodes = [line.split("|") for line in ask("sinfo", "--noheader", "--format=%R|%D|%t|%c|%G").splitlines()]
    except RunError as error:
        if NO_CLUSTER in str(error):
            yield skipped("Slurm", "its commands are installed, but no slurm.conf names a cluster")
            return
        yield ill("Slurm", str(error), "see `scontrol ping`; jobs can be submitted once the controller answers")
        return
    yield well("Slurm", f"{settings['SLURM_VERSION']}, cluster {settings['ClusterName']}")
    site = {name: value for name, value in dotenv_values(path).items() if value} if path.is_file() else {}
    yield find_site(path, site, partitions)
    for partition in partitions:
        own = [node for node in nodes if node[0] == partition["PartitionName"]]
        yield describe_partition(partition, own)
    yield find_gpu_request(settings, site)
    yield describe_preemption(settings)


def ask(*words: str) -> str:
    """What a command of Slurm prints.

    Raises:
        RunError: it fails, or does not answer.
    """
    try:
        answer = subprocess.run(words, capture_output=True, text=True, timeout=ANSWER_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise RunError(f"{words[0]} got no answer within {ANSWER_SECONDS} s") from None
    except OSError as error:
        raise RunError(str(error)) from error
    if answer.returncode:
        raise RunError((answer.stderr.strip().splitlines() or [f"{words[0]} ended with {answer.returncode}"])[-1])
    return answer.stdout


def parse_fields(line: str) -> dict[str, str]:
    """`Name=value Name=value …` as `scontrol --oneliner` has it."""
    return dict(re.findall(r"(\S+?)=(\S*)", line))


def find_site(path: Path, site: Mapping[str, str], partitions: list[dict[str, str]]) -> Finding:
    """Whether jobs would go to a partition that is there."""
    names = [partition["PartitionName"] for partition in partitions]
    default = [partition["PartitionName"] for partition in partitions if partition["Default"] == "YES"]
    wanted = os.environ.get("SBATCH_PARTITION") or site.get("SBATCH_PARTITION")
    if "ALEXNET_SITE" in os.environ and not path.is_file():
        return ill("site.env", f"{path}, which ALEXNET_SITE names, is not there", SITE_ADVICE)
    if wanted and (unknown := set(wanted.split(",")) - set(names)):
        found = f"partition {', '.join(sorted(unknown))} is not on this cluster: {', '.join(names)} are"
        return ill("site.env", found, f"set SBATCH_PARTITION in {path}")
    if not wanted and not default:
        found = f"no partition is the default: {', '.join(names)}"
        return ill("site.env", found, f"set SBATCH_PARTITION in {path}, or pass --partition")
    where = f"jobs go to partition {wanted or default[0]}"
    return well("site.env", f"{path}, {where}") if path.is_file() else skipped("site.env", f"no {path}; {where}")


def describe_partition(partition: Mapping[str, str], nodes: list[list[str]]) -> Finding:
    """Nodes, GPUs and limits of a partition; `nodes` has rows of partition, count, state, cores and GPUs."""
    states = Counter[str]()
    for _, count, state, _, _ in nodes:
        states[state] += int(count)
    kinds = dict.fromkeys(
        f"{cores} cores" + f" and {strip_sockets(gpus)}" * (gpus != "(null)") for *_, cores, gpus in nodes
    )
    counts = ", ".join(f"{count} {state}" for state, count in states.items())
    found = f"{sum(states.values())} nodes ({counts}) of {' or '.join(kinds)}, up to {partition['MaxTime'].lower()}"
    if partition.get("PreemptMode", "OFF") != "OFF":
        found += f", pre-emption by {partition['PreemptMode'].lower()} after {partition.get('GraceTime', '0')} s"
    subject = f"partition {partition['PartitionName']}"
    if partition["State"] != "UP" or not states:
        return skipped(subject, f"{partition['State'].lower()}: {found}" if states else "no nodes")
    return well(subject, found, nodes=sum(states.values()))


def strip_sockets(gpus: str) -> str:
    """`gpu:h100:4(S:0-1)` without the sockets that the GPUs are beside."""
    return re.sub(r"\(S:[^)]*\)", "", gpus)


def find_gpu_request(settings: Mapping[str, str], site: Mapping[str, str]) -> Finding:
    """How GPUs can be asked for here: --gpus-per-node needs select/cons_tres."""
    select = settings["SelectType"]
    if "gpu" not in settings["GresTypes"].split(","):
        return skipped("GPU requests", "Slurm knows of no GPUs: submit with --gres=none, and set RANKS_PER_NODE")
    if select == "select/cons_tres":
        return well("GPU requests", f"--gres and --gpus-per-node ({select})")
    if site.get("GPU_REQUEST", "gres") == "gres":
        return well("GPU requests", f"--gres only ({select})")
    found = f"GPU_REQUEST={site['GPU_REQUEST']}, but {select} takes only --gres"
    return ill("GPU requests", found, "set GPU_REQUEST=gres in slurm/site.env")


def describe_preemption(settings: Mapping[str, str]) -> Finding:
    """What becomes of a job that another one displaces, or whose node fails."""
    kind, mode = settings["PreemptType"], settings["PreemptMode"]
    found = "no job displaces another" if kind == "preempt/none" else f"{kind}, {mode.lower()}"
    if kind != "preempt/none" and "REQUEUE" not in mode:
        found += "; the scripts requeue themselves, if they are given the time"
    default = "" if settings["JobRequeue"] == "1" else "; others only with --requeue, as the scripts have it"
    return well("requeue", f"{found}; jobs of a failed node start again{default}")
