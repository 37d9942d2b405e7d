"""A table of the network: output shape, parameters, multiply-adds and activation memory, layer by layer."""

from dataclasses import dataclass
from typing import Any

import torch
from tabulate import tabulate
from torch import Tensor, nn

from pipeline.config import ModelConfig
from pipeline.model.alexnet import build_alexnet

FLOAT_BYTES = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerRow:
    """One layer for one picture. `activation_bytes` is its float32 output; 0 where it overwrites or only reshapes."""

    name: str
    kind: str
    output_shape: tuple[int, ...]
    num_parameters: int
    num_multiply_adds: int
    activation_bytes: int


def describe_layers(config: ModelConfig, *, input_pixels: int) -> list[LayerRow]:
    """Send one picture without data through the network and note what each layer makes of it."""
    rows: list[LayerRow] = []

    def note(name: str) -> Any:
        def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            rows.append(
                LayerRow(
                    name=name,
                    kind=type(layer).__name__,
                    output_shape=tuple(output.shape[1:]),
                    num_parameters=sum(parameter.numel() for parameter in layer.parameters()),
                    num_multiply_adds=_count_multiply_adds(layer, output),
                    activation_bytes=0 if _reuses_input(layer) else output.numel() * FLOAT_BYTES,
                )
            )

        return hook

    with torch.device("meta"):
        network = build_alexnet(config, input_pixels=input_pixels, seed=None)
        for name, layer in network.named_children():
            layer.register_forward_hook(note(name))
        network(torch.empty(1, config.in_channels, input_pixels, input_pixels))
    return rows


def _reuses_input(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Flatten) or (isinstance(layer, nn.ReLU) and layer.inplace)


def _count_multiply_adds(layer: nn.Module, output: Tensor) -> int:
    """Multiply-adds of a weight layer for one picture; 0 for the others."""
    if not isinstance(layer, nn.Conv2d | nn.Linear):
        return 0
    return output.numel() * layer.weight[0].numel()


def format_layers(rows: list[LayerRow]) -> str:
    """The rows as a table for people, with totals."""
    body: list[tuple[str, ...]] = [
        (
            row.name,
            row.kind,
            "x".join(str(size) for size in row.output_shape),
            f"{row.num_parameters:,}" if row.num_parameters else "",
            f"{row.num_multiply_adds:,}" if row.num_multiply_adds else "",
            f"{row.activation_bytes / 1024:,.1f}" if row.activation_bytes else "",
        )
        for row in rows
    ]
    body.append(
        (
            "total",
            "",
            "",
            f"{sum(row.num_parameters for row in rows):,}",
            f"{sum(row.num_multiply_adds for row in rows):,}",
            f"{sum(row.activation_bytes for row in rows) / 1024:,.1f}",
        )
    )
    headers = ("layer", "kind", "output", "parameters", "multiply-adds", "activation KiB")
    return tabulate(body, headers=headers, colalign=("left", "left", "right", "right", "right", "right"))
