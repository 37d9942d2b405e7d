"""What a run says when it goes wrong: a loss that is no number, a loss that stays at chance."""

import math

from pipeline.augment.loader import Batch
from pipeline.checkpoint import find_checkpoints
from pipeline.distributed import broadcast_from_main, gather_to_main
from pipeline.errors import RunError
from pipeline.model.precision import autocast
from pipeline.train.breakdown import find_break
from pipeline.train.loop import TrainMetrics
from pipeline.train.stall import count_patient_steps, format_health, is_at_chance, list_remedies, measure_health
from pipeline.train.step import seed_step, split_batch
from pipeline.train.trainer import Trainer, open_train_loader

MIN_LOSS_SCALE = 1e-3
"""float16's scale begins at 65,536 and is halved at each step whose gradients are not finite."""


def take_again(trainer: Trainer, step: int) -> Batch:
    """This rank's batch of a step that has been taken before, with random numbers seeded as for it."""
    loader = open_train_loader(trainer.config, trainer.runtime, trainer.shard_set, trainer.world)
    batch = next(loader.run(step, step + 1))  # of another loader, for the first one goes on
    seed_step(trainer.config.seed, step=step, rank=trainer.world.data_rank)
    return batch


def check_scale(trainer: Trainer, metrics: TrainMetrics) -> None:
    """Stop float16 whose scale of the loss has fallen so low that nothing is learned any more.

    Raises:
        RunError: it has.
    """
    if metrics.loss_scale < MIN_LOSS_SCALE:
        raise RunError(
            f"no scale of the loss keeps the gradients of float16 finite (it is down to {metrics.loss_scale:g}): "
            + explain_break(trainer, metrics.step - 1)
        )


def explain_break(trainer: Trainer, step: int) -> str:
    """Where the loss of a step stopped being finite, at which rates, and what to go on from."""
    network = trainer.gather_network()
    network.train()
    batch = take_again(trainer, step)
    found = find_break(network, batch, trainer.config.precision, micro_batch=trainer.runtime.micro_batch)
    place = broadcast_from_main(next(filter(None, gather_to_main(found)), None))
    rates = ", ".join(f"{name} {rate:g}" for name, rate in trainer.compute_rates(step).list_rates())
    checkpoints = find_checkpoints(trainer.run.checkpoints)
    return (
        f"the loss or a gradient of step {step} (epoch {step / trainer.steps_per_epoch:.2f}) is not finite, "
        f"at rates of {rates}; "
        + (f"it began in {place}; " if place else "the same step taken again is finite; ")
        + (f"the last good checkpoint is {checkpoints[-1]}: " if checkpoints else "there is no checkpoint yet: ")
        + "start anew in another --out with smaller --schedule.weights, or look at the data"
    )


def watch_for_stall(trainer: Trainer, metrics: TrainMetrics) -> None:
    """Say once when the loss stays at chance, with what each layer puts out and what others do differently."""
    patient = count_patient_steps(trainer.runtime.stall_after, trainer.num_scheduled_steps)
    at_chance = is_at_chance(metrics.loss, trainer.config.model.num_classes, was=trainer.stalled)
    trainer.num_steps_at_chance = trainer.num_steps_at_chance + metrics.num_steps if at_chance else 0
    lasts = trainer.stalled or trainer.num_steps_at_chance >= min(trainer.runtime.log_every, metrics.step)
    stalls = metrics.step >= patient and at_chance and lasts  # a few steps may come near chance by luck
    if stalls and not trainer.stalled:
        network = trainer.gather_network()
        with autocast(trainer.config.precision, trainer.world.device):
            (images, _), *_ = split_batch(take_again(trainer, metrics.step - 1), trainer.runtime.micro_batch)
            health = measure_health(network, images)
        if trainer.world.is_main:
            trainer.journal.append(
                step=metrics.step, epoch=metrics.step / trainer.steps_per_epoch, metrics={"train/stalled": 1.0}
            )
            chance = math.log(trainer.config.model.num_classes)
            remedies = list_remedies(trainer.identity.experiment, trainer.config)
            print(
                f"train: warning: after {metrics.step} steps the loss {metrics.loss:.3f} is still that of guessing "
                f"({chance:.3f}); what the layers put out:",
                format_health(health),
                *remedies,
                sep="\n",
                flush=True,
            )
    trainer.stalled = stalls
