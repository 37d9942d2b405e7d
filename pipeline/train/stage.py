"""The train stage: an experiment on a shard set, alone or under torchrun, until its last epoch."""

import contextlib
import io
import math
from typing import Any

from tqdm import tqdm

from pipeline.artifacts import RunDirectory, read_shard_set, record_damage, write_bytes
from pipeline.checkpoint import Checkpoint, Identity, write_checkpoint
from pipeline.config import ExperimentConfig
from pipeline.distributed import gather_to_main, join_world, read_rank, read_world_size, wait_for_all
from pipeline.errors import RunError
from pipeline.evaluate.topk import ErrorCounts
from pipeline.evaluate.views import predict
from pipeline.model.kernels import draw_kernels
from pipeline.options import RuntimeConfig
from pipeline.tracking import Journal, feed_mlflow
from pipeline.train.admission import check_classes, check_run_directory, record_start
from pipeline.train.loop import run_steps
from pipeline.train.optimizer import set_rates
from pipeline.train.schedule import Rates, compute_rates
from pipeline.train.trainer import Trainer, build_trainer


def train(name: str, config: ExperimentConfig, runtime: RuntimeConfig) -> None:
    """Train experiment `name` as `config` says, into the run directory `runtime.out`.

    Raises:
        InputError: data, run directory, ranks or checkpoint do not fit what is asked for.
        RunError: the loss is no longer finite.
    """
    config.batch_size_per_rank(read_world_size())
    shard_set = read_shard_set(runtime.data)
    check_classes(shard_set, config)
    run = RunDirectory(runtime.out)
    identity = Identity(experiment=name, config=config, data_digest=shard_set.info.digest)
    if read_rank() == 0:
        check_run_directory(run, identity, resume=runtime.resume)
    with join_world(runtime.device) as world:
        trainer = build_trainer(identity, runtime, shard_set, world)
        wait_for_all()  # whatever a rank has to refuse, it has refused before anything is written
        if world.is_main and trainer.step < trainer.last_step:  # a start that trains nothing leaves no trace
            record_start(run, identity, runtime, shard_set, world)
        with feed_mlflow(run) if world.is_main else contextlib.nullcontext():
            run_epochs(trainer)


def run_epochs(trainer: Trainer) -> None:
    """Train to the last step: steps, evaluation and checkpoint, epoch by epoch."""
    if trainer.step >= trainer.last_step and trainer.world.is_main:
        print(f"train: nothing left to do, {trainer.runtime.out} has all of its {trainer.last_step} steps", flush=True)
    batches = trainer.train_loader.run(trainer.step, trainer.last_step)
    while trainer.step < trainer.last_step:
        epoch = trainer.step // trainer.steps_per_epoch
        rates = compute_rates(trainer.config.schedule, epoch=epoch, val_top1_errors=trainer.val_top1_errors)
        set_rates(trainer.optimizer, rates, lr_in_momentum=trainer.config.optimizer.lr_in_momentum)
        end = min((epoch + 1) * trainer.steps_per_epoch, trainer.last_step)
        loss, rate = run_epoch(trainer, batches, rates, epoch=epoch, end=end)
        trainer.step = end
        counts = None
        if end % trainer.steps_per_epoch == 0:
            counts = evaluate_epoch(trainer)
            if not math.isfinite(counts.log_loss):
                raise RunError(
                    f"validation loss is {counts.log_loss} after step {end}: no checkpoint was written for it"
                )
            trainer.val_top1_errors += (counts.top1_error,)
        damaged = [*trainer.train_loader.damage.describe(), *trainer.val_loader.damage.describe()]
        found = gather_to_main(damaged)
        if trainer.world.is_main:
            record_damage(trainer.run, found)
            _record_epoch(trainer, rates, f"mean training loss {loss:.3f}, {rate:.0f} images/s", counts)


def run_epoch(trainer: Trainer, batches: Any, rates: Rates, *, epoch: int, end: int) -> tuple[float, float]:
    """Take the steps up to `end`, journalling as they go; returns their mean loss and images per second."""
    world, journal = trainer.world, Journal(trainer.run.journal)
    first = trainer.step
    bar = tqdm(
        initial=first - epoch * trainer.steps_per_epoch,
        total=trainer.steps_per_epoch,
        desc=f"epoch {epoch}",
        unit=" steps",
        disable=None if world.is_main else True,
        leave=False,
    )
    reported, loss_sum, seconds = first, 0.0, 0.0
    for metrics in run_steps(
        trainer.parallel,
        trainer.optimizer,
        batches,
        first_step=first,
        last_step=end,
        seed=trainer.config.seed,
        use_bfloat16=trainer.config.precision == "bfloat16",
        report_every=trainer.runtime.log_every,
        world=world,
    ):
        loss_sum += metrics.loss * (metrics.step - reported)
        reported = metrics.step
        seconds += metrics.seconds
        bar.update(metrics.step - epoch * trainer.steps_per_epoch - bar.n)
        bar.set_postfix_str(f"loss {metrics.loss:.3f}, {metrics.images_per_second:.0f} images/s")
        if world.is_main:
            journal.append(
                step=metrics.step,
                epoch=metrics.step / trainer.steps_per_epoch,
                metrics={
                    "train/loss": metrics.loss,
                    "train/top1_error": metrics.top1_error,
                    "optim/lr": rates.weights,
                    "optim/lr_biases": rates.biases,
                    "optim/lr_conv1": rates.conv1,
                    "data/skipped_images": metrics.num_skipped,
                    "perf/seconds": metrics.seconds,
                    "perf/images_per_second": metrics.images_per_second,
                    "perf/data_wait_fraction": metrics.data_wait_fraction,
                },
            )
    bar.close()
    return loss_sum / (end - first), (end - first) * trainer.config.global_batch_size / seconds


def evaluate_epoch(trainer: Trainer) -> ErrorCounts:
    """Validation errors of the centre patch, exact over all ranks."""
    counts = ErrorCounts()
    use_bfloat16 = trainer.config.precision == "bfloat16"
    for prediction in predict(trainer.network, trainer.val_loader.run(), use_bfloat16=use_bfloat16):
        counts.add_batch(prediction.probabilities, prediction.labels)
    return counts.sum_over_ranks(trainer.world.device)


def _record_epoch(trainer: Trainer, rates: Rates, training: str, counts: ErrorCounts | None) -> None:
    """Journal, checkpoint and picture of an epoch, and a line for people."""
    epoch = trainer.step / trainer.steps_per_epoch
    said = f"train: epoch {epoch:g}, step {trainer.step}: {training}"
    if counts is not None:
        num_skipped = len(trainer.val_loader.split) - counts.num_images
        Journal(trainer.run.journal).append(
            step=trainer.step,
            epoch=epoch,
            metrics={
                "val/loss": counts.log_loss,
                "val/top1_error": counts.top1_error,
                "val/top5_error": counts.top5_error,
                "val/skipped_images": num_skipped,
            },
        )
        said += f", validation top-1 error {counts.top1_error:.2%}, top-5 error {counts.top5_error:.2%}"
        said += f" ({num_skipped:,} damaged left out)" if num_skipped else ""
    write_kernels(trainer)
    path = write_checkpoint(
        trainer.run.checkpoints,
        Checkpoint(
            experiment=trainer.identity.experiment,
            config=trainer.config,
            data_digest=trainer.identity.data_digest,
            step=trainer.step,
            steps_per_epoch=trainer.steps_per_epoch,
            val_top1_errors=trainer.val_top1_errors,
            draws_digest=trainer.train_loader.sampler.compute_digest(trainer.step),
            model=trainer.network.state_dict(),
            optimizer=trainer.optimizer.state_dict(),
        ),
        keep=trainer.runtime.keep_checkpoints,
    )
    print(f"{said}, rate {rates.weights:g}, {path.name} written", flush=True)


def write_kernels(trainer: Trainer) -> None:
    """Draw the first layer's kernels into the run's figures."""
    picture = io.BytesIO()
    weights = trainer.network.get_parameter(f"{trainer.config.model.convs[0].name}.weight")
    draw_kernels(weights, towers=trainer.config.model.towers).save(picture, "PNG")
    write_bytes(trainer.run.figures / "conv1.png", picture.getvalue())
