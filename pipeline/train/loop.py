"""The steps of training, from one step to another, with what is measured on the way."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch

from pipeline.augment.loader import Batch
from pipeline.distributed import World, sum_over_ranks
from pipeline.errors import RunError
from pipeline.train.step import Stepper, seed_step


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainMetrics:
    """Means over the pictures since the last report, over all ranks; `step` counts finished steps.

    `broken_step` is the first step, counted from 0, whose loss was not finite; None where all were.
    """

    step: int
    loss: float
    top1_error: float
    num_skipped: int
    seconds: float
    images_per_second: float
    data_wait_fraction: float
    broken_step: int | None = None


def run_steps(
    stepper: Stepper,
    batches: Iterable[Batch],
    *,
    first_step: int,
    last_step: int,
    seed: int,
    report_every: int,
    world: World,
    set_rates: Callable[[int], None] | None = None,
) -> Iterator[TrainMetrics]:
    """Take the steps from `first_step` to `last_step` - 1 and report every `report_every` steps and at the end.

    The host waits for the device only to report.

    Args:
        stepper: takes them.
        batches: this rank's, from that of `first_step` on.
        first_step: steps finished before.
        last_step: steps finished after.
        seed: of the experiment.
        report_every: steps between reports, counted from step 0.
        world: this process among all.
        set_rates: called with each step before it is taken; None leaves the rates.

    Raises:
        RunError: all pictures since the last report are damaged.
    """
    stepper.network.train()
    sums: list[torch.Tensor] = []  # losses and errors of each step
    counts = torch.zeros(2, dtype=torch.float64)  # pictures, skipped pictures
    iterator = iter(batches)
    since, waited = time.perf_counter(), 0.0
    for step in range(first_step, last_step):
        asked = time.perf_counter()
        batch = next(iterator)
        waited += time.perf_counter() - asked
        if set_rates is not None:
            set_rates(step)
        seed_step(seed, step=step, rank=world.data_rank)
        loss, errors = stepper.take(batch)
        sums.append(torch.stack([loss.double(), errors.double()]))
        counts += torch.tensor([len(batch.labels), batch.num_skipped])
        if (step + 1) % report_every and step + 1 < last_step:
            continue
        total = sum_over_ranks(torch.cat([torch.cat(sums), counts.to(world.device)]), world.data_group).cpu()
        losses, (num_images, num_skipped) = total[:-2:2], total[-2:].tolist()
        if num_images == 0:
            raise RunError(
                f"not one picture of steps {step + 1 - len(losses)} to {step} can be decoded: "
                "see `alexnet preprocess verify` and `repair`"
            )
        finite = losses.isfinite()
        elapsed = time.perf_counter() - since
        yield TrainMetrics(
            step=step + 1,
            loss=float(losses.sum()) / num_images,
            top1_error=float(total[1:-2:2].sum()) / num_images,
            num_skipped=round(num_skipped),
            seconds=elapsed,
            images_per_second=num_images / elapsed,
            data_wait_fraction=waited / elapsed,
            broken_step=None if finite.all() else step + 1 - len(losses) + int(finite.int().argmin()),
        )
        sums.clear()
        counts.zero_()
        since, waited = time.perf_counter(), 0.0
