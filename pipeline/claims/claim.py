"""What a claim is: a number of the paper, the source's own record of it, and the experiments that measure it here."""

from dataclasses import dataclass
from typing import Literal

Dataset = Literal["ILSVRC-2010", "ILSVRC-2012", "CIFAR-10"]
EvaluatedSplit = Literal["val", "test"]
Views = Literal["center", "ten"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Errors:
    """Top-1 and top-5 error, or what they are worse by, as fractions; None where only one is given."""

    top1: float | None
    top5: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ErrorRate:
    """The error of one run, or of several whose probabilities are averaged."""

    members: tuple[tuple[str, int], ...]
    """Experiments, and the number of seeds of each."""
    dataset: Dataset
    split: EvaluatedSplit
    views: Views = "ten"

    @property
    def experiments(self) -> tuple[str, ...]:
        """All that must have run."""
        return tuple(name for name, _ in self.members)


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """An experiment beside the baseline from which it takes something away."""

    experiment: str
    baseline: str
    dataset: Dataset

    @property
    def experiments(self) -> tuple[str, ...]:
        """All that must have run."""
        return self.experiment, self.baseline


@dataclass(frozen=True, kw_only=True, slots=True)
class ErrorRise(Comparison):
    """By how much the experiment's error is above the baseline's, on the same pictures."""

    split: EvaluatedSplit
    views: Views = "ten"


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingErrorRise(Comparison):
    """By how much the experiment's training error of the last epoch is above the baseline's."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GapRise(Comparison):
    """By how much wider the experiment's gap from training to validation error is than the baseline's.

    Of the finished networks on centre patches, so that neither dropout nor augmentation is at work.
    """


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochRatio(Comparison):
    """How many times as many epochs the experiment takes to a training error below `threshold` as the baseline."""

    threshold: float
    times: float


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkCount:
    """Parameters or neurons of an experiment's network, counted from its layers; no run is needed."""

    experiment: str
    of: Literal["parameters", "neurons"]
    number: int

    @property
    def experiments(self) -> tuple[str, ...]:
        """Whose network is counted."""
        return (self.experiment,)


@dataclass(frozen=True, kw_only=True, slots=True)
class AnyRun:
    """Something that a single run of the two-tower network shows, of whichever experiment has one."""

    choices: tuple[tuple[str, Dataset], ...]
    """Experiments, each with its data set, the preferred one first."""

    @property
    def experiments(self) -> tuple[str, ...]:
        """Those of which one must have run."""
        return tuple(name for name, _ in self.choices)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingTime(AnyRun):
    """How long a run took."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KernelColors(AnyRun):
    """How much of the first layer's kernels is colour, tower by tower."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Neighbours(AnyRun):
    """Pictures, their likeliest labels and nearest training pictures, to be looked at."""


Measure = (
    ErrorRate
    | ErrorRise
    | TrainingErrorRise
    | GapRise
    | EpochRatio
    | NetworkCount
    | TrainingTime
    | KernelColors
    | Neighbours
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """One number of the paper, the source's own record of it, and what measures it here.

    Without a `measure` no experiment here can answer it, and `note` says why.
    """

    key: str
    text: str
    where: str
    paper: Errors | str
    """Its errors, or its words where it claims none."""
    precision: float = 0.001
    """The last digit that the paper prints: its number stands for all that round to it."""
    at_least: bool = False
    """Whether the paper says "over"."""
    source: Errors | None = None
    source_log_loss: float | None = None
    source_net: str = ""
    measure: Measure | None = None
    note: str = ""
    by_others: bool = False
    """Whether the paper quotes it from others' work."""
