"""Layers that PyTorch lacks in the form of 2012: both response norms and dropout by a bare mask."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.config import ResponseNormConfig

MAX_SHIFTS = 16
"""Neighbours up to which adding shifted maps is quicker than multiplying by a band of ones."""
PICTURES_PER_THREAD = 4
"""Few enough for a CPU's caches to hold what lies between two operations, and enough for threads to seldom meet."""


class Window(NamedTuple):
    """Neighbours along one dimension of (N, towers, C, H, W) that are summed with each entry."""

    dim: int
    before: int
    after: int


class Neighbourhood(NamedTuple):
    """y = x · (k + factor · Σ x²)^-beta, the sum over one window after the other within equal parts of the maps."""

    towers: int
    windows: tuple[Window, ...]
    factor: float
    beta: float
    k: float


def widen(activations: Tensor) -> Tensor:
    """float32 for halves: bfloat16 loses sums of squares and ties logits, float16 overflows; others as they are."""
    return activations.float() if activations.dtype in {torch.bfloat16, torch.float16} else activations


def without_autocast(device_type: str) -> AbstractContextManager[Any]:
    """Keep the dtypes of what is computed inside; devices that know no autocast (meta) need nothing."""
    if not torch.amp.is_autocast_available(device_type):
        return nullcontext()
    return torch.autocast(device_type, enabled=False)


class CrossMapNorm(nn.Module):
    """Response norm across neighbouring maps: x · (k + alpha/n · Σ x²)^-beta (§3.3).

    The window is clipped at the ends of a tower and not renormalised (net 145's rnorm1 and rnorm2).
    """

    def __init__(self, config: ResponseNormConfig, towers: int) -> None:
        """Norm over `config.size` maps within each of `towers` equal parts of the channels."""
        super().__init__()
        self.config, self.towers = config, towers
        window = Window(2, config.size // 2, (config.size - 1) // 2)
        self.neighbourhood = Neighbourhood(towers, (window,), config.alpha / config.size, config.beta, config.k)

    def forward(self, images: Tensor) -> Tensor:
        """Normalise maps (N, C, H, W), in their dtype and memory format."""
        return normalize(images, self.neighbourhood)

    def extra_repr(self) -> str:
        """Constants, for printing."""
        return f"{self.config}, towers={self.towers}"


class WithinMapNorm(nn.Module):
    """Response norm over each map's n x n neighbourhood, clipped at the border (net 145's cnorm2; not in the paper)."""

    def __init__(self, config: ResponseNormConfig) -> None:
        """Norm over neighbourhoods of `config.size` x `config.size`."""
        super().__init__()
        self.config = config
        windows = tuple(Window(dim, config.size // 2, (config.size - 1) // 2) for dim in (3, 4))
        self.neighbourhood = Neighbourhood(1, windows, config.alpha / config.size**2, config.beta, config.k)

    def forward(self, images: Tensor) -> Tensor:
        """Normalise maps (N, C, H, W), in their dtype and memory format."""
        return normalize(images, self.neighbourhood)

    def extra_repr(self) -> str:
        """Constants, for printing."""
        return str(self.config)


class MaskDropout(nn.Module):
    """Dropout as in 2012: a bare mask in training, outputs times the keep probability in evaluation (§4.2)."""

    def __init__(self, rate: float) -> None:
        """Drop with probability `rate`."""
        super().__init__()
        self.rate = rate

    def forward(self, activations: Tensor) -> Tensor:
        """Mask or scale activations of any shape."""
        if not self.training:
            return activations * (1 - self.rate)
        return activations * torch.empty_like(activations).bernoulli_(1 - self.rate)

    def extra_repr(self) -> str:
        """Constants, for printing."""
        return f"rate={self.rate}"


def normalize(images: Tensor, neighbourhood: Neighbourhood) -> Tensor:
    """Response norm of maps (N, C, H, W), with a gradient."""
    result: Tensor = _ResponseNorm.apply(images, neighbourhood)
    return result


class _ResponseNorm(torch.autograd.Function):
    """Keeps its input alone for the backward pass, which the chain of its operations would keep eight times."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, neighbourhood: Neighbourhood) -> Tensor:
        ctx.save_for_backward(images)
        ctx.neighbourhood = neighbourhood

        def divide(maps: Tensor) -> Tensor:
            return maps * _raise_scale(_compute_scale(maps, neighbourhood), neighbourhood.beta)

        return _apply_in_parts(divide, images)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """As dx = dy · s^-beta - 2 · factor · beta · x · Σ dy · x · s^(-beta-1), the sum over the mirrored windows."""
        neighbourhood: Neighbourhood = ctx.neighbourhood
        weight = -2 * neighbourhood.factor * neighbourhood.beta
        mirrored = tuple(Window(dim, after, before) for dim, before, after in neighbourhood.windows)

        def differentiate(maps: Tensor, gradient: Tensor) -> Tensor:
            scale = _compute_scale(maps, neighbourhood)
            direct = gradient * _raise_scale(scale, neighbourhood.beta)
            through = _sum_windows((direct / scale).mul_(maps), neighbourhood.towers, mirrored)
            return direct.addcmul_(through, maps, value=weight)

        return _apply_in_parts(differentiate, *ctx.saved_tensors, *gradients), None


def _apply_in_parts(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """A function of widened maps (N, C, H, W), in the first one's dtype and memory format.

    A CPU takes a few pictures at a time, about twice as quick as whole batches; elsewhere a batch is one part.
    """
    first = tensors[0]
    if not _is_eager_on_cpu(first):
        return function(*map(widen, tensors)).to(first.dtype)
    result, num_pictures = torch.empty_like(first), PICTURES_PER_THREAD * torch.get_num_threads()
    for target, *parts in zip(*(torch.split(tensor, num_pictures) for tensor in (result, *tensors)), strict=True):
        target.copy_(function(*map(widen, parts)))
    return result


def _is_eager_on_cpu(maps: Tensor) -> bool:
    return maps.device.type == "cpu" and not torch.compiler.is_compiling()


def _compute_scale(maps: Tensor, neighbourhood: Neighbourhood) -> Tensor:
    total = _sum_windows(maps.square(), neighbourhood.towers, neighbourhood.windows)
    return total.mul_(neighbourhood.factor).add_(neighbourhood.k)


def _raise_scale(scale: Tensor, beta: float) -> Tensor:
    """`scale` to the power of -`beta`; 0.75 by two square roots, which is several times quicker than a power."""
    if beta == 0.75:
        root = scale.rsqrt()
        return root.sqrt().mul_(root)
    return scale.pow(-beta)


def _sum_windows(maps: Tensor, towers: int, windows: tuple[Window, ...]) -> Tensor:
    total: Tensor = torch.unflatten(maps, 1, (towers, -1))
    for window in windows:
        total = _sum_window(total, window)
    return total.flatten(1, 2)


def _sum_window(maps: Tensor, window: Window) -> Tensor:
    """Sum of each entry and its neighbours along one dimension, clipped at its ends."""
    dim, before, after = window
    if not _is_eager_on_cpu(maps):  # one reduction, which compilers fuse with all around it
        padding = (0, 0) * (maps.dim() - 1 - dim) + (before, after)
        neighbours: Tensor = F.pad(maps, padding).unfold(dim, before + 1 + after, 1)
        return neighbours.sum(-1)
    length = maps.shape[dim]
    if before + after > MAX_SHIFTS:
        with without_autocast("cpu"):
            band = maps.new_ones(length, length).triu(-before).tril(after)
            return torch.movedim(torch.tensordot(maps, band, ([dim], [1])), -1, dim)
    total = maps.clone()
    for offset in range(1, min(before, length - 1) + 1):
        total.narrow(dim, offset, length - offset).add_(maps.narrow(dim, 0, length - offset))
    for offset in range(1, min(after, length - 1) + 1):
        total.narrow(dim, 0, length - offset).add_(maps.narrow(dim, offset, length - offset))
    return total
