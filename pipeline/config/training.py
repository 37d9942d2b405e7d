"""How a network is trained: optimiser and rates."""

from dataclasses import dataclass

from pipeline.errors import check


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimizerConfig:
    """Stochastic gradient descent with momentum (§5)."""

    momentum: float = 0.9
    """Share of the last update that is repeated."""
    weight_decay: float = 0.0005
    """Decay of the weights, per step, times the learning rate."""
    bias_weight_decay: float = 0.0
    """Decay of the biases; 0 in the source, that of the weights in the paper's text."""
    lr_in_momentum: bool = True
    """True: a step enters the buffer times the rate of its day (paper, source, Caffe); False: as torch.optim.SGD."""

    def __post_init__(self) -> None:
        check(0 <= self.momentum < 1, f"--optimizer.momentum must lie in [0, 1), found {self.momentum}")
        check(self.weight_decay >= 0, f"--optimizer.weight-decay must not be negative, found {self.weight_decay}")
        check(
            self.bias_weight_decay >= 0,
            f"--optimizer.bias-weight-decay must not be negative, found {self.bias_weight_decay}",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class PlateauConfig:
    """Divide every rate when the validation error stops improving (§5, where a person watched it)."""

    patience: int | None = None
    """Evaluations without a new lowest top-1 error before a drop; None never drops."""
    factor: float = 10.0
    """Rates are divided by this."""
    max_drops: int = 3
    """Drops after which the rates stay."""

    def __post_init__(self) -> None:
        check(
            self.patience is None or self.patience > 0,
            f"--schedule.plateau.patience must be positive, found {self.patience}",
        )
        check(self.factor > 1, f"--schedule.plateau.factor must be above 1, found {self.factor}")


RateSteps = tuple[tuple[int, float], ...]
"""Pairs of first epoch (from 0) and learning rate, in order of epoch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScheduleConfig:
    """Learning rates by epoch, for weights and biases apart."""

    epochs: int
    """Passes over the training set."""
    weights: RateSteps
    """Rate of the weights: first epoch and rate, repeated."""
    biases: RateSteps
    """Rate of the biases: first epoch and rate, repeated."""
    conv1: RateSteps = ()
    """Rate of the first convolution's weights where it differs; at 0 the whole layer is frozen."""
    plateau: PlateauConfig = PlateauConfig()
    """Drops by validation error, on top of the steps."""

    def __post_init__(self) -> None:
        check(self.epochs > 0, f"--schedule.epochs must be positive, found {self.epochs}")
        for flag, steps in (("weights", self.weights), ("biases", self.biases), ("conv1", self.conv1)):
            starts = [epoch for epoch, _ in steps]
            check(
                starts == sorted(set(starts)) and all(rate >= 0 for _, rate in steps),
                f"--schedule.{flag} must be pairs of rising epoch and non-negative rate, found {steps}",
            )
            check(
                flag == "conv1" or starts[:1] == [0], f"--schedule.{flag} must give a rate for epoch 0, found {steps}"
            )
