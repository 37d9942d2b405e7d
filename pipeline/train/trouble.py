"""What a run says when it goes wrong: a loss that is no number, a loss that stays at chance."""

import math

from pipeline.augment.loader import Batch
from pipeline.checkpoint import find_checkpoints
from pipeline.distributed import gather_to_main
from pipeline.model.precision import autocast
from pipeline.tracking import Journal
from pipeline.train.breakdown import find_break
from pipeline.train.loop import TrainMetrics
from pipeline.train.stall import count_patient_steps, format_health, is_at_chance, list_remedies, measure_health
from pipeline.train.step import seed_step
from pipeline.train.trainer import Trainer, open_train_loader


def take_again(trainer: Trainer, step: int) -> Batch:
    """This rank's batch of a step that has been taken before, with random numbers seeded as for it."""
    loader = open_train_loader(trainer.config, trainer.runtime, trainer.shard_set, trainer.world)
    batch = next(loader.run(step, step + 1))  # of another loader, for the first one goes on
    seed_step(trainer.config.seed, step=step, rank=trainer.world.data_rank)
    return batch


def explain_break(trainer: Trainer, step: int) -> str:
    """Where the loss of a step stopped being finite, at which rates, and what to go on from."""
    network = trainer.gather_network()
    network.train()
    found = gather_to_main(find_break(network, take_again(trainer, step), trainer.config.precision))
    place = next((place for place in found if place), None)
    rates = ", ".join(f"{name} {rate:g}" for name, rate in trainer.compute_rates(step).list_rates())
    checkpoints = find_checkpoints(trainer.run.checkpoints)
    return (
        f"the loss of step {step} (epoch {step / trainer.steps_per_epoch:.2f}) is not finite, at rates of {rates}; "
        + (f"it began in {place}; " if place else "the same step taken again is finite; ")
        + (f"the last good checkpoint is {checkpoints[-1]}: " if checkpoints else "there is no checkpoint yet: ")
        + "start anew in another --out with smaller --schedule.weights, or look at the data"
    )


def watch_for_stall(trainer: Trainer, metrics: TrainMetrics) -> None:
    """Say once when the loss stays at chance, with what each layer puts out and what others do differently."""
    patient = count_patient_steps(trainer.runtime.stall_after, trainer.num_scheduled_steps)
    stalls = metrics.step >= patient and is_at_chance(
        metrics.loss, trainer.config.model.num_classes, was=trainer.stalled
    )
    if stalls and not trainer.stalled:
        network = trainer.gather_network()
        with autocast(trainer.config.precision, trainer.world.device):
            health = measure_health(network, take_again(trainer, metrics.step - 1).images)
        if trainer.world.is_main:
            Journal(trainer.run.journal).append(
                step=metrics.step, epoch=metrics.step / trainer.steps_per_epoch, metrics={"train/stalled": 1.0}
            )
            chance = math.log(trainer.config.model.num_classes)
            remedies = list_remedies(trainer.identity.experiment, trainer.config)
            print(
                f"train: warning: after {metrics.step} steps the loss {metrics.loss:.3f} is still that of guessing "
                f"({chance:.3f}); what the layers put out:",
                format_health(health),
                *(f"train: {remedy}" for remedy in remedies),
                sep="\n",
                flush=True,
            )
    trainer.stalled = stalls
