"""Slurm as seen from here: whether its controller answers, its partitions, and whether it would take a training."""

import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path

from dotenv import dotenv_values

from pipeline.errors import InputError, RunError
from pipeline.launch.doctor.finding import Finding, explain, ill, skipped, well
from pipeline.options import DoctorConfig
from pipeline.submit import slurm
from pipeline.submit.lines import list_gpu_options

ANSWER_SECONDS = 15
"""For one question. Clients of a controller that is gone try for longer, and those of a busy one wait."""
NO_CLUSTER = "Could not establish a configuration source"
SITE_ADVICE = "cp slurm/site.env.example slurm/site.env, and say there what this cluster wants"
NODE_FIELDS = "%R|%a|%l|%M|%D|%t|%c|%G"
"""Of sinfo: partition, whether it is up, limit of time, pre-emption; then nodes, state, cores and GPUs of some."""
BROKEN_STATES = re.compile(r"(down|drain|drng|fail|maint|inval|unk|n/a).*|.*\*")
"""Of nodes that take no work. A star says that they do not respond."""


def look_at_slurm(config: DoctorConfig) -> Iterator[Finding]:
    """Ask the controller, if there is any, and have it judge a training as `slurm/site.env` would have it."""
    if shutil.which("sbatch") is None:
        yield skipped("Slurm", "no sbatch here")
        return
    try:
        settings = dict(re.findall(r"^(\w+)\s*= (.*)$", ask("scontrol", "show", "config"), re.MULTILINE))
        nodes = [line.split("|") for line in ask("sinfo", "--noheader", f"--format={NODE_FIELDS}").splitlines()]
    except (InputError, RunError) as error:
        if NO_CLUSTER in str(error):
            yield skipped("Slurm", "its commands are installed, but no slurm.conf names a cluster")
            return
        yield explain("Slurm", error, Path.cwd())
        return
    yield well("Slurm", f"{settings['SLURM_VERSION']}, cluster {settings['ClusterName']}")
    if "SLURM_JOB_ID" not in os.environ:  # where a job runs, nobody need be allowed to submit another
        yield judge_site(Path(os.environ.get("ALEXNET_HOME", ".")), has_gpus="gpu" in settings["GresTypes"].split(","))
    for name, rows in groupby(sorted(nodes), key=lambda row: row[0]):
        yield describe_partition(name, list(rows))


def ask(*words: str, environment: Mapping[str, str] | None = None) -> str:
    """What a command of Slurm prints.

    Raises:
        InputError: it is not there.
        RunError: it fails, or does not answer.
    """
    ended = slurm.run(words, environment, seconds=ANSWER_SECONDS)
    if ended.returncode:
        raise RunError(slurm.find_message(ended.stderr))
    return ended.stdout


def judge_site(root: Path, *, has_gpus: bool) -> Finding:
    """Whether Slurm would take `slurm/train.sbatch`, with the variables of the site and its way to ask for GPUs.

    Args:
        root: the checkout with the scripts.
        has_gpus: whether Slurm knows of any.
    """
    path, script = Path(os.environ.get("ALEXNET_SITE") or root / "slurm" / "site.env"), root / "slurm" / "train.sbatch"
    if "ALEXNET_SITE" in os.environ and not path.is_file():
        return ill("site.env", f"{path}, which ALEXNET_SITE names, is not there", SITE_ADVICE)
    if not script.is_file():
        return skipped("site.env", f"no {script} here to try; name the checkout that has it with ALEXNET_HOME")
    site = {name: value for name, value in dotenv_values(path).items() if value} if path.is_file() else {}
    variables = {name: value for name, value in {**site, **os.environ}.items() if name.startswith("SBATCH_")}
    options = choose_gpu_options({**site, **os.environ}) if has_gpus else ["--gres=none"]
    words = " ".join(["sbatch", *options, "slurm/train.sbatch"])
    where = str(path) if path.is_file() else f"no {path}"
    try:
        ask("sbatch", "--test-only", *options, str(script), environment=variables)
    except RunError as error:
        return ill("site.env", f"{where}; Slurm refuses `{words}`: {error}", f"{SITE_ADVICE} (`sinfo` has its parts)")
    return well("site.env", f"{where}; Slurm takes `{words}`")


def choose_gpu_options(site: Mapping[str, str]) -> list[str]:
    """How `alexnet submit` asks for two GPUs of a node; nothing where the script's own words do."""
    kind, way = site.get("GPU_TYPE"), site.get("GPU_REQUEST", "gres")
    return list_gpu_options(2, kind, way) if kind or way != "gres" else []


def describe_partition(name: str, rows: Sequence[Sequence[str]]) -> Finding:
    """Nodes, GPUs and limits of a partition, whose rows have the fields of `NODE_FIELDS`."""
    _, available, longest, preemption, *_ = rows[0]
    states = Counter[str]()
    for *_, count, state, _, _ in rows:
        states[state] += int(count)
    kinds = dict.fromkeys(describe_node(cores, gpus) for *_, cores, gpus in rows)
    counts = ", ".join(f"{count} {state}" for state, count in states.items())
    found = f"{sum(states.values())} nodes ({counts}) of {' or '.join(kinds)}, up to {longest}"
    if preemption.lower() not in ("off", "n/a"):
        found += f", pre-emption by {preemption.lower()}"
    subject = f"partition {name}"
    if available != "up" or all(BROKEN_STATES.fullmatch(state) for state in states):
        return skipped(subject, f"takes no work now: {available}, {found}")
    return well(subject, found, nodes=sum(states.values()))


def describe_node(cores: str, gpus: str) -> str:
    """Cores and GPUs, of which `gpu:h100:4(S:0-1)` says beside which sockets they are."""
    bare = re.sub(r"\(S:[^)]*\)", "", gpus)
    return f"{cores} cores" if bare == "(null)" else f"{cores} cores and {bare}"
