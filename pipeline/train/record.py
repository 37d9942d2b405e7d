"""What training leaves in the run directory: journal, checkpoints, the first layer's kernels; and lines for people."""

import io
from typing import Any

from pipeline.artifacts import record_damage, to_npy, write_bytes
from pipeline.checkpoint import write_checkpoint
from pipeline.distributed import gather_to_main
from pipeline.evaluate.topk import ErrorCounts
from pipeline.model.kernels import draw_kernels
from pipeline.train.loop import TrainMetrics
from pipeline.train.schedule import Rates
from pipeline.train.trainer import Trainer


def journal_metrics(trainer: Trainer, metrics: TrainMetrics, rates: Rates) -> None:
    """Append a report to the journal."""
    if not trainer.world.is_main:
        return
    trainer.journal.append(
        step=metrics.step,
        epoch=metrics.step / trainer.steps_per_epoch,
        metrics={
            "train/loss": metrics.loss,
            "train/top1_error": metrics.top1_error,
            "optim/lr": rates.weights,
            **{f"optim/lr_{name}": rate for name, rate in rates.list_rates() if name != "weights"},
            "data/skipped_images": metrics.num_skipped,
            "optim/loss_scale": metrics.loss_scale,
            "perf/seconds": metrics.seconds,
            "perf/images_per_second": metrics.images_per_second,
            "perf/data_wait_fraction": metrics.data_wait_fraction,
        },
    )


def record_stretch(trainer: Trainer, training: str, counts: ErrorCounts | None) -> None:
    """Journal, checkpoint and picture of a stretch of training, and a line for people."""
    damaged = gather_to_main([*trainer.train_loader.damage.describe(), *trainer.val_loader.damage.describe()])
    checkpoint = trainer.gather_checkpoint()
    if not trainer.world.is_main:
        return
    record_damage(trainer.run, damaged)
    epoch = trainer.step / trainer.steps_per_epoch
    said = f"train: epoch {epoch:.4g}, step {trainer.step}: {training}"
    if counts is not None:
        num_skipped = len(trainer.val_loader.split) - counts.num_images
        trainer.journal.append(
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
    write_kernels(trainer, checkpoint.model)
    trainer.journal.sync()  # a checkpoint is never ahead of it
    path = write_checkpoint(trainer.run.checkpoints, checkpoint, keep=trainer.runtime.keep)
    rates = trainer.compute_rates(trainer.step - 1)
    print(f"{said}, rate {rates.weights:g}, {path.name} written", flush=True)


def write_kernels(trainer: Trainer, state: dict[str, Any]) -> None:
    """Write the first layer's kernels, and draw them, into the run's figures."""
    kernels, picture = state["conv1.weight"].detach().float().cpu(), io.BytesIO()
    draw_kernels(kernels, towers=trainer.config.model.towers).save(picture, "PNG")
    write_bytes(trainer.run.figures / "conv1.png", picture.getvalue())
    write_bytes(trainer.run.kernels, to_npy(kernels.numpy()))
