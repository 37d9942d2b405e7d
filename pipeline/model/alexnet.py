"""AlexNet in every variant, from one description."""

import math
from collections import OrderedDict
from dataclasses import replace

import torch
from torch import Tensor, nn

from pipeline.config import ConvConfig, LinearConfig, ModelConfig, Step
from pipeline.errors import check
from pipeline.model.layers import CrossMapNorm, MaskDropout, WithinMapNorm, widen, without_autocast


class AlexNet(nn.Sequential):
    """Layers in a row, named as in the description: `conv1`, `conv1_lrn`, …, `fc8`.

    Takes images (N, channels, crop, crop) float32, gives logits (N, num_classes) float32.
    """

    def forward(self, images: Tensor) -> Tensor:
        """Logits; the last layer keeps its precision under autocast, for in bfloat16 many classes tie."""
        *hidden, last = self
        activations = images
        for layer in hidden:
            activations = layer(activations)
        with without_autocast(activations.device.type):
            logits: Tensor = last(widen(activations))
        return logits


def build_alexnet(config: ModelConfig, *, input_pixels: int, seed: int | None) -> AlexNet:
    """Build the network and draw its initial weights.

    Args:
        config: the description.
        input_pixels: height and width of the input.
        seed: decides the initial weights, alike on every machine and rank; None leaves them undrawn.

    Raises:
        InputError: the input is too small for the layers.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels = config.in_channels
    for conv in config.convs:
        if conv.padding[0] != conv.padding[1]:
            layers[f"{conv.name}_pad"] = nn.ZeroPad2d(conv.padding * 2)
        kernels = config.scaled(conv.kernels)
        layers[conv.name] = nn.Conv2d(
            channels,
            kernels,
            conv.size,
            stride=conv.stride,
            padding=conv.padding[0] if conv.padding[0] == conv.padding[1] else 0,
            groups=conv.groups,
        )
        layers |= {f"{conv.name}_{step}": _build_step(step, config, conv) for step in conv.after}
        channels = kernels
    layers["flatten"] = nn.Flatten()
    features = channels * count_positions(config, input_pixels) ** 2
    for linear in config.linears:
        units = config.num_classes if linear.units is None else config.scaled(linear.units)
        layers[linear.name] = nn.Linear(features, units)
        layers |= {f"{linear.name}_{step}": _build_step(step, config) for step in linear.after}
        features = units
    network = AlexNet(layers)
    if seed is not None:
        _initialize(network, config, torch.Generator().manual_seed(seed))
    return network


def _build_step(step: Step, config: ModelConfig, conv: ConvConfig | None = None) -> nn.Module:
    match step:
        case "relu":
            return nn.ReLU(inplace=True)
        case "tanh":
            return nn.Tanh()
        case "lrn":
            size = (conv and conv.lrn_size) or config.lrn.size
            return CrossMapNorm(replace(config.lrn, size=size), config.towers)
        case "local_norm":
            return WithinMapNorm(config.local_norm)
        case "pool":
            return nn.MaxPool2d(config.pool_size, _pick_stride(config, conv), ceil_mode=config.pool_ceil)
        case "dropout":
            return nn.Dropout(config.dropout) if config.inverted_dropout else MaskDropout(config.dropout)


def _pick_stride(config: ModelConfig, conv: ConvConfig | None) -> int:
    return (conv and conv.pool_stride) or config.pool_stride


def count_positions(config: ModelConfig, input_pixels: int) -> int:
    """Side of the last convolution's maps after all that follows it, in positions.

    Raises:
        InputError: a layer's window does not fit its input.
    """
    side = input_pixels
    for conv in config.convs:
        side = _count_windows(side + sum(conv.padding), conv.size, conv.stride, conv, input_pixels)
        for step in conv.after:
            if step == "pool":
                stride = _pick_stride(config, conv)
                side = _count_windows(side, config.pool_size, stride, conv, input_pixels, ceil=config.pool_ceil)
    return side


def _count_windows(
    side: int, size: int, stride: int, conv: ConvConfig, input_pixels: int, *, ceil: bool = False
) -> int:
    check(
        side >= size,
        f"--augment.crop-pixels (or resize-pixels) {input_pixels} is too small: {conv.name} gets {side} positions and "
        f"needs {size}",
    )
    if ceil:  # a last window may hang over the edge, but has to begin within
        return min((side - size + stride - 1) // stride, (side - 1) // stride) + 1
    return (side - size) // stride + 1


def _initialize(network: AlexNet, config: ModelConfig, generator: torch.Generator) -> None:
    """Draw weights and set biases layer by layer, in order, from one generator."""
    descriptions: list[ConvConfig | LinearConfig] = [*config.convs, *config.linears]
    for description in descriptions:
        layer = network.get_submodule(description.name)
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        assert layer.bias is not None
        match description.weight_std:
            case "kaiming":
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu", generator=generator)
            case "xavier":
                nn.init.xavier_uniform_(layer.weight, generator=generator)
            case "torch":
                nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5), generator=generator)
            case std:
                nn.init.normal_(layer.weight, std=std, generator=generator)
        if description.bias == "torch":
            bound = 1 / math.sqrt(layer.weight[0].numel())
            nn.init.uniform_(layer.bias, -bound, bound, generator=generator)
        else:
            nn.init.constant_(layer.bias, description.bias)
