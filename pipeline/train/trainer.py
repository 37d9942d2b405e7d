"""What one rank needs to train: network, optimiser and loaders, as new, from given weights or from a checkpoint."""

import math
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import nn

from pipeline.artifacts import RunDirectory, ShardSet
from pipeline.augment.loader import BatchFormat, EvaluationLoader, TrainLoader
from pipeline.checkpoint import Checkpoint, Identity, check_belongs, find_sound, read_checkpoint
from pipeline.config import ExperimentConfig
from pipeline.distributed import World, broadcast_from_main, decide_on_main
from pipeline.errors import check
from pipeline.experiments import get_status
from pipeline.model.alexnet import AlexNet, build_alexnet
from pipeline.model.parallel import ParallelNetwork
from pipeline.model.precision import AUTOCAST_DTYPES, use_tensor_cores
from pipeline.options import RuntimeConfig
from pipeline.tracking import Journal
from pipeline.train.optimizer import build_optimizer
from pipeline.train.preemption import StopRequest
from pipeline.train.schedule import Rates, compute_rates
from pipeline.train.step import Stepper, count_parts
from pipeline.train.watchdog import Note, say_nothing
from pipeline.weights import Weights

EVALUATION_BATCH_SIZE = 256


@dataclass(kw_only=True, slots=True)
class Trainer:
    """Everything that one rank needs to train, and where it stands: steps taken, evaluations, whether it stalls.

    `stop` is this rank's request to stop, `stopping` what all ranks have agreed on; `note` tells the watchdog what
    is done next.
    """

    identity: Identity
    runtime: RuntimeConfig
    shard_set: ShardSet
    world: World
    parallel: ParallelNetwork
    optimizer: torch.optim.SGD
    stepper: Stepper
    train_loader: TrainLoader
    val_loader: EvaluationLoader
    journal: Journal
    step: int = 0
    evaluations: tuple[tuple[int, float], ...] = ()
    stalled: bool = False
    num_steps_at_chance: int = 0
    stop: StopRequest = field(default_factory=StopRequest)
    stopping: bool = False
    note: Note = say_nothing

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
    def num_scheduled_steps(self) -> int:
        """Steps of all epochs."""
        return self.config.schedule.epochs * self.steps_per_epoch

    @property
    def last_step(self) -> int:
        """Step at which training ends."""
        return min(self.num_scheduled_steps, self.runtime.max_steps or self.num_scheduled_steps)

    @property
    def is_evaluation_due(self) -> bool:
        """Whether an epoch has ended after which the validation error is measured, and it has not been yet."""
        epoch, rest = divmod(self.step, self.steps_per_epoch)
        schedule = self.config.schedule
        due = rest == 0 and epoch > 0 and (epoch % schedule.evaluate_every == 0 or epoch == schedule.epochs)
        return due and all(epoch != measured for measured, _ in self.evaluations)

    @property
    def has_work(self) -> bool:
        """Whether there is a step to take, or an evaluation that a stop has cut off."""
        return self.step < self.last_step or self.is_evaluation_due

    def compute_rates(self, step: int) -> Rates:
        """Learning rates of a step."""
        return compute_rates(
            self.config.schedule,
            step=step,
            steps_per_epoch=self.steps_per_epoch,
            global_batch_size=self.config.global_batch_size,
            evaluations=self.evaluations,
        )

    def gather_network(self) -> nn.Module:
        """The whole network on this rank's device, with the weights of now; every rank calls this."""
        if self.world.mesh is None:
            return self.parallel.network
        network = build_network(self.config, seed=None).to(self.world.device)
        network.load_state_dict(self.parallel.gather_state())
        return network

    def gather_checkpoint(self) -> Checkpoint:
        """What it takes to go on from here, as if on one device; every rank calls this."""
        return Checkpoint(
            experiment=self.identity.experiment,
            config=self.config,
            data_digest=self.identity.data_digest,
            step=self.step,
            steps_per_epoch=self.steps_per_epoch,
            evaluations=self.evaluations,
            draws_digest=self.train_loader.sampler.compute_digest(self.step),
            stalled=self.stalled,
            model=self.parallel.gather_state(),
            optimizer=self.parallel.gather_optimizer_state(self.optimizer),
            scaler=self.stepper.scaler.state_dict(),
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Stand where a checkpoint stands."""
        self.parallel.load_state(checkpoint.model)
        self.parallel.load_optimizer_state(self.optimizer, checkpoint.optimizer)
        self.stepper.scaler.load_state_dict(checkpoint.scaler)
        self.step, self.evaluations, self.stalled = checkpoint.step, checkpoint.evaluations, checkpoint.stalled


def build_trainer(
    identity: Identity, runtime: RuntimeConfig, shard_set: ShardSet, world: World, weights: Weights | None
) -> Trainer:
    """Build network, optimiser and loaders, as new, from given weights, or from the newest sound checkpoint.

    Raises:
        InputError: the checkpoint is of another run, or the data or the ranks do not fit.
    """
    name, config = identity.experiment, identity.config
    trainer = assemble(identity, runtime, shard_set, world, weights)
    newest, warnings = decide_on_main(
        lambda: find_sound(RunDirectory(runtime.out).checkpoints) if runtime.resume else (None, [])
    )
    if newest is not None:
        checkpoint = read_checkpoint(newest, device=world.device)
        check_belongs(newest, checkpoint, identity)
        trainer.restore(checkpoint)
        check_draws(trainer.train_loader, trainer.step, checkpoint.draws_digest, str(newest))
    if world.is_main:
        trainer.journal.leave_out_known(since=trainer.step)
    own_digest = trainer.train_loader.sampler.compute_digest(trainer.step)
    check_draws(trainer.train_loader, trainer.step, broadcast_from_main(own_digest), "rank 0")
    if world.is_main:
        begin = f"starts at step 0{f' with weights of {weights.kind}, {weights.path}' if weights else ''}"
        start = f"goes on at step {trainer.step} from {newest}" if newest else begin
        print(
            *(f"train: warning: {warning}" for warning in warnings),
            f"train: {name} ({get_status(name, config)}) {start}, {trainer.steps_per_epoch} steps an epoch, "
            f"{config.schedule.epochs} epochs, {describe_world(world)}",
            sep="\n",
            flush=True,
        )
    return trainer


def describe_world(world: World) -> str:
    """Processes, device, and how they share the network."""
    shared = "in pairs of towers " if world.towers > 1 else ""
    shared = f"sharing the linear layers by {world.fc_parallel} " if world.fc_parallel > 1 else shared
    return f"{world.world_size} process{'es' if world.world_size > 1 else ''} {shared}on {world.device.type}"


def build_network(config: ExperimentConfig, *, seed: int | None) -> AlexNet:
    """The whole network of an experiment."""
    return build_alexnet(config.model, input_pixels=config.augment.input_pixels, seed=seed)


def assemble(
    identity: Identity, runtime: RuntimeConfig, shard_set: ShardSet, world: World, weights: Weights | None
) -> Trainer:
    """Everything at step 0."""
    config = identity.config
    use_tensor_cores(enabled=config.precision == "tf32")
    network = build_network(config, seed=config.seed)
    if weights is not None:
        network.load_state_dict(weights.state, strict=config.pretrained == "all")
    layout = torch.channels_last if runtime.channels_last else torch.contiguous_format
    network = network.to(world.device, memory_format=layout)  # type: ignore[call-overload]
    batch_size = config.batch_size_per_rank(world.num_data_ranks)
    parallel = ParallelNetwork(
        network,
        config.model,
        world,
        batch_size=min(runtime.micro_batch or batch_size, batch_size),
        bfloat16_gradients=runtime.compress_gradients,
    )
    if runtime.compile:
        parallel.compile()
    optimizer = build_optimizer(parallel.network, config.optimizer)
    return Trainer(
        identity=identity,
        runtime=runtime,
        journal=Journal(RunDirectory(runtime.out).journal),
        shard_set=shard_set,
        world=world,
        parallel=parallel,
        optimizer=optimizer,
        stepper=Stepper(
            parallel,
            optimizer,
            precision=config.precision,
            device=world.device,
            micro_batch=runtime.micro_batch,
            lars=config.optimizer.lars,
            shares_layers=world.mesh is not None,
            counts_bytes=world.world_size > 1 and not runtime.compile,
        ),
        train_loader=open_train_loader(config, runtime, shard_set, world),
        val_loader=EvaluationLoader(
            shard_set,
            config.augment,
            "val",
            "center",
            batch_size=EVALUATION_BATCH_SIZE,
            world=world,
            loading=runtime,
            batch_format=pick_format(config, runtime),
        ),
    )


def warm_up(trainer: Trainer) -> None:
    """Pass black pictures through the network once, as many as a rank passes at once, before any step is taken."""
    config, runtime, world = trainer.config, trainer.runtime, trainer.world
    if world.world_size == 1 or not trainer.has_work:
        return
    num_images, side = config.batch_size_per_rank(world.num_data_ranks), config.augment.input_pixels
    num_images = math.ceil(num_images / count_parts(num_images, runtime.micro_batch))
    wanted = pick_format(config, runtime)
    images = torch.zeros(num_images, config.model.in_channels, side, side, dtype=wanted.dtype, device=world.device)
    trainer.stepper.warm_up(images.to(memory_format=torch.channels_last) if wanted.channels_last else images)


def open_train_loader(
    config: ExperimentConfig, runtime: RuntimeConfig, shard_set: ShardSet, world: World
) -> TrainLoader:
    """This rank's training batches."""
    return TrainLoader(
        shard_set,
        config.augment,
        global_batch_size=config.global_batch_size,
        seed=config.seed,
        world=replace(world, rank=world.data_rank, world_size=world.num_data_ranks),
        loading=runtime,
        batch_format=pick_format(config, runtime),
    )


def pick_format(config: ExperimentConfig, runtime: RuntimeConfig) -> BatchFormat:
    """How the network wants its images."""
    dtype = AUTOCAST_DTYPES.get(config.precision, torch.float32)
    return BatchFormat(dtype=dtype, channels_last=runtime.channels_last)


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
