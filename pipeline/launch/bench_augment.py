"""How fast training batches are loaded: beside the peers with the same work, and what each option does."""

import gc
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from pipeline.artifacts import ShardSet, read_shard_set, write_bytes
from pipeline.distributed import World, join_world
from pipeline.errors import check
from pipeline.experiments import get_experiment
from pipeline.launch.bench import name_device, read_origin, wait_for_device, write_record
from pipeline.launch.loader_peers import PREFETCHED_PER_WORKER, start_server
from pipeline.launch.loader_rates import AugmentBenchRecord, Rates, format_page, judge, summarize
from pipeline.launch.loader_variants import EXPERIMENT, LOADERS, Setting, Stored, Variant, build_variants
from pipeline.launch.noise import pack_noise
from pipeline.options import AugmentBenchConfig, count_cores_per_rank

NUM_NOISE_PICTURES = 1000


def bench_augment(config: AugmentBenchConfig) -> AugmentBenchRecord:
    """Time our loader and its peers in turns, on the same pictures with the same work, then our loader's options.

    Raises:
        InputError: no such shard set or device, sets that do not belong together, or fewer pictures than a batch.
    """
    start_server()
    with tempfile.TemporaryDirectory() as folder, join_world(config.device) as world:
        check(world.world_size == 1, f"bench times one process, found {world.world_size}: start it without torchrun")
        on_gpu = world.device.type == "cuda"
        origin = read_origin(name_device(world.device))
        shard_sets = gather_shard_sets(config, Path(folder))
        variants = build_variants(
            list(shard_sets),
            batch_size=config.batch_size,
            num_threads=config.num_threads,
            num_cores=count_cores_per_rank(),
            on_gpu=on_gpu,
        )
        check_enough_pictures(shard_sets, variants)
        rates = time_variants(variants, shard_sets, config, world)
    record = AugmentBenchRecord(
        origin=origin,
        pictures=describe_pictures(config, shard_sets),
        num_rounds=config.num_rounds,
        seconds=config.seconds,
        goals=tuple(judge(rates)),
        timings=tuple(summarize(variant, rates) for variant in variants),
    )
    path = write_record(config.out, "bench-augment", origin, record)
    write_bytes(path.with_suffix(".md"), format_page(record).encode())
    print(f"{format_page(record)}\nbench: {path}")
    return record


def gather_shard_sets(config: AugmentBenchConfig, folder: Path) -> dict[Stored, ShardSet]:
    """The shard sets to read; without --data, noise packed as JPEG and raw.

    Raises:
        InputError: a set is missing, or the two do not hold the same training pictures in the same order.
    """
    if config.data is None:
        return {stored: read_shard_set(pack_noise(folder, NUM_NOISE_PICTURES, stored)) for stored in ("jpeg", "raw")}
    jpeg = read_shard_set(config.data)
    found = jpeg.info.packing.encoding
    check(found in ("jpeg", "jpeg-420"), f"--data {config.data} is stored as {found}, expected JPEG: pass such a set")
    if config.raw_data is None:
        return {"jpeg": jpeg}
    raw = read_shard_set(config.raw_data)
    found = raw.info.packing.encoding
    check(found == "raw", f"--raw-data {config.raw_data} is stored as {found}, expected raw: pass such a set")
    check(
        raw.info.packing.pixels == jpeg.info.packing.pixels
        and np.array_equal(raw.open_split("train").labels, jpeg.open_split("train").labels),
        f"--raw-data {config.raw_data} holds other training pictures than --data {config.data}: pack both from the "
        "same source with the same flags, but for --encoding",
    )
    return {"jpeg": jpeg, "raw": raw}


def check_enough_pictures(shard_sets: Mapping[Stored, ShardSet], variants: Sequence[Variant]) -> None:
    """Refuse before the first turn what the last one could not take.

    Raises:
        InputError: the training split does not fill the largest batch.
    """
    largest = max(variant.batch_size for variant in variants)
    for shard_set in shard_sets.values():
        found = shard_set.info.splits["train"].num_images
        check(
            found >= largest,
            f"{shard_set.path} has {found} training pictures, and the largest batch to time takes {largest}: "
            "pass a larger set",
        )


def time_variants(
    variants: Sequence[Variant], shard_sets: Mapping[Stored, ShardSet], config: AugmentBenchConfig, world: World
) -> Rates:
    """Let the variants take turns, round by round, so that a busy moment hits all alike; one is alive at a time."""
    torch.set_num_threads(1)  # the cores are the loaders'
    augment = get_experiment(EXPERIMENT).config.augment
    rates: dict[Variant, list[float]] = {variant: [] for variant in variants}
    with tqdm(total=config.num_rounds * len(variants), desc="bench", disable=None) as progress:
        for _ in range(config.num_rounds):
            for variant in variants:
                setting = Setting(shard_set=shard_sets[variant.stored], augment=augment, world=world)
                batches = LOADERS[variant.loader].open(variant, setting)
                rates[variant].append(time_turn(batches, variant, config.seconds, world))
                progress.update()
    return rates


def time_turn(batches: Iterator[object], variant: Variant, seconds: float, world: World) -> float:
    """Images per second of one turn, the device's work included; `batches` ends with it."""
    num_steps = 0
    try:
        with closing(batches):  # type: ignore[type-var]  # all are generators
            for _ in range(2 + PREFETCHED_PER_WORKER * variant.loading.num_threads):
                next(batches)  # until what was prepared before anybody asked is gone
            wait_for_device(world.device)
            begin = time.perf_counter()
            while time.perf_counter() - begin < seconds:
                next(batches)
                num_steps += 1
            wait_for_device(world.device)
            return num_steps * variant.batch_size / (time.perf_counter() - begin)
    finally:
        del batches
        gc.collect()  # a loader and its pipeline refer to each other, and would keep threads and memory


def describe_pictures(config: AugmentBenchConfig, shard_sets: Mapping[Stored, ShardSet]) -> str:
    """Which pictures were loaded, in words."""
    info = shard_sets["jpeg"].info
    name = "noise" if config.data is None else f"`{config.data}`"
    pixels, quality = info.packing.pixels, info.packing.quality
    return (
        f"{name}: {info.splits['train'].num_images:,} training pictures of {pixels}×{pixels}, stored as "
        f"{info.packing.encoding} of quality {quality}{' and raw' if 'raw' in shard_sets else ''}"
    )
