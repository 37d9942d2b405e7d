"""Layers that PyTorch lacks in the form of 2012: both response norms and dropout by a bare mask."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.config import ResponseNormConfig


def raise_scale(scale: Tensor, beta: float) -> Tensor:
    """`scale` to the power of -`beta`; 0.75 by two square roots, which is several times quicker than a power."""
    if beta == 0.75:
        root = scale.rsqrt()
        return root * root.sqrt()
    return scale.pow(-beta)


def widen(activations: Tensor) -> Tensor:
    """float32 for bfloat16, whose 8 bits of mantissa lose sums of squares and tie logits; others as they are."""
    return activations.float() if activations.dtype == torch.bfloat16 else activations


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

    def forward(self, images: Tensor) -> Tensor:
        """Normalise maps (N, C, H, W)."""
        num, channels, height, width = images.shape
        per_tower = channels // self.towers
        reach = self.config.size // 2
        squares = widen(images).square().reshape(num * self.towers, per_tower, height, width)
        padded = F.pad(squares, (0, 0, 0, 0, reach, self.config.size - 1 - reach))
        total = padded[:, :per_tower]
        for offset in range(1, self.config.size):
            total = total + padded[:, offset : offset + per_tower]
        scale = (self.config.k + self.config.alpha / self.config.size * total).reshape(images.shape)
        return images * raise_scale(scale, self.config.beta).to(images.dtype)

    def extra_repr(self) -> str:
        """Constants, for printing."""
        return f"{self.config}, towers={self.towers}"


class WithinMapNorm(nn.Module):
    """Response norm over each map's n x n neighbourhood, clipped at the border (net 145's cnorm2; not in the paper)."""

    def __init__(self, config: ResponseNormConfig) -> None:
        """Norm over neighbourhoods of `config.size` x `config.size`."""
        super().__init__()
        self.config = config

    def forward(self, images: Tensor) -> Tensor:
        """Normalise maps (N, C, H, W)."""
        size = self.config.size
        mean_square = F.avg_pool2d(widen(images).square(), size, stride=1, padding=size // 2)
        scale = self.config.k + self.config.alpha * mean_square
        return images * raise_scale(scale, self.config.beta).to(images.dtype)

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
