"""Learning rates as a function of the epoch and of the validation errors so far (§5)."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.config import PlateauConfig, RateSteps, ScheduleConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """Learning rates of one epoch; a layer whose rate is 0 is frozen."""

    weights: float
    biases: float
    conv1: float


def compute_rates(schedule: ScheduleConfig, *, epoch: int, val_top1_errors: Sequence[float]) -> Rates:
    """Rates of an epoch.

    Args:
        schedule: steps, and perhaps a plateau rule on top of them.
        epoch: from 0.
        val_top1_errors: one validation error per finished epoch, in order.
    """
    divisor = schedule.plateau.factor ** count_drops(schedule.plateau, val_top1_errors[:epoch])
    weights = _look_up(schedule.weights, epoch, 0.0)
    return Rates(
        weights=weights / divisor,
        biases=_look_up(schedule.biases, epoch, 0.0) / divisor,
        conv1=_look_up(schedule.conv1, epoch, weights) / divisor,
    )


def _look_up(steps: RateSteps, epoch: int, otherwise: float) -> float:
    reached = [rate for first, rate in steps if first <= epoch]
    return reached[-1] if reached else otherwise


def count_drops(plateau: PlateauConfig, val_top1_errors: Sequence[float]) -> int:
    """Times that the error went `patience` evaluations without a new lowest value; at most `max_drops`."""
    best, waited, drops = float("inf"), 0, 0
    for error in val_top1_errors:
        waited = 0 if error < best else waited + 1
        best = min(best, error)
        if waited == plateau.patience and drops < plateau.max_drops:
            waited, drops = 0, drops + 1
    return drops
