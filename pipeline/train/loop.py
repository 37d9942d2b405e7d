"""The steps of training, from one step to another, with what is measured on the way."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch

from pipeline.augment.loader import Batch
from pipeline.distributed import World, sum_over_ranks
from pipeline.errors import RunError
from pipeline.train.step import Stepper, seed_step
from pipeline.train.watchdog import Note, say_nothing


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainMetrics:
    """Means over the pictures since the last report, over all ranks; `step` counts finished steps.

    `num_steps` of them are in the means; `broken_step` is the first step, counted from 0, whose loss or gradients were
    not finite, None where all were; `loss_scale` is float16's, 1 in other precisions; `stop` says whether any rank was
    asked to stop.
    """

    step: int
    num_steps: int
    loss: float
    top1_error: float
    num_skipped: int
    seconds: float
    images_per_second: float
    data_wait_fraction: float
    broken_step: int | None = None
    loss_scale: float = 1.0
    stop: bool = False


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
    is_asked_to_stop: Callable[[], bool] = lambda: False,
    note: Note = say_nothing,
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
        is_asked_to_stop: whether this rank was; a report carries it to all, which costs no message of its own.
        note: called with what is done next.

    Raises:
        RunError: all pictures since the last report are damaged.
    """
    stepper.network.train()
    sums: list[torch.Tensor] = []  # loss, errors and whether it is broken, of each step
    counts = torch.zeros(3, dtype=torch.float64)  # pictures, skipped pictures, ranks asked to stop
    iterator = iter(batches)
    since, waited = time.perf_counter(), 0.0
    for step in range(first_step, last_step):
        note(f"reads the pictures of step {step}", step)
        asked = time.perf_counter()
        batch = next(iterator)
        waited += time.perf_counter() - asked
        if set_rates is not None:
            set_rates(step)
        seed_step(seed, step=step, rank=world.data_rank)
        note(f"takes step {step}", step + 0.5)
        loss, errors = stepper.take(batch)
        sums.append(torch.stack([loss.double(), errors.double(), stepper.broken.double()]))
        counts[:2] += torch.tensor([len(batch.labels), batch.num_skipped])
        if (step + 1) % report_every and step + 1 < last_step:
            continue
        counts[2] = is_asked_to_stop()
        total = sum_over_ranks(torch.cat([torch.cat(sums), counts.to(world.device)]), world.data_group)
        if world.towers > 1:  # one tower's ranks have not heard what those of the other were asked
            total[-1:] = sum_over_ranks(total[-1:].clone())
        total = total.cpu()
        yield _report(total, step=step, seconds=time.perf_counter() - since, waited=waited, stepper=stepper)
        sums.clear()
        counts.zero_()
        since, waited = time.perf_counter(), 0.0


def _report(total: torch.Tensor, *, step: int, seconds: float, waited: float, stepper: Stepper) -> TrainMetrics:
    """Means up to a step, from the sums over all ranks: (loss, errors, broken) of each step, then the counts."""
    losses, errors, broken = total[:-3].view(-1, 3).T
    num_images, num_skipped, num_stopping = total[-3:].tolist()
    first = step + 1 - len(losses)
    if num_images == 0:
        raise RunError(
            f"not one picture of steps {first} to {step} can be decoded: see `alexnet preprocess verify` and `repair`"
        )
    sound = losses.isfinite() & (broken == 0)
    return TrainMetrics(
        step=step + 1,
        num_steps=len(losses),
        loss=float(losses.sum()) / num_images,
        top1_error=float(errors.sum()) / num_images,
        num_skipped=round(num_skipped),
        seconds=seconds,
        images_per_second=num_images / seconds,
        data_wait_fraction=waited / seconds,
        broken_step=None if sound.all() else first + int(sound.int().argmin()),
        loss_scale=stepper.scaler.get_scale(),
        stop=num_stopping > 0,
    )
