"""What one rank needs to train: network, optimiser and loaders, as new or from a checkpoint."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from pipeline.artifacts import RunDirectory, ShardSet
from pipeline.augment.loader import BatchFormat, EvaluationLoader, TrainLoader
from pipeline.checkpoint import Identity, check_belongs, find_checkpoints, read_checkpoint
from pipeline.config import ExperimentConfig
from pipeline.distributed import World, broadcast_from_main
from pipeline.errors import check
from pipeline.experiments import get_status
from pipeline.model.alexnet import build_alexnet
from pipeline.options import RuntimeConfig
from pipeline.train.optimizer import build_optimizer

EVALUATION_BATCH_SIZE = 256


@dataclass(kw_only=True, slots=True)
class Trainer:
    """Everything that one rank needs to train, and where it stands: steps taken, errors of the finished epochs."""

    identity: Identity
    runtime: RuntimeConfig
    world: World
    network: nn.Module
    parallel: nn.Module
    optimizer: torch.optim.SGD
    train_loader: TrainLoader
    val_loader: EvaluationLoader
    step: int
    val_top1_errors: tuple[float, ...]

    @property
    def config(self) -> ExperimentConfig:
        """What is trained, and how."""
        return self.identity.config

    @property
    def run(self) -> RunDirectory:
        """Where this run writes."""
        return RunDirectory(self.runtime.out)

    @property
    def steps_per_epoch(self) -> int:
        """Global batches of an epoch."""
        return self.train_loader.steps_per_epoch

    @property
    def last_step(self) -> int:
        """Step at which training ends."""
        full = self.config.schedule.epochs * self.steps_per_epoch
        return min(full, self.runtime.max_steps or full)


def build_trainer(identity: Identity, runtime: RuntimeConfig, shard_set: ShardSet, world: World) -> Trainer:
    """Build network, optimiser and loaders, as new or from the newest checkpoint.

    Raises:
        InputError: the checkpoint is damaged or of another run, or the data do not fit.
    """
    name, config = identity.experiment, identity.config
    network = build_alexnet(config.model, input_pixels=config.augment.input_pixels, seed=config.seed).to(world.device)
    optimizer = build_optimizer(network, config.optimizer)
    batch_format = BatchFormat(dtype=torch.bfloat16 if config.precision == "bfloat16" else torch.float32)
    train_loader = TrainLoader(
        shard_set,
        config.augment,
        global_batch_size=config.global_batch_size,
        seed=config.seed,
        world=world,
        loading=runtime,
        batch_format=batch_format,
    )
    val_loader = EvaluationLoader(
        shard_set,
        config.augment,
        "val",
        "center",
        batch_size=EVALUATION_BATCH_SIZE,
        world=world,
        loading=runtime,
        batch_format=batch_format,
    )
    step, errors = 0, tuple[float, ...]()
    found = find_checkpoints(RunDirectory(runtime.out).checkpoints) if runtime.resume else []
    newest = broadcast_from_main(found[-1] if found else None)
    if newest is not None:
        checkpoint = read_checkpoint(newest, device=world.device)
        check_belongs(newest, checkpoint, identity)
        network.load_state_dict(checkpoint.model)
        optimizer.load_state_dict(checkpoint.optimizer)
        step, errors = checkpoint.step, checkpoint.val_top1_errors
        check_draws(train_loader, step, checkpoint.draws_digest, str(newest))
    check_draws(train_loader, step, broadcast_from_main(train_loader.sampler.compute_digest(step)), "rank 0")
    if world.is_main:
        start = f"goes on at step {step} from {newest}" if newest else "starts at step 0"
        print(
            f"train: {name} ({get_status(name, config)}) {start}, {train_loader.steps_per_epoch} steps an epoch, "
            f"{config.schedule.epochs} epochs, {world.world_size} processes on {world.device.type}",
            flush=True,
        )
    return Trainer(
        identity=identity,
        runtime=runtime,
        world=world,
        network=network,
        parallel=wrap_parallel(network, world),
        optimizer=optimizer,
        train_loader=train_loader,
        val_loader=val_loader,
        step=step,
        val_top1_errors=errors,
    )


def check_draws(loader: TrainLoader, step: int, digest: str, whose: str) -> None:
    """Refuse to go on with another order or other draws than those of a checkpoint or of the first rank.

    Raises:
        InputError: they differ.
    """
    check(
        loader.sampler.compute_digest(step) == digest,
        f"with NumPy {np.__version__} here, order and draws of epoch {step // loader.steps_per_epoch} are not those of "
        f"{whose}: all nodes and all starts of a run need the same commit and the same NumPy",
    )


def wrap_parallel(network: nn.Module, world: World) -> nn.Module:
    """The network with gradients averaged over ranks; itself where there is one rank."""
    if world.world_size == 1:
        return network
    devices = [world.device.index] if world.device.type == "cuda" else None
    return DistributedDataParallel(network, device_ids=devices, gradient_as_bucket_view=True)
