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
from pipeline.options import Encoding, PreprocessConfig, TrainBenchConfig
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

    What both together lack of the step alone is the share of the time that waits for data.

    Raises:
        InputError: no such experiment, shard set or device, or fewer pictures than one batch.
    """
    experiment = get_experiment(config.experiment)
    with tempfile.TemporaryDirectory() as folder, join_world(config.device) as world:
        check(world.world_size == 1, f"bench times one process, found {world.world_size}: start it without torchrun")
        origin = read_origin(torch.cuda.get_device_name(world.device) if world.device.type == "cuda" else "cpu")
        paths = [config.data] if config.data else [pack_noise(Path(folder), encoding) for encoding in ("jpeg", "raw")]
        timings = [
            timing for path in paths for timing in time_variants(config, experiment.config, read_shard_set(path), world)
        ]
    record = TrainBenchRecord(origin=origin, timings=tuple(timings))
    path = write_record(config.out, "bench-train", origin, record)
    print(f"{format_timings(timings)}\nWhat loader and step lack of 1.00 is time that waits for data.\nbench: {path}")
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
    num_steps, stored = NUM_WARM_UP_STEPS + config.num_steps, shard_set.info.packing.encoding
    name_of_loader = f"loader alone, {stored}"
    rate_of_loader = time_steps(name_of_loader, loader.run(0, num_steps), touch_batch, config, world)
    timings = [Timing(variant=name_of_loader, images_per_second=rate_of_loader, ratio=1.0, ratio_to="itself")]
    fixed = next(loader.run(num_steps, num_steps + 1))
    for precision in ("float32", "bfloat16"):
        step = build_step(
            replace(experiment, precision=precision), num_classes=len(shard_set.info.classes), world=world
        )
        name = f"step alone, {precision}"
        alone = time_steps(name, iter([fixed] * num_steps), step, config, world)
        ratio = alone / rate_of_loader
        timings.append(Timing(variant=name, images_per_second=alone, ratio=ratio, ratio_to=name_of_loader))
        both = f"loader and step, {stored}, {precision}"
        together = time_steps(both, loader.run(0, num_steps), step, config, world)
        timings.append(Timing(variant=both, images_per_second=together, ratio=together / alone, ratio_to=name))
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


def pack_noise(folder: Path, encoding: Encoding) -> Path:
    """Pack pictures of smooth noise where no shard set is at hand."""
    if not (folder / "pictures").is_dir():
        write_noise(folder / "pictures", NUM_NOISE_PICTURES)
    out = folder / encoding
    preprocess(PreprocessConfig(source=folder / "pictures", out=out, val_fraction=0.1, encoding=encoding))
    return out
