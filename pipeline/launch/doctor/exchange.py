"""Ranks on this node, or on all of a Slurm step, started to measure the network and to gather what the nodes found."""

import contextlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import psutil

from pipeline.artifacts import read_json, write_json
from pipeline.errors import INPUT_ERROR_CODE, InputError, RunError
from pipeline.launch.doctor.finding import Finding, Line, explain, ill, merge, name_node, skipped
from pipeline.options import DoctorConfig

FOLDER_VARIABLE = "ALEXNET_FINDINGS"
"""Names a folder of this node: `doctor` leaves there what it found, and the first rank what all nodes found."""
OWN_FILE, GATHERED_FILE = "own.json", "gathered.json"
NETWORK_SECONDS = 180
NETWORK_ADVICE = (
    "use slurm/doctor.sbatch; name NETWORK_INTERFACE in slurm/site.env; open the nodes' ports to each other"
)


def count_nodes() -> int:
    """Nodes of the Slurm step that this is a task of; 1 outside of one."""
    return int(os.environ.get("SLURM_STEP_NUM_NODES", "1"))


def meet(findings: Sequence[Finding], config: DoctorConfig) -> list[Line]:
    """What this node found, and where there are others or several GPUs, what all found and the network between them.

    Empty where another node tells.
    """
    if count_nodes() > 1 or max((finding.measured.get("gpus", 0) for finding in findings), default=0) > 1:
        try:
            return ask_ranks(findings, config)
        except InputError as error:
            network = explain("all-reduce", error, Path.cwd())
        except RunError as error:
            network = ill("all-reduce", str(error), NETWORK_ADVICE)
    elif (allocated := int(os.environ.get("SLURM_JOB_NUM_NODES", "1"))) > 1:
        network = skipped(
            "all-reduce", f"this job has {allocated} nodes: srun --ntasks-per-node=1 alexnet doctor looks at them all"
        )
    else:
        network = skipped("all-reduce", "one node, and no more than one GPU")
    return merge({name_node(): [*findings, network]})


def ask_ranks(findings: Sequence[Finding], config: DoctorConfig) -> list[Line]:
    """Run `alexnet torchrun doctor --all-reduce`, as training would be started.

    Returns:
        What all nodes and the network between them are like; empty where another node tells.

    Raises:
        InputError: they were started wrongly.
        RunError: they did not meet, or one of them failed.
    """
    command = [sys.executable, "-m", "pipeline", "torchrun", "doctor", "--all-reduce"]
    command += ["--out", str(config.out)] if config.out else []
    with tempfile.TemporaryDirectory() as folder:
        write_json(Path(folder) / OWN_FILE, tuple(findings))
        code, said = run_to_end(command, os.environ | {FOLDER_VARIABLE: folder})
        if code:
            lines = [line for line in said.splitlines() if line.strip()]
            sentences = re.findall(r"^alexnet [\w ]+: (.*)", said, re.MULTILINE) or lines[-1:]
            kind = InputError if code == INPUT_ERROR_CODE else RunError
            raise kind(sentences[0] if sentences else f"the ranks ended with {code}")
        gathered = Path(folder) / GATHERED_FILE
        return read_json(gathered, list[Line]) if gathered.is_file() else []


def run_to_end(command: Sequence[str], environment: dict[str, str]) -> tuple[int, str]:
    """Run a command; returns its exit code and what it said on standard error. Nothing that it started is left.

    Raises:
        RunError: it does not end.
    """
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as ranks:
        try:
            _, said = ranks.communicate(timeout=NETWORK_SECONDS)
        except subprocess.TimeoutExpired:
            raise RunError(f"the ranks did not come to an end within {NETWORK_SECONDS} s") from None
        finally:
            kill_with_descendants(ranks.pid)
    return ranks.returncode, said


def kill_with_descendants(process: int) -> None:
    """Kill a process and all that it started: torchrun has each rank lead a session, so that no group holds them."""
    with contextlib.suppress(psutil.NoSuchProcess):
        launcher = psutil.Process(process)
        for each in (*launcher.children(recursive=True), launcher):
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
