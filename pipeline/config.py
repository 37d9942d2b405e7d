"""What can be chosen: frozen dataclasses, and the checks that a value alone or beside its neighbours must pass.

`ExperimentConfig` holds what changes numbers, `RuntimeConfig` what must not. Named experiments are in `experiments`.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal


class InputError(ValueError):
    """Something that the person who runs this can put right; the message is one sentence that says what and how."""


class RunError(RuntimeError):
    """Something that went wrong on the way and that no flag caused; the message is one sentence, too."""


def check(condition: object, message: str) -> None:
    """Raise `InputError` with `message` unless `condition` holds."""
    if not condition:
        raise InputError(message)


@dataclass(frozen=True, kw_only=True, slots=True)
class AugmentConfig:
    """What the network sees of a stored 256×256 picture (§4.1)."""

    crop_pixels: int = 224
    """Side of the square patch that is cut out."""
    num_offsets: int = 33
    """Crop positions in each direction, from 0; 224 in 256 has 33, the paper's 2048 variants mean 32."""
    flip: bool = True
    """Mirror each training patch with probability 1/2."""
    images_per_crop: int = 1
    """Consecutive images of an epoch that share one crop position and one flip; 32 in the source."""
    mean: Literal["centered", "cropped"] = "centered"
    """Part of the mean image that is subtracted: always its centre (source), or cropped with the picture (paper)."""
    pixel_scale: float = 1.0
    """Pixels are divided by this after the mean is subtracted; 1 keeps the range 0-255."""
    color_scale: Literal["none", "std", "eigenvalue"] = "std"
    """Length of each colour axis: standard deviation (source) or eigenvalue of pixels on [0, 1] (paper)."""
    color_coefficient_std: float = 0.1
    """Standard deviation of the random coefficient of each colour component."""
    color_divisor: float = 1.0
    """Training images are divided by this while colour is on; 1.1 in the source."""
    color_off_epoch: int | None = None
    """First epoch (from 0) without colour shift and division; None keeps them to the end."""

    def __post_init__(self) -> None:
        check(self.crop_pixels > 0, f"--augment.crop-pixels must be positive, found {self.crop_pixels}")
        check(self.num_offsets > 0, f"--augment.num-offsets must be positive, found {self.num_offsets}")
        check(self.images_per_crop > 0, f"--augment.images-per-crop must be positive, found {self.images_per_crop}")
        check(self.pixel_scale > 0, f"--augment.pixel-scale must be positive, found {self.pixel_scale}")
        check(self.color_divisor > 0, f"--augment.color-divisor must be positive, found {self.color_divisor}")
        check(
            self.color_coefficient_std >= 0,
            f"--augment.color-coefficient-std must not be negative, found {self.color_coefficient_std}",
        )


Step = Literal["relu", "lrn", "local_norm", "pool", "dropout"]
"""What can follow a weight layer: ReLU, cross-map response norm, within-map response norm, max pooling, dropout."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ConvConfig:
    """One convolution and what follows it. `kernels` counts those of all towers together."""

    name: str
    """Layer's name in tables, checkpoints and metrics."""
    kernels: int
    """Output channels, over all towers."""
    size: int
    """Kernel height and width in pixels."""
    stride: int = 1
    """Pixels between neighbouring kernel positions."""
    padding: tuple[int, int] = (0, 0)
    """Zeros before (top, left) and after (bottom, right)."""
    groups: int = 1
    """1 sees every tower's maps, 2 only those of its own of two towers."""
    after: tuple[Step, ...] = ("relu",)
    """Steps that follow, in order."""
    weight_std: float | Literal["kaiming"] = 0.01
    """Standard deviation of the initial weights; `kaiming` is normal by fan-out for ReLU."""
    bias: float = 0.0
    """Initial bias."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LinearConfig:
    """One fully connected layer and what follows it."""

    name: str
    """Layer's name in tables, checkpoints and metrics."""
    units: int | None
    """Outputs, over all towers; None for as many as there are classes."""
    after: tuple[Step, ...] = ("relu", "dropout")
    """Steps that follow, in order."""
    weight_std: float = 0.01
    """Standard deviation of the initial weights."""
    bias: float = 0.0
    """Initial bias."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ResponseNormConfig:
    """x · (k + alpha/n · Σ x²)^-beta, over n neighbours; alpha is divided by n as in PyTorch, Caffe and the source."""

    size: int
    """Neighbouring maps (cross-map), or side of the neighbourhood (within-map)."""
    alpha: float
    """Weight of the mean square."""
    beta: float
    """Exponent."""
    k: float
    """Constant."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """The network, from which layers, initial values and the table of `alexnet describe` are made."""

    convs: tuple[ConvConfig, ...]
    """Convolutions, input first."""
    linears: tuple[LinearConfig, ...]
    """Fully connected layers; the last one's outputs are the logits."""
    towers: int = 2
    """Cross-map norms stop at the border between this many equal parts of the channels."""
    width: float = 1.0
    """Multiplies every kernel and unit count except the classes; 1 for every claim."""
    num_classes: int = 1000
    """Classes; must equal the shard set's."""
    in_channels: int = 3
    """Channels of the input."""
    lrn: ResponseNormConfig = ResponseNormConfig(size=5, alpha=1e-4, beta=0.75, k=2.0)
    """Cross-map response norm."""
    local_norm: ResponseNormConfig = ResponseNormConfig(size=5, alpha=1e-3, beta=0.75, k=1.0)
    """Within-map response norm."""
    pool_size: int = 3
    """Side of the max-pooling window in pixels."""
    pool_stride: int = 2
    """Pixels between neighbouring pooling windows."""
    dropout: float = 0.5
    """Probability with which a unit is dropped in training."""
    inverted_dropout: bool = False
    """True: scale up in training (PyTorch); False: bare mask in training, scale down in evaluation (paper, source)."""

    def __post_init__(self) -> None:
        check(
            len(self.convs) > 0 and len(self.linears) > 0, "--model needs at least one convolution and one linear layer"
        )
        check(self.linears[-1].units is None, "--model.linears: the last layer's units must be None (one per class)")
        check(self.num_classes > 1, f"--model.num-classes must be at least 2, found {self.num_classes}")
        check(0 <= self.dropout < 1, f"--model.dropout must lie in [0, 1), found {self.dropout}")
        check(self.width > 0, f"--model.width must be positive, found {self.width}")
        for conv in self.convs:
            kernels = self.scaled(conv.kernels)
            split = max(conv.groups, self.towers)
            check(
                kernels > 0 and kernels % split == 0,
                f"--model.width {self.width} gives {conv.name} {kernels} kernels, which {split} towers cannot share: "
                "choose a width that leaves a multiple",
            )

    def scaled(self, count: int) -> int:
        """Number of kernels or units at this width."""
        return round(count * self.width)


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


@dataclass(frozen=True, kw_only=True, slots=True)
class ExperimentConfig:
    """Everything that changes numbers."""

    augment: AugmentConfig
    model: ModelConfig
    optimizer: OptimizerConfig
    schedule: ScheduleConfig
    global_batch_size: int = 128
    """Images per optimiser step, over all ranks."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of the network; bfloat16 means autocast, weights stay float32."""
    seed: int = 0
    """Seeds initial weights, order, augmentation and dropout."""

    def __post_init__(self) -> None:
        check(self.global_batch_size > 0, f"--global-batch-size must be positive, found {self.global_batch_size}")
        check(self.seed >= 0, f"--seed must not be negative, found {self.seed}")

    def batch_size_per_rank(self, world_size: int) -> int:
        """Images per step on each of `world_size` ranks.

        Raises:
            InputError: the global batch does not divide.
        """
        check(
            self.global_batch_size % world_size == 0,
            f"--global-batch-size {self.global_batch_size} does not divide over {world_size} ranks: "
            f"choose a multiple of {world_size} or another number of ranks",
        )
        return self.global_batch_size // world_size


Device = Literal["auto", "cpu", "cuda"]
"""Where the network runs; `auto` takes the GPU when there is one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RuntimeConfig:
    """Everything that must not change numbers."""

    data: Path
    """Shard set: the directory that `alexnet preprocess` wrote."""
    out: Path
    """Run directory, made by this run; with --resume, the one to go on with."""
    resume: bool = False
    """Go on from the newest checkpoint in --out."""
    device: Device = "auto"
    """Where the network runs; auto takes the GPU when there is one."""
    num_threads: int = 2
    """Threads that decode and augment, per rank."""
    log_every: int = 20
    """Steps between two entries of the training loss in the journal."""
    keep_checkpoints: int = 2
    """Newest checkpoints that stay on disk."""
    max_steps: int | None = None
    """Stop after this many optimiser steps in all, as if the time were up; None runs to the end."""

    def __post_init__(self) -> None:
        check(self.num_threads > 0, f"--num-threads must be positive, found {self.num_threads}")
        check(self.log_every > 0, f"--log-every must be positive, found {self.log_every}")
        check(self.keep_checkpoints > 0, f"--keep-checkpoints must be positive, found {self.keep_checkpoints}")
        check(self.max_steps is None or self.max_steps > 0, f"--max-steps must be positive, found {self.max_steps}")


@dataclass(frozen=True, kw_only=True, slots=True)
class PreprocessConfig:
    """What the preprocess stage reads, writes and allows."""

    source: Path
    """Folder with train/CLASS/NAME and val/CLASS/NAME, or with CLASS/NAME."""
    out: Path
    """Shard set to write; must not exist yet."""
    val_fraction: float | None = None
    """Share of the training pictures to hold out as val where the source has no val/."""
    images_per_shard: int = 5000
    """Pictures in one tar file; a worker packs a whole tar, so take fewer for a small set on many cores."""
    workers: int = len(os.sched_getaffinity(0))
    """Processes that decode, resize and encode."""
    max_dropped: float = 0.001
    """Largest share of undecodable pictures before the run stops."""
    seed: int = 0
    """Seeds the shuffle and the hold-out."""

    def __post_init__(self) -> None:
        check(self.images_per_shard > 0, f"--images-per-shard must be positive, found {self.images_per_shard}")
        check(self.workers > 0, f"--workers must be positive, found {self.workers}")
        check(0 <= self.max_dropped <= 1, f"--max-dropped must lie in [0, 1], found {self.max_dropped}")
        check(self.seed >= 0, f"--seed must not be negative, found {self.seed}")


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateConfig:
    """What the evaluate stage measures."""

    run: Path
    """Run directory that `alexnet train` wrote."""
    data: Path | None = None
    """Shard set, if it has moved since training."""
    split: Literal["train", "val", "test"] = "val"
    """Split whose pictures are classified."""
    views: tuple[Literal["center", "ten"], ...] = ("center", "ten")
    """Views of each picture whose probabilities are averaged: the centre patch, or ten patches."""
    batch_size: int = 256
    """Patches per rank that go through the network at once."""
    device: Device = "auto"
    """Where the network runs; auto takes the GPU when there is one."""
    num_threads: int = 2
    """Threads that decode, per rank."""

    def __post_init__(self) -> None:
        check(len(self.views) > 0, "--views must name at least one of center, ten")
        check(self.batch_size > 0, f"--batch-size must be positive, found {self.batch_size}")
        check(self.num_threads > 0, f"--num-threads must be positive, found {self.num_threads}")


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportConfig:
    """What the report stage reads and writes."""

    runs: tuple[Path, ...]
    """Run directories that `alexnet train` and `alexnet evaluate` wrote."""
    out: Path = Path("results")
    """Directory for report.md and its figures; an earlier report there is replaced."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoConfig:
    """The tour through all stages on handwritten digits."""

    experiment: Literal["source-2012", "paper"] = "source-2012"
    """What to train: what the winning code did, or what the text says."""
    out: Path = Path("runs/demo")
    """Where pictures, shards, runs and report go; a second start goes on there."""
    processes: int = 2
    """Training processes, each a rank."""

    def __post_init__(self) -> None:
        check(self.processes > 0, f"--processes must be positive, found {self.processes}")
