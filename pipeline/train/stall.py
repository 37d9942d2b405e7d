"""Training that does not learn: noticed, measured layer by layer, and what others do differently."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from tabulate import tabulate
from torch import Tensor, nn

from pipeline.config import ExperimentConfig
from pipeline.experiments import compare, get_experiment

TOLERANCE = 0.01
"""A loss this close to that of guessing, in parts of it, is one that has learned nothing."""
MAX_DEFAULT_STEPS = 5000
HELPED = ("source-2012", "modern")
"""Experiments that leave chance, in ways of their own."""
TELLING = ("weight_std", "bias", "after", "alpha", "inverted_dropout", "biases")
"""Last parts of the fields that decide whether a network starts to learn."""


def count_patient_steps(asked: int | None, num_steps: int) -> int:
    """Steps before a loss at chance is called a stall: as asked, or a quarter of all, at most 5,000."""
    return asked if asked is not None else min(MAX_DEFAULT_STEPS, max(1, num_steps // 4))


def is_at_chance(loss: float, num_classes: int, *, was: bool = False) -> bool:
    """Whether a loss lies within 1% of ln(classes), that of equal probabilities.

    One that `was` there is until it lies 2% below, so that a loss that hovers about chance is one stall and not many.
    """
    chance = math.log(num_classes)
    return loss >= (1 - 2 * TOLERANCE) * chance if was else abs(loss - chance) <= TOLERANCE * chance


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerHealth:
    """One layer on one batch: root mean square of the outputs, share of units that no picture wakes, and of zeros."""

    name: str
    scale: float
    dead_share: float | None = None
    zero_share: float | None = None


@contextmanager
def watch_outputs(network: nn.Module, note: Callable[[str, nn.Module, Tensor], None]) -> Iterator[None]:
    """Call `note(name, layer, output)` for each layer that has no layers within, in order of the forward pass."""
    leaves = [(name, layer) for name, layer in network.named_modules() if not list(layer.children())]
    handles = [
        layer.register_forward_hook(lambda layer, _, output, name=name: note(name, layer, output))
        for name, layer in leaves
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def measure_health(network: nn.Module, images: Tensor) -> list[LayerHealth]:
    """Send images (N, C, H, W) through the network, without dropout, and measure each layer's outputs."""
    found: list[LayerHealth] = []

    def note(name: str, layer: nn.Module, output: Tensor) -> None:
        values = output.float()
        health = LayerHealth(name=name, scale=float(values.square().mean().sqrt()))
        if isinstance(layer, nn.ReLU):
            silent = (values == 0).flatten(2).all(2) if values.dim() > 2 else values == 0
            health = LayerHealth(
                name=name,
                scale=health.scale,
                dead_share=float(silent.all(0).float().mean()),
                zero_share=float((values == 0).float().mean()),
            )
        found.append(health)

    was_training = network.training
    network.eval()
    with watch_outputs(network, note):
        network.forward(images)  # and not the compiled call, which passes over hooks
    network.train(was_training)
    return found


def format_health(layers: list[LayerHealth]) -> str:
    """A line per layer."""
    body = [
        (
            layer.name,
            f"{layer.scale:.3g}",
            "" if layer.dead_share is None else f"{layer.dead_share:.1%}",
            "" if layer.zero_share is None else f"{layer.zero_share:.1%}",
        )
        for layer in layers
    ]
    headers = ("layer", "scale of outputs", "dead ReLUs", "outputs at 0")
    return tabulate(body, headers=headers, colalign=("left", "right", "right", "right"))


def list_remedies(name: str, config: ExperimentConfig) -> list[str]:
    """What other experiments, which leave chance, set differently in the knobs that decide it: a line each."""
    lines = []
    own = replace(get_experiment(name), config=config)
    for other in HELPED:
        differences = [
            f"  {difference.knob}: {difference.right} there, {difference.left} here"
            for difference in compare(own, get_experiment(other))
            if difference.knob.rsplit(".", 1)[-1] in TELLING
        ]
        if differences and other != name:
            lines += [f"train: what {other} sets differently (all of it: `alexnet diff {name} {other}`):", *differences]
    return lines
