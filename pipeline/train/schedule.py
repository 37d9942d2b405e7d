"""Learning rates as a function of the step and of the validation errors so far (§5)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.config import PlateauConfig, RateSteps, ScheduleConfig

Evaluations = Sequence[tuple[int, float]]
"""Pairs of finished epochs and validation top-1 error, in order of epoch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """Learning rates of a step; `features` is the convolutions' share of them. What has a rate of 0 is frozen."""

    weights: float
    biases: float
    conv1: float
    head: float
    features: float = 1.0

    def list_rates(self) -> list[tuple[str, float]]:
        """Names and rates, for people and the journal; those of the convolutions are what they learn at."""
        own = [("weights", self.weights), ("biases", self.biases), ("conv1", self.features * self.conv1)]
        convs = [("convs", self.features * self.weights)] if self.features != 1 else []
        return [*own, *convs, ("head", self.head)]


def compute_rates(
    schedule: ScheduleConfig, *, step: int, steps_per_epoch: int, global_batch_size: int, evaluations: Evaluations
) -> Rates:
    """Rates of a step.

    Args:
        schedule: rates by epoch, and what shapes them beyond that.
        step: steps finished before this one.
        steps_per_epoch: global batches of an epoch.
        global_batch_size: images per step over all ranks.
        evaluations: all so far; those of later epochs than the step's are passed over.
    """
    epoch = step // steps_per_epoch
    factor = _follow_batch(schedule, global_batch_size) * _shape(schedule, step, steps_per_epoch)
    errors = [error for finished, error in evaluations if finished <= epoch]
    factor /= schedule.plateau.factor ** count_drops(schedule.plateau, errors)
    weights = _look_up(schedule.weights, epoch, 0.0)
    return Rates(
        weights=factor * weights,
        biases=factor * _look_up(schedule.biases, epoch, 0.0),
        conv1=factor * _look_up(schedule.conv1, epoch, weights),
        head=factor * _look_up(schedule.head, epoch, weights),
        features=schedule.features,
    )


def _look_up(steps: RateSteps, epoch: int, otherwise: float) -> float:
    reached = [rate for first, rate in steps if first <= epoch]
    return reached[-1] if reached else otherwise


def _follow_batch(schedule: ScheduleConfig, global_batch_size: int) -> float:
    """Rates in proportion to the batch (Goyal et al. 2017) or to its square root (Krizhevsky 2014)."""
    ratio = global_batch_size / schedule.rates_for_batch
    return {"none": 1.0, "linear": ratio, "sqrt": math.sqrt(ratio)}[schedule.batch_rule]


def _shape(schedule: ScheduleConfig, step: int, steps_per_epoch: int) -> float:
    """Share of the full rate: a straight rise over the warm-up, then 1, or half a cosine down to 0."""
    warmup, last = schedule.warmup_epochs * steps_per_epoch, schedule.epochs * steps_per_epoch
    if step < warmup:
        return (step + 1) / warmup
    return (1 + math.cos(math.pi * (step - warmup) / (last - warmup))) / 2 if schedule.cosine else 1.0


def count_drops(plateau: PlateauConfig, val_top1_errors: Sequence[float]) -> int:
    """Times that the error went `patience` evaluations without a new lowest value; at most `max_drops`."""
    best, waited, drops = float("inf"), 0, 0
    for error in val_top1_errors:
        waited = 0 if error < best else waited + 1
        best = min(best, error)
        if waited == plateau.patience and drops < plateau.max_drops:
            waited, drops = 0, drops + 1
    return drops
