"""What changes numbers: the frozen dataclasses of an experiment, and the checks that their values must pass."""

from dataclasses import dataclass
from typing import Literal

from pipeline.errors import check


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


def check_steps(name: str, after: tuple[Step, ...]) -> None:
    """Refuse the same step twice after one layer.

    Raises:
        InputError: there is one.
    """
    check(len(set(after)) == len(after), f"{name} is followed by the same step twice: {', '.join(after)}")


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

    def __post_init__(self) -> None:
        for name in ("kernels", "size", "stride", "groups"):
            value = getattr(self, name)
            check(value > 0, f"{name} of {self.name} must be positive, found {value}")
        check(
            self.weight_std == "kaiming" or self.weight_std >= 0,
            f"weight-std of {self.name} must not be negative, found {self.weight_std}",
        )
        check_steps(self.name, self.after)
        check(min(self.padding) >= 0, f"padding of {self.name} must not be negative, found {self.padding}")


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

    def __post_init__(self) -> None:
        check(self.units is None or self.units > 0, f"units of {self.name} must be positive, found {self.units}")
        check(self.weight_std >= 0, f"weight-std of {self.name} must not be negative, found {self.weight_std}")
        check_steps(self.name, self.after)


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

    def __post_init__(self) -> None:
        check(self.size > 0, f"a response norm's size must be positive, found {self.size}")
        check(self.k > 0, f"a response norm's k must be positive, found {self.k}")


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
        names = [conv.name for conv in self.convs] + [linear.name for linear in self.linears]
        check(
            len(set(names)) == len(names), f"--model needs a name of its own for each layer, found {', '.join(names)}"
        )
        check(names[0] == "conv1", f"--model.convs.0.name must be conv1, whose rate is its own, found {names[0]}")
        check(self.in_channels == 3, f"--model.in-channels must be 3, for shards hold RGB, found {self.in_channels}")
        check(self.num_classes > 1, f"--model.num-classes must be at least 2, found {self.num_classes}")
        check(self.towers > 0, f"--model.towers must be positive, found {self.towers}")
        check(self.pool_size > 0, f"--model.pool-size must be positive, found {self.pool_size}")
        check(self.pool_stride > 0, f"--model.pool-stride must be positive, found {self.pool_stride}")
        check(self.local_norm.size % 2 == 1, f"--model.local-norm.size must be odd, found {self.local_norm.size}")
        check(0 <= self.dropout < 1, f"--model.dropout must lie in [0, 1), found {self.dropout}")
        check(self.width > 0, f"--model.width must be positive, found {self.width}")
        channels = self.in_channels
        for conv in self.convs:
            kernels = self.scaled(conv.kernels)
            for split, parts in ((self.towers, "towers"), (conv.groups, "groups")):
                check(
                    kernels > 0 and kernels % split == 0,
                    f"--model.width {self.width} gives {conv.name} {kernels} kernels, which {split} {parts} cannot "
                    f"share: choose another width or number of {parts}",
                )
            check(
                channels % conv.groups == 0,
                f"{conv.name} sees {channels} maps, which {conv.groups} groups cannot share: change its groups",
            )
            channels = kernels

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
