"""Whether a run may start in its directory, and the record of that it did."""

import os
import shutil
import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec

import torch

from pipeline.artifacts import RunDirectory, RunRecord, ShardSet, Start, wait_until_free, write_bytes, write_json
from pipeline.checkpoint import Identity, check_belongs
from pipeline.config import ExperimentConfig
from pipeline.distributed import World, pick_device, read_world_size
from pipeline.errors import InputError, check
from pipeline.experiments import get_status
from pipeline.options import RuntimeConfig
from pipeline.provenance import read_command, read_commit, read_machine, read_tool_versions
from pipeline.weights import Weights

DEAD_NODE_SECONDS = 180.0
"""How long a requeued job waits for the lock of its last life, whose node may have died with it."""


def check_shareable(config: ExperimentConfig, runtime: RuntimeConfig) -> None:
    """Refuse what needs all of a layer on one rank, where ranks share layers.

    Raises:
        InputError: LARS's norms, or float16's search for gradients that are not finite, would see parts only.
    """
    check(
        not runtime.compress_gradients or read_world_size() > 1,
        "--compress-gradients has no use: one process averages no gradients",
    )
    shared = "--towers 2" if runtime.towers > 1 else f"--fc-parallel {runtime.fc_parallel}"
    if runtime.towers == runtime.fc_parallel == 1:
        return
    if runtime.towers > 1:
        from pipeline.model.towers import check_towers  # DTensor takes a second or two to import

        check_towers(config.model, runtime.towers)
    check(
        config.optimizer.lars is None, f"{shared} leaves each rank parts of layers, whose norms --optimizer.lars needs"
    )
    check(config.precision != "float16", f"{shared} does not go with --precision float16: take bfloat16")


def check_compiler(runtime: RuntimeConfig) -> None:
    """Refuse --compile where there is nothing to compile with.

    Raises:
        InputError: torch.compile would fail at the first step.
    """
    if runtime.compile and pick_device(runtime.device, 0).type == "cpu":
        compiler = os.environ.get("CXX", "g++")
        check(
            shutil.which(compiler) is not None or shutil.which("clang++") is not None,
            f"--compile needs a C++ compiler, and there is no {compiler} here: install g++, or leave it out",
        )
    elif runtime.compile:
        check(find_spec("triton") is not None, "--compile needs Triton on a GPU: install triton, or leave it out")


def check_run_directory(run: RunDirectory, wanted: Identity, *, resume: bool) -> None:
    """Refuse a run directory that is taken, or that --resume cannot go on with. Nothing is written yet.

    Raises:
        InputError: it exists and `resume` is False, or does not exist and it is True, or it belongs to another run.
    """
    if resume:
        check(run.config.is_file(), f"{run.path} has no config.json, so no run began there: leave out --resume")
        record = run.read_record()
        check(
            record.status != "imported",
            f"--out {run.path} holds weights that were imported, and no training to go on with: choose another --out",
        )
        check_belongs(run.path, record, wanted)
        patience = DEAD_NODE_SECONDS if int(os.environ.get("SLURM_RESTART_COUNT", "0")) > 0 else 0.0
        holder = wait_until_free(run.lock, seconds=patience)
        check(holder is None, f"{holder} is training in --out {run.path}: wait for it, stop it, or choose another")
    elif run.config.is_file():
        raise InputError(f"--out {run.path} already exists: add --resume to go on with it, or choose another directory")
    elif not run.is_free:
        raise InputError(f"--out {run.path} already exists and holds no run: choose another directory")


def record_start(
    run: RunDirectory,
    wanted: Identity,
    runtime: RuntimeConfig,
    shard_set: ShardSet,
    world: World,
    weights: Weights | None,
    *,
    hosts: Sequence[str],
    status: str | None = None,
) -> None:
    """Write `config.json` and `dataset.json`, or add a resumed start to the first; `hosts` has a name for each rank."""
    start = read_start(world, hosts)
    if run.config.is_file():
        check(runtime.resume, f"--out {run.path} was taken by another start a moment ago: choose another directory")
        record = run.read_record()
        write_json(run.config, replace(record, starts=(*record.starts, start)))
        return
    write_bytes(run.dataset, (shard_set.path / run.dataset.name).read_bytes())
    record = RunRecord(
        id=uuid.uuid4().hex,
        experiment=wanted.experiment,
        status=status or get_status(wanted.experiment, wanted.config),
        config=wanted.config,
        data=str(runtime.data.resolve()),
        data_digest=wanted.data_digest,
        data_layout=shard_set.info.layout,
        data_complete=shard_set.info.complete,
        data_packing=shard_set.info.packing,
        num_dropped_images=shard_set.info.num_dropped,
        num_train_images=shard_set.info.splits["train"].num_images,
        num_val_images=shard_set.info.splits["val"].num_images,
        starts=(start,),
        weights=str(weights.path.resolve()) if weights else None,
        weights_digest=weights.sha256 if weights else None,
    )
    write_json(run.config, record)


def read_start(world: World, hosts: Sequence[str]) -> Start:
    """What is known of this process's start."""
    commit = read_commit()
    device = torch.cuda.get_device_name(world.device) if world.device.type == "cuda" else "CPU"
    return Start(
        command=read_command(world.world_size),
        commit=commit.id,
        dirty=commit.dirty,
        machine=read_machine(),
        device=device,
        world_size=world.world_size,
        tools=read_tool_versions(),
        time=time.time(),
        hosts=tuple(dict.fromkeys(hosts)),
        slurm_job_id=os.environ.get("SLURM_JOB_ID"),
        image=os.environ.get("ALEXNET_IMAGE") or None,
    )
