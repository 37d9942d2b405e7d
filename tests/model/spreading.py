"""A narrow network trained on one device, and by ranks that share it, each a process of its own."""

import dataclasses
import os
import socket
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from ranks import context
from torch import Tensor

from pipeline.config import ExperimentConfig
from pipeline.distributed import World, join_world, sum_over_ranks
from pipeline.experiments import EXPERIMENTS
from pipeline.model.alexnet import build_alexnet
from pipeline.model.communication import CommunicationCounter
from pipeline.model.parallel import ParallelNetwork
from pipeline.train.optimizer import build_optimizer, set_rates
from pipeline.train.schedule import Rates
from pipeline.train.step import seed_step

INPUT_PIXELS = 67  # one position remains after the last pooling
NUM_CLASSES = 12
BATCH_SIZE = 8
NUM_STEPS = 20
DROP_STEP = 12
DAMAGED_STEP, DAMAGED_RANK, NUM_DAMAGED = 3, 1, 1
LIMIT_SECONDS = 240
PRELOAD = ("pipeline.model.fc_parallel", "pipeline.model.towers", "pipeline.train.step", "spreading")


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Ranks, how they share, and how their gradients are averaged."""

    world_size: int
    towers: int = 1
    fc_parallel: int = 1
    bfloat16_gradients: bool = False
    channels_last: bool = False
    damaged: bool = False
    accumulates: bool = False

    def __str__(self) -> str:
        fields = {field: getattr(self, field.name) for field in dataclasses.fields(self)}
        return " ".join(f"{field.name}={value}" for field, value in fields.items() if value != field.default)


def narrow(**changes: object) -> ExperimentConfig:
    """`source-2012` with few maps, and with weights so large that pictures still tell in the last layer."""
    config = EXPERIMENTS["source-2012"].config
    layers = {
        kind: tuple(dataclasses.replace(layer, weight_std="kaiming") for layer in getattr(config.model, kind))
        for kind in ("convs", "linears")
    }
    model = dataclasses.replace(config.model, width=0.0625, num_classes=NUM_CLASSES, **layers, **changes)
    return dataclasses.replace(config, model=model)


def draw_batch(step: int, layout: Layout, data_rank: int) -> tuple[Tensor, Tensor]:
    """The pictures of one rank: its part of the global batch, less those that are damaged."""
    generator = torch.Generator().manual_seed(step)
    images = torch.randn(BATCH_SIZE, 3, INPUT_PIXELS, INPUT_PIXELS, generator=generator, dtype=torch.float64) * 5
    labels = torch.randint(0, NUM_CLASSES, (BATCH_SIZE,), generator=generator)
    size = BATCH_SIZE // (layout.world_size // layout.towers)
    own = slice(data_rank * size, (data_rank + 1) * size)
    images, labels = images[own], labels[own]
    if layout.damaged and (step, data_rank) == (DAMAGED_STEP, DAMAGED_RANK):
        return images[NUM_DAMAGED:], labels[NUM_DAMAGED:]
    return images, labels


def add_gradients(network: torch.nn.Module, layout: Layout, step: int, data_rank: int) -> Tensor:
    """Forward and backward of one data rank, with its dropout; returns its loss."""
    seed_step(0, step=step, rank=data_rank)
    images, labels = draw_batch(step, layout, data_rank)
    parts = 2 if layout.accumulates else 1
    loss = torch.zeros((), dtype=torch.float64)
    for part, (some, theirs) in enumerate(zip(images.chunk(parts), labels.chunk(parts), strict=True)):
        silent = layout.accumulates and part == 0 and isinstance(network, ParallelNetwork)
        with network.no_sync() if silent else nullcontext():
            part_loss = F.cross_entropy(network(some), theirs, reduction="sum")
            size = BATCH_SIZE // (layout.world_size // layout.towers)
            (part_loss / size).backward()
        loss += part_loss.detach()
    return loss


def set_rates_of(optimizer: torch.optim.SGD, step: int) -> None:
    rate = 0.002 if step < DROP_STEP else 0.0002
    rates = Rates(weights=rate, biases=2 * rate, conv1=rate, head=rate)
    set_rates(optimizer, rates, lr_in_momentum=True)


def train_alone(config: ExperimentConfig, layout: Layout) -> dict:
    """What data parallelism computes, in one process: the mean of the gradients that each data rank would have."""
    network = build_alexnet(config.model, input_pixels=INPUT_PIXELS, seed=0).double()
    optimizer = build_optimizer(network, config.optimizer)
    num_data_ranks = layout.world_size // layout.towers
    losses = []
    for step in range(NUM_STEPS):
        set_rates_of(optimizer, step)
        optimizer.zero_grad()
        losses.append(sum(add_gradients(network, layout, step, rank) for rank in range(num_data_ranks)))
        for parameter in network.parameters():
            parameter.grad /= num_data_ranks
        optimizer.step()
    with torch.inference_mode():
        logits = [network.eval()(draw_batch(0, layout, rank)[0]) for rank in range(num_data_ranks)]
    return {
        "losses": torch.stack(losses),
        "logits": logits,
        "model": network.state_dict(),
        "optimizer": optimizer.state_dict(),
    }


def train_spread(config: ExperimentConfig, layout: Layout, world: World) -> dict:
    """The same by this rank among others; half-way the state leaves the network and enters a new one."""
    losses, parallel, optimizer = [], None, None
    batch_size = BATCH_SIZE // world.num_data_ranks // (2 if layout.accumulates else 1)
    for step in range(NUM_STEPS):
        if step in {0, NUM_STEPS // 2}:
            saved = parallel and (parallel.gather_state(), parallel.gather_optimizer_state(optimizer))
            network = build_alexnet(config.model, input_pixels=INPUT_PIXELS, seed=step).double()
            if layout.channels_last:
                network = network.to(memory_format=torch.channels_last)
            parallel = ParallelNetwork(
                network, config.model, world, batch_size=batch_size, bfloat16_gradients=layout.bfloat16_gradients
            )
            optimizer = build_optimizer(parallel.network, config.optimizer)
            if saved:
                parallel.load_state(saved[0])
                parallel.load_optimizer_state(optimizer, saved[1])
        set_rates_of(optimizer, step)
        optimizer.zero_grad()
        with CommunicationCounter() as counter:
            loss = add_gradients(parallel, layout, step, world.data_rank)
        optimizer.step()
        losses.append(sum_over_ranks(loss, world.data_group))
    with torch.inference_mode():
        logits = parallel.eval()(draw_batch(0, layout, world.data_rank)[0][:batch_size])
    return {
        "losses": torch.stack(losses),
        "logits": logits,
        "model": parallel.gather_state(),
        "optimizer": parallel.gather_optimizer_state(optimizer),
        "sent_bytes": dict(counter.sent_bytes),
        "num_own": sum(parameter.numel() for parameter in parallel.parameters()),
        "layers": [name for name, _ in parallel.network.named_children()],
    }


def run_rank(config: ExperimentConfig, layout: Layout, environment: dict[str, str], out: str) -> None:
    """Body of one process."""
    os.environ.update(environment)
    with join_world("cpu", towers=layout.towers, fc_parallel=layout.fc_parallel) as world:
        torch.save(train_spread(config, layout, world), f"{out}.{world.rank}")


def train_in_processes(config: ExperimentConfig, layout: Layout, folder: Path) -> list[dict]:
    """What each rank ends with."""
    common = {"OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "WORLD_SIZE": str(layout.world_size)}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        common["MASTER_PORT"] = str(free.getsockname()[1])
    out = folder / "rank"
    processes = [
        context.Process(
            target=run_rank, args=(config, layout, common | {"RANK": str(rank), "LOCAL_RANK": str(rank)}, str(out))
        )
        for rank in range(layout.world_size)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(LIMIT_SECONDS)
        process.kill()
    assert [process.exitcode for process in processes] == [0] * layout.world_size
    return [torch.load(f"{out}.{rank}") for rank in range(layout.world_size)]


def check_equal(ranks: list[dict], expected: dict, layout: Layout) -> None:
    """Losses, weights, momentum and the trained network's logits are on every rank those of one device."""
    for rank, found in enumerate(ranks):
        torch.testing.assert_close(found["losses"], expected["losses"], rtol=1e-10, atol=0)
        logits = expected["logits"][rank // layout.towers][: len(found["logits"])]
        assert measure_distance(found["logits"], logits) < 1e-10
        assert found["model"].keys() == expected["model"].keys()
        for name, weights in expected["model"].items():
            assert measure_distance(found["model"][name], weights) < 1e-10, name
        assert found["optimizer"]["param_groups"] == expected["optimizer"]["param_groups"]
        assert found["optimizer"]["state"].keys() == expected["optimizer"]["state"].keys()
        for index, entries in expected["optimizer"]["state"].items():
            buffer = found["optimizer"]["state"][index]["momentum_buffer"]
            assert measure_distance(buffer, entries["momentum_buffer"]) < 1e-10, index


def measure_distance(found: Tensor, expected: Tensor) -> float:
    """Between two tensors of one shape, in parts of the second."""
    assert found.shape == expected.shape
    return float((found - expected).norm() / expected.norm())
