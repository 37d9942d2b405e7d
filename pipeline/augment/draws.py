"""What is drawn for each picture of each epoch: a function of (seed, epoch, picture), the same at any rank."""

import hashlib
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from pipeline.augment.color import ColorStatistics, sample_color_shifts
from pipeline.augment.geometry import Crops, sample_crops
from pipeline.augment.order import permute_epoch, select_train_batch
from pipeline.config import AugmentConfig
from pipeline.distributed import World

NUM_EPOCHS_KEPT = 2
"""Prefetching crosses the end of an epoch."""
LEVELS_PER_STEP = 64
"""A digest sees shifts to this part of a grey level, for processors may round their last bits differently."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Draws:
    """What was drawn for the N pictures of one training batch.

    `starts` (N, 2) int32 top and left, `shapes` (N, 2) int32 height and width, in pixels; `mirrors` (N,) int32 of 0
    and 1; `color_shifts` (N, C) float32 added to the pixels on the 0-255 scale; `offsets` (N, C) float32 the same
    less what is subtracted from every pixel of a channel; `divisors` (N, C) float32 applied last.
    """

    starts: npt.NDArray[np.int32]
    shapes: npt.NDArray[np.int32]
    mirrors: npt.NDArray[np.int32]
    color_shifts: npt.NDArray[np.float32]
    offsets: npt.NDArray[np.float32]
    divisors: npt.NDArray[np.float32]

    def take(self, indices: npt.NDArray[np.int64]) -> "Draws":
        """Those of some of the pictures."""
        return Draws(**{field.name: getattr(self, field.name)[indices] for field in fields(self)})


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochDraws:
    """One epoch: `order` (N,) int64 positions in the split; crops and `shifts` (N, C) float32, by picture."""

    order: npt.NDArray[np.int64]
    crops: Crops
    shifts: npt.NDArray[np.float32]


class TrainSampler:
    """Which pictures a rank trains on at a step, and what is drawn for them.

    The pictures that do not fill a last global batch are left out; the permutation makes them others in each epoch.
    """

    def __init__(
        self,
        config: AugmentConfig,
        statistics: ColorStatistics,
        *,
        num_images: int,
        image_pixels: int,
        global_batch_size: int,
        seed: int,
        world: World,
    ) -> None:
        """Draw nothing yet.

        Args:
            config: what may be drawn.
            statistics: colours of the training set.
            num_images: pictures of the training split.
            image_pixels: their side.
            global_batch_size: pictures a step over all ranks; at most `num_images`.
            seed: the experiment's seed.
            world: this rank among all.
        """
        self._config, self._statistics = config, statistics
        self._num_images, self._image_pixels = num_images, image_pixels
        self._seed, self._world = seed, world
        self.steps_per_epoch = num_images // global_batch_size
        self.batch_size = global_batch_size // world.world_size
        self.read_epoch = lru_cache(maxsize=NUM_EPOCHS_KEPT)(self._sample_epoch)
        self._mean, self._scale = compute_normalization(config, statistics)

    def _sample_epoch(self, epoch: int) -> EpochDraws:
        config, seed = self._config, self._seed
        shifts = np.zeros((self._num_images, config.num_channels), np.float32)
        if config.has_color_shift(epoch):
            shifts = sample_color_shifts(
                self._num_images, self._statistics.axes, std=config.color_coefficient_std, seed=seed, epoch=epoch
            )
        return EpochDraws(
            order=permute_epoch(self._num_images, seed=seed, epoch=epoch),
            crops=sample_crops(self._num_images, config, image_pixels=self._image_pixels, seed=seed, epoch=epoch),
            shifts=shifts,
        )

    def select(self, step: int) -> npt.NDArray[np.int64]:
        """Positions (batch_size,) int64 in the split of this rank's batch at a step counted from the start."""
        epoch, step_in_epoch = divmod(step, self.steps_per_epoch)
        return select_train_batch(
            self.read_epoch(epoch).order,
            step=step_in_epoch,
            batch_size_per_rank=self.batch_size,
            rank=self._world.rank,
            world_size=self._world.world_size,
        )

    def draw(self, step: int) -> Draws:
        """What is drawn for this rank's batch at a step."""
        epoch, step_in_epoch = divmod(step, self.steps_per_epoch)
        positions, drawn = self.select(step), self.read_epoch(epoch)
        indices = positions
        if self._config.images_per_crop > 1:
            place = (step_in_epoch * self._world.world_size + self._world.rank) * self.batch_size
            indices = (place + np.arange(self.batch_size)) // self._config.images_per_crop
        color_shifts = drawn.shifts[positions]
        divisor = self._scale * np.float32(self._config.color_divisor if self._config.has_color_shift(epoch) else 1)
        return Draws(
            starts=drawn.crops.starts[indices],
            shapes=drawn.crops.shapes[indices],
            mirrors=drawn.crops.mirrors[indices],
            color_shifts=color_shifts,
            offsets=color_shifts - self._mean,
            divisors=np.tile(divisor, (len(positions), 1)),
        )

    def compute_digest(self, step: int) -> str:
        """SHA-256 of the order and all draws of the epoch that a step lies in.

        Equal digests mean that a run goes on, or another rank works, with the same order and draws; NumPy may change
        its generators between versions.
        """
        drawn = self.read_epoch(step // self.steps_per_epoch)
        rounded = np.rint(drawn.shifts * LEVELS_PER_STEP).astype(np.int32)
        sha256 = hashlib.sha256()
        for values in (drawn.order, drawn.crops.starts, drawn.crops.shapes, drawn.crops.mirrors, rounded):
            sha256.update(values.tobytes())
        return sha256.hexdigest()


def compute_normalization(
    config: AugmentConfig, statistics: ColorStatistics
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """What is subtracted from every pixel of a channel, and what it is divided by then: (C,) float32 each."""
    mean = statistics.mean if config.mean == "channel" else np.zeros(config.num_channels)
    scale = statistics.std if config.pixel_scale == "std" else np.full(config.num_channels, config.pixel_scale)
    return mean.astype(np.float32), scale.astype(np.float32)
