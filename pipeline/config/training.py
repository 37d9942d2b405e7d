"""How a network is trained: optimiser and rates."""

from dataclasses import dataclass
from typing import Literal

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
    lars: float | None = None
    """Trust coefficient of LARS: each weight's step is this share of its norm times the rate; None turns it off."""

    def __post_init__(self) -> None:
        check(0 <= self.momentum < 1, f"--optimizer.momentum must lie in [0, 1), found {self.momentum}")
        check(self.weight_decay >= 0, f"--optimizer.weight-decay must not be negative, found {self.weight_decay}")
        check(
            self.bias_weight_decay >= 0,
            f"--optimizer.bias-weight-decay must not be negative, found {self.bias_weight_decay}",
        )
        check(self.lars is None or self.lars > 0, f"--optimizer.lars must be positive, found {self.lars}")


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
    head: RateSteps = ()
    """Rate of the last layer's weights where it differs."""
    features: float = 1.0
    """Convolutions learn at this share of the rates above; at 0 they are frozen."""
    plateau: PlateauConfig = PlateauConfig()
    """Drops by validation error, on top of the steps."""
    warmup_epochs: int = 0
    """Epochs over which the rates rise from 0, step by step."""
    cosine: bool = False
    """Whether the rates fall to 0 along a cosine after the warm-up, step by step."""
    batch_rule: Literal["none", "linear", "sqrt"] = "none"
    """How the rates follow --global-batch-size: not at all, in proportion to it, or to its square root."""
    rates_for_batch: int = 128
    """Global batch for which the rates above are given, if they follow it."""
    evaluate_every: int = 1
    """Epochs between two evaluations, which the plateau counts; there is one after the last epoch in any case."""

    def __post_init__(self) -> None:
        for name in ("epochs", "rates_for_batch", "evaluate_every"):
            value, flag = getattr(self, name), f"--schedule.{name.replace('_', '-')}"
            check(value > 0, f"{flag} must be positive, found {value}")
        for name in ("features", "warmup_epochs"):
            value, flag = getattr(self, name), f"--schedule.{name.replace('_', '-')}"
            check(value >= 0, f"{flag} must not be negative, found {value}")
        for name in ("weights", "biases", "conv1", "head"):
            steps = getattr(self, name)
            starts = [epoch for epoch, _ in steps]
            check(
                starts == sorted(set(starts)) and all(rate >= 0 for _, rate in steps),
                f"--schedule.{name} must be pairs of rising epoch and non-negative rate, found {steps}",
            )
            check(
                name in ("conv1", "head") or starts[:1] == [0],
                f"--schedule.{name} must give a rate for epoch 0, found {steps}",
            )
        check(
            self.warmup_epochs < self.epochs,
            f"--schedule.warmup-epochs {self.warmup_epochs} must be fewer than --schedule.epochs {self.epochs}",
        )

    @property
    def follows_steps(self) -> bool:
        """Whether the rates change within an epoch."""
        return self.cosine or self.warmup_epochs > 0
