"""Ranks on this node, or on all of a Slurm step, started to measure the network and to gather what the nodes found."""

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pipeline.artifacts import read_json, write_json
from pipeline.errors import INPUT_ERROR_CODE, InputError, RunError
from pipeline.launch.doctor.finding import Finding
from pipeline.launch.doctor.table import Line
from pipeline.options import DoctorConfig

FOLDER_VARIABLE = "ALEXNET_FINDINGS"
"""Names a folder of this node: `doctor` leaves there what it found, and the first rank what all nodes found."""
OWN_FILE, GATHERED_FILE = "own.json", "gathered.json"
NETWORK_SECONDS = 180


def count_nodes() -> int:
    """Nodes of the Slurm step that this is a task of; 1 outside of one."""
    return int(os.environ.get("SLURM_NNODES", "1")) if "SLURM_STEP_ID" in os.environ else 1


def ask_ranks(findings: Sequence[Finding], config: DoctorConfig) -> list[Line] | None:
    """Run `alexnet torchrun doctor --all-reduce`, as training would be started.

    Returns:
        What all nodes and the network between them are like; None where another node tells.

    Raises:
        InputError: they were started wrongly.
        RunError: they did not meet, or one of them failed.
    """
    command = [sys.executable, "-m", "pipeline", "torchrun", "doctor", "--all-reduce"]
    command += ["--out", str(config.out)] if config.out else []
    with tempfile.TemporaryDirectory() as folder:
        write_json(Path(folder) / OWN_FILE, tuple(findings))
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {FOLDER_VARIABLE: folder},
            start_new_session=True,
        ) as ranks:
            try:
                _, said = ranks.communicate(timeout=NETWORK_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(ranks.pid, signal.SIGKILL)
                raise RunError(f"the ranks did not come to an end within {NETWORK_SECONDS} s") from None
        if ranks.returncode:
            sentences = re.findall(r"^alexnet [\w ]+: (.*)", said, re.MULTILINE) or said.splitlines()
            kind = InputError if ranks.returncode == INPUT_ERROR_CODE else RunError
            raise kind(sentences[0] if sentences else f"the ranks ended with {ranks.returncode}")
        gathered = Path(folder) / GATHERED_FILE
        return read_json(gathered, list[Line]) if gathered.is_file() else None
