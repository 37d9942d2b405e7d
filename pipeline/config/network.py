"""The network: its layers, and what follows each."""

from dataclasses import dataclass
from typing import Literal

from pipeline.errors import check

Step = Literal["relu", "tanh", "lrn", "local_norm", "pool", "dropout"]
"""What can follow a weight layer: a nonlinearity, response norm across or within maps, max pooling, dropout."""
WeightRule = Literal["kaiming", "xavier", "torch"]
"""How weights begin where no deviation is given: normal by fan-out for ReLU, uniform by both fans, torch's default."""


def check_layer(name: str, after: tuple[Step, ...], weight_std: float | WeightRule) -> None:
    """Refuse the same step twice after one layer, and a negative deviation.

    Raises:
        InputError: there is one.
    """
    check(len(set(after)) == len(after), f"{name} is followed by the same step twice: {', '.join(after)}")
    check(
        isinstance(weight_std, str) or weight_std >= 0,
        f"weight-std of {name} must not be negative, found {weight_std}",
    )


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
    weight_std: float | WeightRule = 0.01
    """Standard deviation of the initial weights, or a rule that has its own."""
    bias: float | Literal["torch"] = 0.0
    """Initial bias; torch draws it as its layers do."""
    pool_stride: int | None = None
    """Pixels between the pooling windows that follow, where they are not the network's."""
    lrn_size: int | None = None
    """Maps under the cross-map norm that follows, where they are not the network's."""

    def __post_init__(self) -> None:
        for name in ("kernels", "size", "stride", "groups", "pool_stride", "lrn_size"):
            value = getattr(self, name)
            check(value is None or value > 0, f"{name} of {self.name} must be positive, found {value}")
        check_layer(self.name, self.after, self.weight_std)
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
    weight_std: float | WeightRule = 0.01
    """Standard deviation of the initial weights, or a rule that has its own."""
    bias: float | Literal["torch"] = 0.0
    """Initial bias; torch draws it as its layers do."""

    def __post_init__(self) -> None:
        check(self.units is None or self.units > 0, f"units of {self.name} must be positive, found {self.units}")
        check_layer(self.name, self.after, self.weight_std)


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
    pool_ceil: bool = False
    """Whether a last pooling window may hang over the edge (Caffe, net 147)."""
    dropout: float = 0.5
    """Probability with which a unit is dropped in training."""
    inverted_dropout: bool = False
    """True: scale up in training (PyTorch); False: bare mask in training, scale down in evaluation (paper, source)."""

    def __post_init__(self) -> None:
        check(
            len(self.convs) > 0 and len(self.linears) > 0, "--model needs at least one convolution and one linear layer"
        )
        check(self.linears[-1].units is None, "--model.linears: the last layer's units must be None (one per class)")
        check(
            self.linears[-1].after == (),
            f"--model.linears: nothing may follow the last layer, whose outputs are the logits, found "
            f"{', '.join(self.linears[-1].after)}",
        )
        names = [conv.name for conv in self.convs] + [linear.name for linear in self.linears]
        check(
            len(set(names)) == len(names), f"--model needs a name of its own for each layer, found {', '.join(names)}"
        )
        check(names[0] == "conv1", f"--model.convs.0.name must be conv1, whose rate is its own, found {names[0]}")
        check(self.in_channels in {1, 3}, f"--model.in-channels must be 3 or 1 (luminance), found {self.in_channels}")
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
