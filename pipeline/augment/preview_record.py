"""What is on a preview: as numbers, for scripts and captions, and as pixels."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.artifacts import Split
from pipeline.config import AugmentConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Patch:
    """What was cut from a stored picture, in its pixels, and what became of it.

    `color_shift` (C,) was added on the 0-255 scale, and the result divided by `divisor` (C,).
    """

    top: int
    left: int
    height: int
    width: int
    mirror: bool
    color_shift: tuple[float, ...]
    divisor: tuple[float, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """A stored picture, by its position in a split: with one patch in training, with ten in evaluation."""

    split: Split
    position: int
    key: str
    label: int
    class_id: str
    class_name: str
    patches: tuple[Patch, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Preview:
    """The first pictures of the training batch of a step, and one picture in ten views.

    `changed` are the fields of the augmentation that differ from what is registered as `name`; steps and epochs count
    from 0; `draws_digest` covers the order and all draws of the epoch; `channel_mean` (C,) is subtracted from every
    pixel, and 0 where a mean image is subtracted, or nothing.
    """

    path: str
    name: str
    changed: dict[str, Any]
    augment: AugmentConfig
    shards: str
    digest: str
    seed: int
    global_batch_size: int
    step: int
    epoch: int
    step_in_epoch: int
    steps_per_epoch: int
    draws_digest: str
    channel_mean: tuple[float, ...]
    batch: tuple[Sample, ...]
    views: Sample


@dataclass(frozen=True, kw_only=True, slots=True)
class Pixels:
    """A picture as stored, (side, side, 3) uint8, and its patches as the network sees them, the same way.

    What the loader gave is brought back to 0-255: times the divisor, plus the mean that was subtracted, rounded and
    clipped. The colour shift is not undone, so that it shows.
    """

    stored: npt.NDArray[np.uint8]
    patches: tuple[npt.NDArray[np.uint8], ...]
