"""How many bytes a training step sends, by ways of sharing the network: counted in processes that take one."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from tabulate import tabulate
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from pipeline.config import ExperimentConfig
from pipeline.distributed import join_world
from pipeline.experiments import get_experiment
from pipeline.launch.bench import Origin, read_origin, write_record
from pipeline.model.alexnet import build_alexnet
from pipeline.model.communication import MEGABYTE, CommunicationCounter
from pipeline.model.fc_parallel import check_fc_parallel
from pipeline.model.parallel import ParallelNetwork
from pipeline.model.towers import check_towers
from pipeline.options import CommunicationBenchConfig

GOAL = 8.0
"""Times fewer bytes with shared fully connected layers than with copies, at the largest number of ranks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sharing:
    """Ranks, and how many of them share one network."""

    world_size: int
    towers: int = 1
    fc_parallel: int = 1

    def __str__(self) -> str:
        if self.towers > 1:
            return f"--towers {self.towers}"
        return f"--fc-parallel {self.fc_parallel}" if self.fc_parallel > 1 else "copies"


@dataclass(frozen=True, kw_only=True, slots=True)
class Volume:
    """What each rank sends in one step, by kind of collective, and how many times fewer bytes than with copies."""

    world_size: int
    sharing: str
    sent_bytes: dict[str, int]
    times_fewer: float


@dataclass(frozen=True, kw_only=True, slots=True)
class CommunicationBenchRecord:
    """What the JSON file holds."""

    origin: Origin
    experiment: str
    batch_size: int
    volumes: tuple[Volume, ...]
    goal: float
    reached: bool


def bench_communication(config: CommunicationBenchConfig) -> CommunicationBenchRecord:
    """Take a step with copies, with towers and with shared fully connected layers, at each number of ranks.

    Raises:
        InputError: no such experiment, or its network cannot be shared by so many ranks.
    """
    experiment, origin = get_experiment(config.experiment).config, read_origin("cpu")
    towers = experiment.model.towers
    if towers > 1:
        check_towers(experiment.model, towers)
    for world_size in sorted(config.world_sizes):
        check_fc_parallel(experiment.model, world_size)
    volumes = list[Volume]()
    for world_size in sorted(config.world_sizes):
        ways = [Sharing(world_size=world_size), Sharing(world_size=world_size, fc_parallel=world_size)]
        if towers > 1 and world_size % towers == 0:
            ways.insert(1, Sharing(world_size=world_size, towers=towers))
        volumes += count_ways(experiment, ways, config.batch_size)
    record = CommunicationBenchRecord(
        origin=origin,
        experiment=config.experiment,
        batch_size=config.batch_size,
        volumes=tuple(volumes),
        goal=GOAL,
        reached=volumes[-1].times_fewer >= GOAL,
    )
    path = write_record(config.out, "bench-communication", origin, record)
    said = f"goal of {GOAL:g} times fewer bytes {'reached' if record.reached else 'missed'}"
    print(f"{format_volumes(volumes)}\n\n{volumes[-1].sharing}: {said}\nbench: {path}")
    return record


def count_ways(experiment: ExperimentConfig, ways: list[Sharing], batch_size: int) -> list[Volume]:
    """One step in each way; all have as many ranks, and the first is what the others are compared with."""
    sent = []
    for sharing in ways:
        launch = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=sharing.world_size,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            max_restarts=0,
            run_id="bench-communication",
        )
        sent.append(elastic_launch(launch, count_step)(experiment, sharing, batch_size)[0])
        print(f"bench: {sharing.world_size} ranks, {sharing}: {sum(sent[-1].values()) / MEGABYTE:,.1f} MB", flush=True)
    return [
        Volume(
            world_size=sharing.world_size,
            sharing=str(sharing),
            sent_bytes=counts,
            times_fewer=sum(sent[0].values()) / sum(counts.values()),
        )
        for sharing, counts in zip(ways, sent, strict=True)
    ]


def count_step(experiment: ExperimentConfig, sharing: Sharing, batch_size: int) -> dict[str, int]:
    """Body of each process: forward and backward on noise; returns bytes sent by kind."""
    torch.set_num_threads(1)
    pixels = experiment.augment.input_pixels
    with join_world("cpu", towers=sharing.towers, fc_parallel=sharing.fc_parallel) as world:
        size = batch_size // world.num_data_ranks
        network = build_alexnet(experiment.model, input_pixels=pixels, seed=experiment.seed)
        parallel = ParallelNetwork(network, experiment.model, world, batch_size=size)
        images = torch.randn(size, experiment.model.in_channels, pixels, pixels)
        with CommunicationCounter() as counter:
            labels = torch.zeros(size, dtype=torch.int64)
            F.cross_entropy(parallel(images), labels).backward()  # type: ignore[no-untyped-call]
        return dict(counter.sent_bytes)


def format_volumes(volumes: list[Volume]) -> str:
    """A line per way: megabytes that a rank sends in a step, in all and by kind."""
    kinds = list(dict.fromkeys(kind for volume in volumes for kind in volume.sent_bytes))
    body = [
        (
            volume.world_size,
            volume.sharing,
            f"{sum(volume.sent_bytes.values()) / MEGABYTE:,.1f}",
            *(f"{volume.sent_bytes[kind] / MEGABYTE:,.1f}" if kind in volume.sent_bytes else "" for kind in kinds),
            f"{volume.times_fewer:.1f}",
        )
        for volume in volumes
    ]
    headers = ("ranks", "sharing", "MB sent", *kinds, "times fewer")
    return tabulate(body, headers=headers, colalign=("right", "left", *["right"] * (len(kinds) + 2)))
