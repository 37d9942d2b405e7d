"""`alexnet doctor`: everything that is looked at, on one node or on all of a Slurm step, and what is said of it."""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from pipeline.artifacts import write_json
from pipeline.errors import RUN_ERROR_CODE, InputError, RunError
from pipeline.launch.doctor.disk import look_at_disk
from pipeline.launch.doctor.exchange import FOLDER_VARIABLE, GATHERED_FILE, ask_ranks, count_nodes
from pipeline.launch.doctor.finding import Finding, explain, ill, skipped
from pipeline.launch.doctor.gpus import look_at_gpus
from pipeline.launch.doctor.limits import look_at_limits
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
from pipeline.launch.doctor.table import Line, format_table, merge, name_node
from pipeline.options import DoctorConfig

IMPORT_SECONDS = 120
"""Packages on a shared disk that many nodes read at once take their time."""
HANGING_ADVICE = "that disk does not answer: `stat` it, see `dmesg`, tell the administrators"
NETWORK_ADVICE = (
    "use slurm/doctor.sbatch; name NETWORK_INTERFACE in slurm/site.env; open the nodes' ports to each other"
)
LOOKS = (
    Look("Python", look_at_python, REINSTALL_ADVICE),
    Look("torch", look_at_gpus, f"{REINSTALL_ADVICE}; see `nvidia-smi` if it hangs", seconds=IMPORT_SECONDS),
    Look("torchvision", look_at_torchvision, REINSTALL_ADVICE, seconds=IMPORT_SECONDS),
    Look("DALI", look_at_dali, REINSTALL_ADVICE, seconds=IMPORT_SECONDS),
    Look("Pillow", look_at_pillow, REINSTALL_ADVICE),
    Look("mlflow", look_at_mlflow, REINSTALL_ADVICE, seconds=IMPORT_SECONDS),
    Look("limits", look_at_limits, "report this as a bug"),
    Look("disk", look_at_disk, HANGING_ADVICE),
    Look("Slurm", look_at_slurm, "see `scontrol ping`"),
)
TIMED_LOOKS = (Look("shards", look_at_data, HANGING_ADVICE), Look("source", look_at_source, HANGING_ADVICE))


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
    findings, have_ended = run_looks(LOOKS, TIMED_LOOKS, config)
    is_well = report(meet(findings, config), config)
    if not have_ended:  # a dead disk holds a look back in the kernel, and Python would wait for it
        sys.stdout.flush()
        os._exit(RUN_ERROR_CODE)
    return is_well


def meet(findings: Sequence[Finding], config: DoctorConfig) -> list[Line]:
    """What this node found, and where there are others or several GPUs, what all found and the network between them.

    Empty where another node tells.
    """
    num_nodes = count_nodes()
    if num_nodes > 1 or max(finding.measured.get("gpus", 0) for finding in findings) > 1:
        try:
            return ask_ranks(findings, config) or []
        except InputError as error:
            network = explain("all-reduce", error)
        except RunError as error:
            network = ill("all-reduce", str(error), NETWORK_ADVICE)
    elif (allocated := int(os.environ.get("SLURM_JOB_NUM_NODES", "1"))) > 1:
        network = skipped(
            "all-reduce", f"this job has {allocated} nodes: srun --ntasks-per-node=1 alexnet doctor looks at them all"
        )
    else:
        network = skipped("all-reduce", "one node, and no more than one GPU")
    return merge({name_node(): [*findings, network]})


def report(lines: Sequence[Line], config: DoctorConfig) -> bool:
    """Print the table, or JSON; returns whether all is well. Without lines nothing is said."""
    num_ill = sum(line.finding.status == "ill" for line in lines)
    nodes = list(dict.fromkeys(node for line in lines for node in line.nodes))
    if lines and config.json:
        findings = [{"nodes": line.nodes, **asdict(line.finding)} for line in lines]
        print(json.dumps({"ok": num_ill == 0, "nodes": nodes, "findings": findings}, indent=1, ensure_ascii=False))
    elif lines:
        verdict = f"{num_ill} to mend" if num_ill else "all is well"
        rows = [*format_table(lines), f"doctor: {verdict} on {', '.join(nodes)}"]
        speaks_alone = len(nodes) == 1 < count_nodes()
        print("\n".join(f"{nodes[0]}: {row}" for row in rows) if speaks_alone else "\n".join(rows))
    return num_ill == 0
