"""From the views of a picture to one probability per class (§4.1)."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from pipeline.augment.loader import Batch
from pipeline.config import Precision
from pipeline.model.precision import autocast


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """One batch's `probabilities` (N, classes) float32, `labels` (N,) and `positions` (N,) in the split."""

    probabilities: Tensor
    labels: Tensor
    positions: npt.NDArray[np.int64]


def average_views(logits: Tensor) -> Tensor:
    """Average the softmax probabilities (not the logits) of each picture's views.

    Args:
        logits: (N, views, classes).

    Returns:
        (N, classes) float32.
    """
    return logits.float().softmax(-1).mean(1)


def predict(network: nn.Module, batches: Iterable[Batch], *, precision: Precision) -> Iterator[Prediction]:
    """Yield each batch's averaged probabilities, with the network in evaluation mode; its mode is restored."""
    was_training = network.training
    network.eval()
    for batch in batches:
        with torch.inference_mode(), autocast(precision, batch.images.device):
            logits = network(batch.images.flatten(0, 1)).unflatten(0, batch.images.shape[:2])
            probabilities = average_views(logits)
        yield Prediction(probabilities=probabilities, labels=batch.labels, positions=batch.positions)
    network.train(was_training)
