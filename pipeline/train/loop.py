"""The steps of training, from one step to another, with what is measured on the way."""

import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.augment.loader import Batch
from pipeline.distributed import World, sum_over_ranks
from pipeline.errors import RunError
from pipeline.evaluate.topk import count_errors
from pipeline.train.optimizer import drop_frozen_gradients


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainMetrics:
    """Means over the pictures since the last report, over all ranks; `step` counts finished steps."""

    step: int
    loss: float
    top1_error: float
    num_skipped: int
    seconds: float
    images_per_second: float
    data_wait_fraction: float


def seed_step(seed: int, *, step: int, rank: int) -> None:
    """Seed torch for one step, so that dropout is a function of (seed, step, rank) and resuming needs no generator."""
    words = np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)
    torch.manual_seed(int(words[0]))


def take_step(
    network: nn.Module, optimizer: torch.optim.SGD, batch: Batch, *, use_bfloat16: bool
) -> tuple[Tensor, Tensor]:
    """One optimiser step. A damaged picture that the batch lacks counts as one without a gradient.

    Args:
        network: in training mode; wrapped for data parallelism where there are several ranks.
        optimizer: owns the network's parameters.
        batch: this rank's part of the global batch.
        use_bfloat16: autocast.

    Returns:
        Sum of the losses () float32 and count of top-1 errors () int64 of this rank's pictures, still on the device.
    """
    with torch.autocast(batch.images.device.type, torch.bfloat16, enabled=use_bfloat16):
        logits = network(batch.images)
    loss = F.cross_entropy(logits.float(), batch.labels, reduction="sum")
    optimizer.zero_grad(set_to_none=True)
    (loss / (len(batch.labels) + batch.num_skipped)).backward()  # type: ignore[no-untyped-call]
    drop_frozen_gradients(optimizer)
    optimizer.step()
    return loss.detach(), count_errors(logits.detach(), batch.labels)[0]


def run_steps(
    network: nn.Module,
    optimizer: torch.optim.SGD,
    batches: Iterable[Batch],
    *,
    first_step: int,
    last_step: int,
    seed: int,
    use_bfloat16: bool,
    report_every: int,
    world: World,
) -> Iterator[TrainMetrics]:
    """Take the steps from `first_step` to `last_step` - 1 and report every `report_every` steps and at the end.

    Raises:
        RunError: the loss is no longer a finite number.
    """
    network.train()
    totals = torch.zeros(2, dtype=torch.float64, device=world.device)  # losses, errors
    counts = torch.zeros(2, dtype=torch.float64)  # pictures, skipped pictures
    iterator = iter(batches)
    since, waited = time.perf_counter(), 0.0
    for step in range(first_step, last_step):
        asked = time.perf_counter()
        batch = next(iterator)
        waited += time.perf_counter() - asked
        seed_step(seed, step=step, rank=world.rank)
        loss, errors = take_step(network, optimizer, batch, use_bfloat16=use_bfloat16)
        totals += torch.stack([loss.double(), errors.double()])
        counts += torch.tensor([len(batch.labels), batch.num_skipped])
        if (step + 1) % report_every and step + 1 < last_step:
            continue
        loss_sum, error_sum, num_images, num_skipped = sum_over_ranks(
            torch.cat([totals, counts.to(world.device)])
        ).tolist()
        if not math.isfinite(loss_sum):
            rates = ", ".join(f"{group['role']} {group['lr']:g}" for group in optimizer.param_groups)
            raise RunError(
                f"training loss {loss_sum / num_images} at or before step {step + 1} with rates {rates}: "
                "start anew in another --out with smaller --schedule.weights, or look at the data"
            )
        elapsed = time.perf_counter() - since
        yield TrainMetrics(
            step=step + 1,
            loss=loss_sum / num_images,
            top1_error=error_sum / num_images,
            num_skipped=round(num_skipped),
            seconds=elapsed,
            images_per_second=num_images / elapsed,
            data_wait_fraction=waited / elapsed,
        )
        totals.zero_()
        counts.zero_()
        since, waited = time.perf_counter(), 0.0
