"""How fast loader and training step are, alone and together, in one run so that ratios mean something."""

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from tqdm import tqdm

from pipeline.artifacts import ShardSet, read_shard_set
from pipeline.augment.loader import Batch, BatchFormat, TrainLoader
from pipeline.config import ExperimentConfig
from pipeline.distributed import World, join_world
from pipeline.errors import check
from pipeline.experiments import get_experiment
from pipeline.launch.bench import (
    Origin,
    Timing,
    format_timings,
    name_device,
    read_origin,
    wait_for_device,
    write_record,
)
from pipeline.launch.noise import pack_noise
from pipeline.model.alexnet import build_alexnet
from pipeline.options import Encoding, TrainBenchConfig
from pipeline.train.optimizer import build_optimizer, set_rates
from pipeline.train.schedule import compute_rates
from pipeline.train.step import Stepper

NUM_WARM_UP_STEPS = 3
NUM_NOISE_PICTURES = 512
STORED: tuple[Encoding, ...] = ("jpeg", "raw")
PRECISIONS: tuple[Literal["float32", "bfloat16"], ...] = ("float32", "bfloat16")
WAIT_GOAL = 0.02


@dataclass(frozen=True, kw_only=True, slots=True)
class DataWait:
    """Share of a training step's time that waits for data, loader and step together against the step alone."""

    variant: str
    share: float
    goal: float
    reached: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainBenchRecord:
    """What the JSON file holds."""

    origin: Origin
    timings: tuple[Timing, ...]
    data_waits: tuple[DataWait, ...]


def bench_train(config: TrainBenchConfig) -> TrainBenchRecord:
    """Time the loader alone, the training step alone, and both together, in float32 and bfloat16.

    Raises:
        InputError: no such experiment, shard set or device, or fewer pictures than one batch.
    """
    experiment = get_experiment(config.experiment)
    timings, data_waits = list[Timing](), list[DataWait]()
    with tempfile.TemporaryDirectory() as name, join_world(config.device) as world:
        check(world.world_size == 1, f"bench times one process, found {world.world_size}: start it without torchrun")
        origin, folder = read_origin(name_device(world.device)), Path(name)
        paths = [config.data] if config.data else [pack_noise(folder, NUM_NOISE_PICTURES, form) for form in STORED]
        for shard_set in map(read_shard_set, paths):
            for precision in PRECISIONS:
                chosen = replace(experiment.config, precision=precision)
                timed = time_variants(config, chosen, shard_set, world)
                timings += timed
                share = max(0.0, 1 - timed[-1].ratio)
                data_waits.append(
                    DataWait(variant=timed[-1].variant, share=share, goal=WAIT_GOAL, reached=share < WAIT_GOAL)
                )
    record = TrainBenchRecord(origin=origin, timings=tuple(timings), data_waits=tuple(data_waits))
    path = write_record(config.out, "bench-train", origin, record)
    print(f"{format_timings(timings)}\n\n{format_data_waits(data_waits)}\nbench: {path}")
    return record


def format_data_waits(data_waits: list[DataWait]) -> str:
    """Shares and whether they reach the goal, a line each."""
    return "\n".join(
        f"{wait.variant}: {wait.share:.1%} of the time waits for data, goal below {wait.goal:.0%} "
        f"{'reached' if wait.reached else 'missed'}"
        for wait in data_waits
    )


def time_variants(
    config: TrainBenchConfig, experiment: ExperimentConfig, shard_set: ShardSet, world: World
) -> list[Timing]:
    """Time loader, step, and both, in this order, on the same pictures."""
    loader = TrainLoader(
        shard_set,
        experiment.augment,
        global_batch_size=config.batch_size,
        seed=experiment.seed,
        world=world,
        loading=config,
        batch_format=BatchFormat(dtype=getattr(torch, experiment.precision)),
    )
    num_steps, name = NUM_WARM_UP_STEPS + config.num_steps, f"{shard_set.info.packing.encoding}, {experiment.precision}"
    fixed = next(loader.run(num_steps, num_steps + 1))
    step = build_step(experiment, num_classes=len(shard_set.info.classes), world=world)
    names = [f"{what}, {name}" for what in ("loader alone", "step alone", "loader and step")]
    rates = [
        time_steps(names[0], loader.run(0, num_steps), touch_batch, config, world),
        time_steps(names[1], iter([fixed] * num_steps), step, config, world),
        time_steps(names[2], loader.run(0, num_steps), step, config, world),
    ]
    return [
        Timing(variant=variant, images_per_second=rate, ratio=rate / rates[1], ratio_to=names[1])
        for variant, rate in zip(names, rates, strict=True)
    ]


def build_step(experiment: ExperimentConfig, *, num_classes: int, world: World) -> Callable[[Batch], object]:
    """A training step of the experiment's network at its first rates."""
    model = replace(experiment.model, num_classes=num_classes)
    network = build_alexnet(model, input_pixels=experiment.augment.input_pixels, seed=experiment.seed).to(world.device)
    optimizer = build_optimizer(network, experiment.optimizer)
    rates = compute_rates(
        experiment.schedule,
        step=0,
        steps_per_epoch=1,
        global_batch_size=experiment.global_batch_size,
        evaluations=(),
    )
    set_rates(optimizer, rates, lr_in_momentum=experiment.optimizer.lr_in_momentum)
    return Stepper(network, optimizer, precision=experiment.precision, device=world.device).take


def time_steps(
    name: str, batches: Iterator[Batch], step: Callable[[Batch], object], config: TrainBenchConfig, world: World
) -> float:
    """Images per second over the timed steps, the device's work included."""
    for _ in range(NUM_WARM_UP_STEPS):
        step(next(batches))
    wait_for_device(world.device)
    begin = time.perf_counter()
    for _ in tqdm(range(config.num_steps), desc=name, disable=None):
        step(next(batches))
    wait_for_device(world.device)
    return config.num_steps * config.batch_size / (time.perf_counter() - begin)


def touch_batch(batch: Batch) -> int:
    """Take a batch and do nothing with it."""
    return len(batch.positions)
