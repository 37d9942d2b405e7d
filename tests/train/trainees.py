"""Small networks that take steps on made-up pictures, without a run around them."""

import dataclasses
from typing import Any

import numpy as np
import torch

from pipeline.augment.loader import Batch
from pipeline.config import Precision
from pipeline.distributed import World
from pipeline.experiments import get_experiment
from pipeline.model.alexnet import AlexNet, build_alexnet
from pipeline.train.optimizer import build_optimizer, set_rates
from pipeline.train.schedule import Rates
from pipeline.train.step import Stepper

ALONE = World(rank=0, local_rank=0, world_size=1, device=torch.device("cpu"))
INPUT_PIXELS = 68
"""The least that leaves `source-2012` a position after its last pooling."""
NUM_CLASSES = 4
RATES = Rates(weights=0.001, biases=0.002, conv1=0.001, head=0.001)


def build_trainee(*, seed: int | None = 0, dropout: float = 0.0) -> AlexNet:
    """`source-2012`, narrow."""
    model = get_experiment("source-2012").config.model
    model = dataclasses.replace(model, width=0.125, num_classes=NUM_CLASSES, dropout=dropout)
    return build_alexnet(model, input_pixels=INPUT_PIXELS, seed=seed)


def build_stepper(
    network: AlexNet, *, precision: Precision = "float32", rates: Rates = RATES, **options: Any
) -> Stepper:
    """A stepper with the optimiser of `source-2012` at the rates given."""
    optimizer = build_optimizer(network, get_experiment("source-2012").config.optimizer)
    set_rates(optimizer, rates, lr_in_momentum=True)
    network.train()
    return Stepper(network, optimizer, precision=precision, device=torch.device("cpu"), **options)


def paint_batch(seed: int = 0, *, num_images: int = 8, num_skipped: int = 0) -> Batch:
    """Noise of the contrast of pictures, a colour for each class beneath it."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(NUM_CLASSES, (num_images,), generator=generator)
    colors = torch.tensor([[60.0, 0, 0], [0, 60, 0], [0, 0, 60], [-60, -60, 0]])[labels]
    noise = torch.randn(num_images, 3, INPUT_PIXELS, INPUT_PIXELS, generator=generator) * 40
    return Batch(
        images=colors[:, :, None, None] + noise,
        labels=labels,
        positions=np.arange(num_images),
        num_skipped=num_skipped,
    )


def copy_state(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Weights and biases as they are now."""
    return {name: value.detach().clone() for name, value in network.named_parameters()}


def spoil(batch: Batch) -> Batch:
    """The batch with one value that is no number."""
    images = batch.images.clone()
    images[1, 2, 30, 30] = torch.nan
    return dataclasses.replace(batch, images=images)
