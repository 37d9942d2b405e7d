"""`alexnet doctor`: everything that is looked at, on one node or on all of a Slurm step, and what is said of it."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.artifacts import write_json
from pipeline.errors import RUN_ERROR_CODE
from pipeline.launch.doctor.exchange import FOLDER_VARIABLE, GATHERED_FILE, count_nodes, meet
from pipeline.launch.doctor.finding import Line, count_ill, format_json, format_table, list_nodes
from pipeline.launch.doctor.gpus import look_at_gpus
from pipeline.launch.doctor.machine import look_at_disk, look_at_limits
from pipeline.launch.doctor.packages import (
    REINSTALL_ADVICE,
    look_at_dali,
    look_at_pillow,
    look_at_python,
    look_at_torchvision,
)
from pipeline.launch.doctor.processes import Look, run_looks
from pipeline.launch.doctor.reading import look_at_data, look_at_source
from pipeline.launch.doctor.server import look_at_mlflow
from pipeline.launch.doctor.slurm import look_at_slurm
from pipeline.options import DoctorConfig

IMPORT_SECONDS = 120
"""Packages on a shared disk that many nodes read at once take their time."""
READING_SECONDS = 180
"""As the indexes of a large shard set do, or folders of a million pictures."""
HANGING_ADVICE = "that disk does not answer: `stat` it, see `dmesg`, tell the administrators"
LOOKS = (
    Look("Python", look_at_python, REINSTALL_ADVICE),
    Look("torch", look_at_gpus, f"{REINSTALL_ADVICE}; see `nvidia-smi` if it hangs", seconds=IMPORT_SECONDS),
    Look("torchvision", look_at_torchvision, REINSTALL_ADVICE, seconds=IMPORT_SECONDS),
    Look("Pillow", look_at_pillow, REINSTALL_ADVICE),
    Look("mlflow", look_at_mlflow, REINSTALL_ADVICE, seconds=IMPORT_SECONDS),
    Look("limits", look_at_limits, "report this as a bug"),
    Look("disk", look_at_disk, HANGING_ADVICE),
    Look("Slurm", look_at_slurm, "see `scontrol ping`"),
)
LOOKS_ALONE = (
    Look("DALI", look_at_dali, REINSTALL_ADVICE, seconds=IMPORT_SECONDS),
    Look("shards", look_at_data, HANGING_ADVICE, seconds=READING_SECONDS),
    Look("source", look_at_source, HANGING_ADVICE, seconds=READING_SECONDS),
)
"""One GPU may let in but one process, and what is timed wants the machine for itself."""


def diagnose(config: DoctorConfig) -> bool:
    """Look at everything and print what was found; returns whether all is well.

    On several nodes of a Slurm step, with one task on each, the first prints for all, unless they cannot reach each
    other.

    Raises:
        PeerLostError: with --all-reduce, a rank ended or did not come.
    """
    if config.all_reduce:
        from pipeline.launch.doctor.network import measure_network

        lines = measure_network(config)
        if FOLDER_VARIABLE not in os.environ:
            return report(lines, config)
        if lines:
            write_json(Path(os.environ[FOLDER_VARIABLE]) / GATHERED_FILE, lines)
        return True
    findings, have_ended = run_looks(LOOKS, LOOKS_ALONE, config)
    is_well = report(meet(findings, config), config)
    if not have_ended:  # a dead disk holds a look back in the kernel, and Python would wait for it
        sys.stdout.flush()
        os._exit(RUN_ERROR_CODE)
    return is_well


def report(lines: Sequence[Line], config: DoctorConfig) -> bool:
    """Print the table, or JSON; returns whether all is well. Without lines nothing is said.

    A node of several that speaks for itself alone puts its name before each line, or its object on one, since the
    others print at the same time.
    """
    num_ill, nodes = count_ill(lines), list_nodes(lines)
    speaks_alone = len(nodes) == 1 < count_nodes()
    if lines and config.json:
        print(format_json(lines, indent=None if speaks_alone else 1))
    elif lines:
        verdict = f"{num_ill} to mend" if num_ill else "all is well"
        rows = [*format_table(lines), f"doctor: {verdict} on {', '.join(nodes)}"]
        print("\n".join(f"{nodes[0]}: {row}" for row in rows) if speaks_alone else "\n".join(rows))
    return num_ill == 0
