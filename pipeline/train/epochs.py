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
    """Train to the last step, or to where all ranks agree to stop: steps, evaluations and checkpoints."""
    if not trainer.has_work and trainer.world.is_main:
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
        while trainer.has_work and not trainer.stopping:
            training = "evaluated"
            if not trainer.is_evaluation_due:
                loss, rate = run_stretch(trainer, batches, find_end(trainer), progress)
                training = f"mean training loss {loss:.3f}, {rate:.0f} images/s"
            check_weights(trainer)
            counts = evaluate(trainer) if trainer.is_evaluation_due and not trainer.stopping else None
            trainer.note("writes a checkpoint, or waits for it", trainer.step)
            with progress.pause():
                record_stretch(trainer, training, counts)
    if trainer.world.is_main and trainer.step < trainer.num_scheduled_steps and not trainer.stopping:
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


def run_stretch(trainer: Trainer, batches: Iterator[Batch], end: int, progress: Progress) -> tuple[float, float]:
    """Take the steps up to `end`, journalling as they go; returns their mean loss and images per second.

    A request to stop is heard at a report, so that the journal has the same points as without it.

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
        is_asked_to_stop=lambda: bool(trainer.stop),
        note=trainer.note,
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
        if metrics.stop:
            trainer.stopping = True
            break
    num_steps = trainer.step - first
    return loss_sum / num_steps, num_steps * trainer.config.global_batch_size / seconds


def check_weights(trainer: Trainer) -> None:
    """Keep weights that the last step has broken out of evaluation and checkpoint.

    Raises:
        RunError: not all are finite.
    """
    finite = torch.stack([parameter.isfinite().all() for parameter in trainer.parallel.parameters()]).all()
    if sum_over_ranks(1.0 - finite.float()).item() > 0:
        raise RunError(explain_break(trainer, trainer.step))


def evaluate(trainer: Trainer) -> ErrorCounts | None:
    """Validation errors of the centre patch, exact over all ranks; they count as this epoch's.

    None where a rank was asked to stop: the next start evaluates.

    Raises:
        RunError: the validation loss is not finite.
    """
    counts = ErrorCounts()
    network = trainer.gather_network()
    for prediction in predict(network, trainer.val_loader.run(), precision=trainer.config.precision):
        trainer.note(f"evaluates, {counts.num_images} pictures so far", trainer.step)
        if trainer.stop:  # ranks have different numbers of batches, so they agree after the last one
            break
        counts.add_batch(prediction.probabilities, prediction.labels)
    trainer.note("waits for the other ranks' errors", trainer.step)
    num_stopping = sum_over_ranks(torch.tensor(float(bool(trainer.stop)), device=trainer.world.device))
    if num_stopping.item() > 0:
        trainer.stopping = True
        return None
    counts = counts.sum_over_ranks(trainer.world.device)
    if not math.isfinite(counts.log_loss):
        raise RunError(
            f"validation loss is {counts.log_loss} after step {trainer.step}: no checkpoint was written for it"
        )
    trainer.evaluations += ((trainer.step // trainer.steps_per_epoch, counts.top1_error),)
    return counts
