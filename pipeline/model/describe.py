"""A table of the network, layer by layer: shapes, receptive fields, parameters, multiply-adds and memory."""

from dataclasses import dataclass
from typing import Any

import torch
from tabulate import tabulate
from torch import Tensor, nn

from pipeline.config import ModelConfig
from pipeline.model.alexnet import build_alexnet
from pipeline.model.layers import WithinMapNorm

FLOAT_BYTES = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerRow:
    """One layer for one picture, in float32.

    `receptive_pixels` is the side of the square of input pixels that a unit depends on, in maps with the padding that
    it may reach into; `jump_pixels` lies between the squares of neighbours, None for vectors.
    `activation_bytes` is the output; 0 where it overwrites or only reshapes. `update_bytes` is gradients and momentum.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    receptive_pixels: int
    jump_pixels: int | None
    num_neurons: int
    num_parameters: int
    num_multiply_adds: int
    activation_bytes: int
    weight_bytes: int
    update_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ReceptiveField:
    """The input pixels along one side that a map's first unit depends on, and how far those of the next ones lie."""

    begin: int
    size: int
    jump: int

    def slide(self, size: int, stride: int, padding: int) -> "ReceptiveField":
        """That of windows over these units."""
        return ReceptiveField(
            begin=self.begin - padding * self.jump, size=self.size + (size - 1) * self.jump, jump=self.jump * stride
        )

    def count_pixels(self, num_units: int, input_pixels: int) -> int:
        """Pixels within the input that a row of units depends on together."""
        end = self.begin + self.size + (num_units - 1) * self.jump
        return min(end, input_pixels) - max(self.begin, 0)


def describe_layers(config: ModelConfig, *, input_pixels: int) -> list[LayerRow]:
    """Send one picture without data through the network and note what each layer makes of it.

    Raises:
        InputError: the input is too small for the layers.
    """
    rows: list[LayerRow] = []
    field, num_units, seen_by_all = ReceptiveField(begin=0, size=1, jump=1), 0, 0

    def note(name: str) -> Any:
        def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            nonlocal field, num_units, seen_by_all
            field = _follow(field, layer)
            if output.dim() == 4:
                num_units = output.shape[-1]
            if isinstance(layer, nn.Linear):
                seen_by_all = field.count_pixels(num_units, input_pixels)
            num_parameters = sum(parameter.numel() for parameter in layer.parameters())
            rows.append(
                LayerRow(
                    name=name,
                    kind=type(layer).__name__,
                    output_shape=tuple(output.shape[1:]),
                    receptive_pixels=seen_by_all or field.size,
                    jump_pixels=field.jump if output.dim() == 4 else None,
                    num_neurons=output.numel() if isinstance(layer, nn.Conv2d | nn.Linear) else 0,
                    num_parameters=num_parameters,
                    num_multiply_adds=_count_multiply_adds(layer, output),
                    activation_bytes=0 if _reuses_input(layer) else output.numel() * FLOAT_BYTES,
                    weight_bytes=num_parameters * FLOAT_BYTES,
                    update_bytes=2 * num_parameters * FLOAT_BYTES,
                )
            )

        return hook

    with torch.device("meta"):
        network = build_alexnet(config, input_pixels=input_pixels, seed=None)
        for name, layer in network.named_children():
            layer.register_forward_hook(note(name))
        network(torch.empty(1, config.in_channels, input_pixels, input_pixels))
    return rows


def _follow(field: ReceptiveField, layer: nn.Module) -> ReceptiveField:
    """The field after a layer that works on maps."""
    match layer:
        case nn.Conv2d():
            assert not isinstance(layer.padding, str)
            return field.slide(layer.kernel_size[0], layer.stride[0], layer.padding[0])
        case nn.MaxPool2d():
            assert isinstance(layer.kernel_size, int)
            assert isinstance(layer.stride, int)
            return field.slide(layer.kernel_size, layer.stride, 0)
        case nn.ZeroPad2d():
            return field.slide(1, 1, layer.padding[0])
        case WithinMapNorm():
            return field.slide(layer.config.size, 1, layer.config.size // 2)
        case _:
            return field


def _reuses_input(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Flatten) or (isinstance(layer, nn.ReLU) and layer.inplace)


def _count_multiply_adds(layer: nn.Module, output: Tensor) -> int:
    """Multiply-adds of a weight layer for one picture; 0 for the others."""
    if not isinstance(layer, nn.Conv2d | nn.Linear):
        return 0
    return output.numel() * layer.weight[0].numel()


def format_layers(rows: list[LayerRow]) -> str:
    """The rows for people: in words which layer is the largest, then a table with totals."""
    counts = ("num_parameters", "num_multiply_adds")
    kibibytes = ("activation_bytes", "weight_bytes", "update_bytes")
    totals = {field: sum(getattr(row, field) for row in rows) for field in ("num_neurons", *counts, *kibibytes)}
    body = [
        (
            row.name,
            row.kind,
            "×".join(map(str, row.output_shape)),
            str(row.receptive_pixels),
            "" if row.jump_pixels is None else str(row.jump_pixels),
            *(f"{getattr(row, field):,}" if getattr(row, field) else "" for field in counts),
            *(f"{getattr(row, field) / 1024:,.1f}" if getattr(row, field) else "" for field in kibibytes),
        )
        for row in rows
    ]
    body.append(
        (
            *("total", "", "", "", ""),
            *(f"{totals[field]:,}" for field in counts),
            *(f"{totals[field] / 1024:,.1f}" for field in kibibytes),
        )
    )
    headers = (
        *("layer", "kind", "output", "sees\npx", "jump\npx", "parameters", "multiply-adds"),
        *("output\nKiB", "weights\nKiB", "gradient and\nmomentum KiB"),
    )
    largest = [
        f"{row.name} {verb} ({getattr(row, field):,}, {getattr(row, field) / totals[field]:.0%})"
        for field, verb in zip(counts, ("holds most parameters", "takes most multiply-adds"), strict=True)
        for row in [max(rows, key=lambda row: getattr(row, field))]
    ]
    sentence = f"{totals['num_neurons']:,} neurons; {'; '.join(largest)}. One picture, float32:"
    table = tabulate(body, headers=headers, colalign=("left", "left", *["right"] * 8), disable_numparse=True)
    return f"{sentence}\n\n{table}"
