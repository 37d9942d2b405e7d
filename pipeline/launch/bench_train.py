"""How fast loader and training step are, alone and together, in one run so that ratios mean something."""

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from tqdm import tqdm

from pipeline.artifacts import ShardSet, read_shard_set
from pipeline.augment.loader import Batch, TrainLoader
from pipeline.config import ExperimentConfig
from pipeline.distributed import World, join_world
from pipeline.errors import check
from pipeline.experiments import get_experiment
from pipeline.launch.bench import Origin, Timing, format_timings, read_origin, write_record
from pipeline.launch.noise import write_noise
from pipeline.model.alexnet import build_alexnet
from pipeline.options import PreprocessConfig, TrainBenchConfig
from pipeline.preprocess.stage import preprocess
from pipeline.train.loop import take_step
from pipeline.train.optimizer import build_optimizer, set_rates
from pipeline.train.schedule import compute_rates

NUM_WARM_UP_STEPS = 3
NUM_NOISE_PICTURES = 512


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainBenchRecord:
    """What the JSON file holds."""

    origin: Origin
    timings: tuple[Timing, ...]


def bench_train(config: TrainBenchConfig) -> TrainBenchRecord:
    """Time the loader alone, the training step alone, and both together, in float32 and bfloat16.

    Raises:
        InputError: no such experiment, shard set or device, or fewer pictures than one batch.
    """
    experiment = get_experiment(config.experiment)
    with tempfile.TemporaryDirectory() as folder, join_world(config.device) as world:
        check(world.world_size == 1, f"bench times one process, found {world.world_size}: start it without torchrun")
        origin = read_origin(torch.cuda.get_device_name(world.device) if world.device.type == "cuda" else "cpu")
        shard_set = read_shard_set(config.data or pack_noise(Path(folder)))
        timings = time_variants(config, experiment.config, shard_set, world)
    record = TrainBenchRecord(origin=origin, timings=tuple(timings))
    path = write_record(config.out, "bench-train", origin, record)
    print(f"{format_timings(timings)}\nbench: {path}")
    return record


def time_variants(
    config: TrainBenchConfig, experiment: ExperimentConfig, shard_set: ShardSet, world: World
) -> list[Timing]:
    """Time every variant on the same pictures."""
    loader = TrainLoader(
        shard_set,
        experiment.augment,
        global_batch_size=config.batch_size,
        seed=experiment.seed,
        world=world,
        loading=config,
    )
    num_steps = NUM_WARM_UP_STEPS + config.num_steps
    rate_of_loader = time_steps("loader alone", loader.run(0, num_steps), touch_batch, config, world)
    timings = [Timing(variant="loader alone", images_per_second=rate_of_loader, ratio=1.0, ratio_to="itself")]
    fixed = next(loader.run(num_steps, num_steps + 1))
    for precision in ("float32", "bfloat16"):
        step = build_step(
            replace(experiment, precision=precision), num_classes=len(shard_set.info.classes), world=world
        )
        alone = time_steps(f"step alone, {precision}", iter([fixed] * num_steps), step, config, world)
        timings.append(
            Timing(
                variant=f"step alone, {precision}",
                images_per_second=alone,
                ratio=alone / rate_of_loader,
                ratio_to="loader alone",
            )
        )
        together = time_steps(f"loader and step, {precision}", loader.run(0, num_steps), step, config, world)
        timings.append(
            Timing(
                variant=f"loader and step, {precision}",
                images_per_second=together,
                ratio=together / min(alone, rate_of_loader),
                ratio_to="the slower of the two",
            )
        )
    return timings


def build_step(experiment: ExperimentConfig, *, num_classes: int, world: World) -> Callable[[Batch], object]:
    """A training step of the experiment's network at its first rates."""
    model = replace(experiment.model, num_classes=num_classes)
    network = build_alexnet(model, input_pixels=experiment.augment.input_pixels, seed=experiment.seed).to(world.device)
    optimizer = build_optimizer(network, experiment.optimizer)
    rates = compute_rates(experiment.schedule, epoch=0, val_top1_errors=())
    set_rates(optimizer, rates, lr_in_momentum=experiment.optimizer.lr_in_momentum)
    use_bfloat16 = experiment.precision == "bfloat16"
    return lambda batch: take_step(network, optimizer, batch, use_bfloat16=use_bfloat16)


def time_steps(
    name: str, batches: Iterator[Batch], step: Callable[[Batch], object], config: TrainBenchConfig, world: World
) -> float:
    """Images per second over the timed steps, the device's work included."""
    for _ in range(NUM_WARM_UP_STEPS):
        step(next(batches))
    _wait_for_device(world)
    begin = time.perf_counter()
    for _ in tqdm(range(config.num_steps), desc=name, disable=None):
        step(next(batches))
    _wait_for_device(world)
    return config.num_steps * config.batch_size / (time.perf_counter() - begin)


def touch_batch(batch: Batch) -> int:
    """Take a batch and do nothing with it."""
    return len(batch.positions)


def _wait_for_device(world: World) -> None:
    if world.device.type == "cuda":
        torch.cuda.synchronize(world.device)


def pack_noise(folder: Path) -> Path:
    """Pack pictures of smooth noise where no shard set is at hand."""
    write_noise(folder / "pictures", NUM_NOISE_PICTURES)
    preprocess(PreprocessConfig(source=folder / "pictures", out=folder / "shards", val_fraction=0.1))
    return folder / "shards"
