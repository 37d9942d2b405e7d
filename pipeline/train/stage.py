"""The train stage: an experiment on a shard set, alone or under torchrun, until its last epoch."""

import contextlib
import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from pipeline.artifacts import RunDirectory, TakenError, hold, read_shard_set
from pipeline.checkpoint import Identity, find_checkpoints
from pipeline.config import ExperimentConfig
from pipeline.distributed import (
    check_sharing,
    decide_on_main,
    gather_to_main,
    join_world,
    read_rank,
    read_world_size,
    wait_for_all,
)
from pipeline.errors import InputError, RunError, StoppedError, check
from pipeline.options import RuntimeConfig
from pipeline.tracking import Feed, feed_mlflow, watch_machine
from pipeline.train.admission import check_compiler, check_run_directory, check_shareable, record_start
from pipeline.train.epochs import run_epochs
from pipeline.train.preemption import hear_stop_requests
from pipeline.train.trainer import Trainer, build_trainer, warm_up
from pipeline.train.watchdog import watch
from pipeline.weights import Weights, read_weights

WATCHDOG_SECONDS = 60.0
"""How much longer collectives wait than the watchdog, which says more."""


def train(name: str, config: ExperimentConfig, runtime: RuntimeConfig) -> None:
    """Train experiment `name` as `config` says, into the run directory `runtime.out`.

    Raises:
        InputError: data, run directory, ranks, weights or checkpoint do not fit what is asked for.
        RunError: the loss is no longer finite.
        StoppedError: a signal asked to stop; there is a checkpoint.
    """
    runtime = settle_resume(runtime)
    check_shareable(config, runtime)
    check_sharing(read_world_size(), towers=runtime.towers, fc_parallel=runtime.fc_parallel)
    check_compiler(runtime)
    config.batch_size_per_rank(read_world_size() // runtime.towers)
    shard_set = read_shard_set(runtime.data)
    shard_set.check_classes(config.model.num_classes)
    run = RunDirectory(runtime.out)
    identity = Identity(experiment=name, config=config, data_digest=shard_set.info.digest)
    if read_rank() == 0:
        check_run_directory(run, identity, resume=runtime.resume)
    weights, seen = read_initial_weights(config, runtime), find_checkpoints(run.checkpoints)
    with join_world(
        runtime.device,
        towers=runtime.towers,
        fc_parallel=runtime.fc_parallel,
        timeout_seconds=runtime.timeout + WATCHDOG_SECONDS,
    ) as world:
        trainer = build_trainer(identity, runtime, shard_set, world, weights)
        wait_for_all()  # whatever a rank has to refuse, it has refused before anything is written
        with hear_stop_requests(speaks=world.is_main) as trainer.stop, contextlib.ExitStack() as stack:
            if trainer.has_work:  # a start that trains nothing leaves no trace
                hosts = gather_to_main(socket.gethostname())

                def begin() -> None:
                    stack.enter_context(claim_run(run, seen=seen))
                    record_start(run, identity, runtime, shard_set, world, weights, hosts=hosts)

                decide_on_main(begin)
            run_to_end(trainer)
            if trainer.stopping:
                raise StoppedError(
                    f"stopped at step {trainer.step} of {trainer.num_scheduled_steps}, a checkpoint is written: "
                    "go on with --resume"
                )


def run_to_end(trainer: Trainer) -> None:
    """Train as far as it goes, with MLflow fed, nodes and ranks watched; returns on all ranks together.

    Raises:
        RunError: the loss is no longer finite, or a device's memory is full.
    """
    world = trainer.world
    with (
        feed_mlflow(trainer.run) if world.is_main else contextlib.nullcontext(Feed()) as feed,
        watch_machine(trainer.run, node=socket.gethostname()) if world.local_rank == 0 else contextlib.nullcontext(),
        watch(world, timeout_seconds=trainer.runtime.timeout) as note,
    ):

        def note_or_interrupt(doing: str, steps: float) -> None:
            trainer.stop.interrupt_if_at_once()
            note(doing, steps)

        trainer.note = note_or_interrupt
        try:
            warm_up(trainer)
            run_epochs(trainer)
        except torch.OutOfMemoryError as error:
            raise RunError(
                f"the memory of {world.device} is full ({str(error).splitlines()[0]}): pass a smaller --micro-batch"
            ) from error
        if trainer.stopping:
            feed.hurry()
    wait_for_all()  # the first rank to end takes the others with it, and one of them may still be writing


def settle_resume(runtime: RuntimeConfig) -> RuntimeConfig:
    """Whether to go on from a checkpoint, where the run directory decides: --begin-or-resume, a restart by torchrun."""
    restarted = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0
    began = RunDirectory(runtime.out).config.is_file()
    if (runtime.begin_or_resume or restarted) and began:
        return replace(runtime, resume=True)
    return runtime


def read_initial_weights(config: ExperimentConfig, runtime: RuntimeConfig) -> Weights | None:
    """The weights to begin with; None where they are drawn, or where a checkpoint will give them.

    Raises:
        InputError: --weights is missing, of no use, or does not fit the network.
    """
    if runtime.resume and find_checkpoints(RunDirectory(runtime.out).checkpoints):
        return None
    wanted = config.pretrained != "none"
    check(
        wanted == (runtime.weights is not None),
        "this experiment begins with the weights of another network: pass --weights RUN_OR_FILE"
        if wanted
        else f"--weights {runtime.weights} has no use: this experiment draws its weights, "
        "unless --pretrained is features (all layers but the last) or all",
    )
    if runtime.weights is None:
        return None
    weights = read_weights(
        runtime.weights,
        config.model,
        input_pixels=config.augment.input_pixels,
        head=config.pretrained == "all",
    )
    run = RunDirectory(runtime.out)
    if run.config.is_file():
        began = run.read_record().weights_digest
        check(
            began == weights.sha256,
            f"{run.path} began with other weights (SHA-256 {began}) than --weights {runtime.weights} "
            f"({weights.sha256}): pass those",
        )
    return weights


@contextlib.contextmanager
def claim_run(run: RunDirectory, *, seen: list[Path]) -> Iterator[None]:
    """Keep other starts out of a run directory, until this process ends, however it does.

    What a killed process had half written is removed.

    Raises:
        InputError: another process trains there, or has done so since its checkpoints were those `seen`.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(hold(run.lock))
        except TakenError as error:
            raise InputError(
                f"{error} is training in --out {run.path}: wait for it, stop it, or choose another"
            ) from error
        check(
            find_checkpoints(run.checkpoints) == seen,
            f"another start has just trained in --out {run.path}: start again",
        )
        for leftover in run.checkpoints.glob(".*.tmp"):
            leftover.unlink()
        yield
