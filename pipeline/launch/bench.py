"""What every benchmark writes down: ratios within one run, and all that is needed to measure them again."""

import re
from dataclasses import dataclass
from pathlib import Path

import torch
from tabulate import tabulate

from pipeline.artifacts import write_json
from pipeline.provenance import read_command, read_commit, read_machine, read_tool_versions


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """One variant: images per second, and its ratio to another one of the same run."""

    variant: str
    images_per_second: float
    ratio: float
    ratio_to: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """Where the numbers of a benchmark come from."""

    command: str
    commit: str
    dirty: bool
    machine: str
    device: str
    tools: dict[str, str]


def read_origin(device: str) -> Origin:
    """What is known of this process; read before the work, for files may change meanwhile."""
    commit = read_commit()
    return Origin(
        command=read_command(1),
        commit=commit.id,
        dirty=commit.dirty,
        machine=read_machine(),
        device=device,
        tools=read_tool_versions(),
    )


def name_device(device: torch.device) -> str:
    """The GPU's name, or `cpu`."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def wait_for_device(device: torch.device) -> None:
    """Until the GPU has done what it was given, if there is one."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def write_record(folder: Path, name: str, origin: Origin, record: object) -> Path:
    """Write a record as JSON under a name that tells device and commit; returns where."""
    device = re.sub(r"\W+", "-", origin.device.lower())
    path = folder / f"{name}-{device}-{origin.commit[:12]}.json"
    write_json(path, record)
    return path


def format_timings(timings: list[Timing], *, style: str = "simple") -> str:
    """The timings as a table."""
    rows = [
        (timing.variant, f"{timing.images_per_second:,.0f}", f"{timing.ratio:.2f} × {timing.ratio_to}")
        for timing in timings
    ]
    return tabulate(rows, ("variant", "images/s", "ratio"), style, colalign=("left", "right", "left"))
