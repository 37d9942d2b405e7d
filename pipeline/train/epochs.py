"""Training from where it stands to its last step: steps, evaluations, checkpoints."""

import contextlib
import math
from collections.abc import Iterator

import torch

from pipeline.augment.loader import Batch
from pipeline.distributed import broadcast_from_main, sum_over_ranks
from pipeline.errors import RunError
from pipeline.evaluate.topk import ErrorCounts
from pipeline.evaluate.views import predict
from pipeline.train.loop import run_steps
from pipeline.train.optimizer import set_rates
from pipeline.train.progress import Progress
from pipeline.train.record import journal_metrics, record_stretch
from pipeline.train.trainer import Trainer
from pipeline.train.trouble import check_scale, explain_break, watch_for_stall


def run_epochs(trainer: Trainer) -> None:
    """Train to the last step: steps, evaluations and checkpoints."""
    if trainer.step >= trainer.last_step and trainer.world.is_main:
        done = trainer.num_scheduled_steps
        what = f"all of its {done} steps" if trainer.step == done else f"{trainer.step} of its {done} steps already"
        print(f"train: nothing left to do, {trainer.runtime.out} has {what}", flush=True)
    batches = trainer.train_loader.run(trainer.step, trainer.last_step)
    progress = Progress(
        first_step=trainer.step,
        last_step=trainer.last_step,
        steps_per_epoch=trainer.steps_per_epoch,
        speaks=trainer.world.is_main,
    )
    with contextlib.closing(progress):
        while trainer.step < trainer.last_step:
            loss, rate = run_stretch(trainer, batches, find_end(trainer), progress)
            check_weights(trainer)
            counts = evaluate(trainer) if is_due(trainer) else None
            with progress.pause():
                record_stretch(trainer, f"mean training loss {loss:.3f}, {rate:.0f} images/s", counts)
    if trainer.world.is_main and trainer.step < trainer.num_scheduled_steps:
        print(
            f"train: stopped at step {trainer.step} of {trainer.num_scheduled_steps}: go on with --resume", flush=True
        )


def find_end(trainer: Trainer) -> int:
    """Step of the next checkpoint: an epoch's end, or one of --checkpoint-every before that."""
    every = trainer.runtime.checkpoint_every or trainer.steps_per_epoch
    ends = (
        every * (trainer.step // every + 1),
        trainer.steps_per_epoch * (trainer.step // trainer.steps_per_epoch + 1),
    )
    return min(*ends, trainer.last_step)


def is_due(trainer: Trainer) -> bool:
    """Whether an epoch has ended after which the validation error is measured."""
    epoch, rest = divmod(trainer.step, trainer.steps_per_epoch)
    return rest == 0 and (
        epoch % trainer.config.schedule.evaluate_every == 0 or epoch == trainer.config.schedule.epochs
    )


def run_stretch(trainer: Trainer, batches: Iterator[Batch], end: int, progress: Progress) -> tuple[float, float]:
    """Take the steps up to `end`, journalling as they go; returns their mean loss and images per second.

    Raises:
        RunError: the loss is no longer finite.
    """
    first, rates = trainer.step, trainer.compute_rates(trainer.step)
    reported, loss_sum, seconds = first, 0.0, 0.0

    def follow_schedule(step: int) -> None:
        nonlocal rates
        if step == first or trainer.config.schedule.follows_steps:
            rates = trainer.compute_rates(step)
            set_rates(trainer.optimizer, rates, lr_in_momentum=trainer.config.optimizer.lr_in_momentum)

    for own in run_steps(
        trainer.stepper,
        batches,
        first_step=first,
        last_step=end,
        seed=trainer.config.seed,
        report_every=trainer.runtime.log_every,
        world=trainer.world,
        set_rates=follow_schedule,
    ):
        # The copies of the last layer in a pair of towers may round apart on a GPU, and all must decide alike.
        metrics = broadcast_from_main(own) if trainer.world.towers > 1 else own
        if metrics.broken_step is not None:
            raise RunError(explain_break(trainer, metrics.broken_step))
        check_scale(trainer, metrics)
        loss_sum += metrics.loss * (metrics.step - reported)
        reported = metrics.step
        seconds += metrics.seconds
        trainer.step = metrics.step
        progress.show(metrics, rates, trainer.stepper.communication)
        journal_metrics(trainer, metrics, rates)
        with progress.pause():
            watch_for_stall(trainer, metrics)
    return loss_sum / (end - first), (end - first) * trainer.config.global_batch_size / seconds


def check_weights(trainer: Trainer) -> None:
    """Keep weights that the last step has broken out of evaluation and checkpoint.

    Raises:
        RunError: not all are finite.
    """
    finite = torch.stack([parameter.isfinite().all() for parameter in trainer.parallel.parameters()]).all()
    if sum_over_ranks(1.0 - finite.float()).item() > 0:
        raise RunError(explain_break(trainer, trainer.step))


def evaluate(trainer: Trainer) -> ErrorCounts:
    """Validation errors of the centre patch, exact over all ranks; they count as this epoch's.

    Raises:
        RunError: the validation loss is not finite.
    """
    counts = ErrorCounts()
    network = trainer.gather_network()
    for prediction in predict(network, trainer.val_loader.run(), precision=trainer.config.precision):
        counts.add_batch(prediction.probabilities, prediction.labels)
    counts = counts.sum_over_ranks(trainer.world.device)
    if not math.isfinite(counts.log_loss):
        raise RunError(
            f"validation loss is {counts.log_loss} after step {trainer.step}: no checkpoint was written for it"
        )
    trainer.evaluations += ((trainer.step // trainer.steps_per_epoch, counts.top1_error),)
    return counts
