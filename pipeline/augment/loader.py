"""Batches for training and evaluation: order, draws and labels joined with what DALI makes of the pictures."""

import io
import math
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from pipeline.artifacts import ShardSet, ShardSplit, Split
from pipeline.augment.color import build_color_axes, sample_color_shifts
from pipeline.augment.dali import BatchStream, Draws, FixedViews, Graph, Samples
from pipeline.augment.geometry import Crops, Views, build_views, sample_crops
from pipeline.augment.order import permute_epoch, select_evaluation, select_train_batch
from pipeline.config import AugmentConfig
from pipeline.distributed import World
from pipeline.errors import RunError, check

MAX_BATCHES_IN_FLIGHT = 8  # more than DALI ever prefetches


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """One rank's batch on its device.

    `images` (N, 3, H, W) or (N, views, 3, H, W) float32; `labels` (N,) int64; `positions` (N,) int64, the identity of
    each picture: its position in the split, on the CPU.
    """

    images: Tensor
    labels: Tensor
    positions: npt.NDArray[np.int64]


class TrainLoader:
    """Endless training batches from any step on; epoch after epoch without a pause between them.

    The pictures that do not fill a last global batch are left out; the permutation makes them others in each epoch.
    """

    def __init__(
        self,
        shard_set: ShardSet,
        config: AugmentConfig,
        *,
        global_batch_size: int,
        seed: int,
        world: World,
        num_threads: int,
    ) -> None:
        """Open the training split.

        Raises:
            InputError: crops do not fit the pictures, or there are fewer pictures than one global batch.
        """
        check_crops_fit(shard_set, config)
        self._split = shard_set.open_split("train")
        self.steps_per_epoch = len(self._split) // global_batch_size
        check(
            self.steps_per_epoch > 0,
            f"{shard_set.path} has {len(self._split)} training pictures, fewer than one batch of --global-batch-size "
            f"{global_batch_size}: choose a smaller batch",
        )
        self._config, self._seed, self._world = config, seed, world
        self._batch_size = global_batch_size // world.world_size
        self._axes = build_color_axes(shard_set.info.color, config.color_scale)
        self._first_step = 0
        self._handed_over: deque[npt.NDArray[np.int64]] = deque(maxlen=MAX_BATCHES_IN_FLIGHT)
        self._read_draws = lru_cache(maxsize=2)(self._sample_draws)  # two: prefetching crosses the end of an epoch
        self._stream = BatchStream(
            Graph(
                mean_image=shard_set.read_mean_image(),
                mean=config.mean,
                crop_pixels=config.crop_pixels,
                raw=shard_set.info.packing.encoding == "raw",
            ),
            self._read_batch,
            batch_size=self._batch_size,
            num_threads=num_threads,
            device=world.device,
        )

    def _sample_draws(self, epoch: int) -> tuple[npt.NDArray[np.int64], Crops, npt.NDArray[np.float32]]:
        order = permute_epoch(len(self._split), seed=self._seed, epoch=epoch)
        crops = sample_crops(
            len(self._split),
            num_offsets=self._config.num_offsets,
            flip=self._config.flip,
            seed=self._seed,
            epoch=epoch,
        )
        shifts = sample_color_shifts(
            len(self._split), self._axes, std=self._config.color_coefficient_std, seed=self._seed, epoch=epoch
        )
        return order, crops, shifts

    def _select(self, step: int) -> tuple[int, int, npt.NDArray[np.int64]]:
        """Epoch, first place within its order, and positions of this rank's batch at a step counted from the start."""
        epoch, step_in_epoch = divmod(step, self.steps_per_epoch)
        positions = select_train_batch(
            self._read_draws(epoch)[0],
            step=step_in_epoch,
            batch_size_per_rank=self._batch_size,
            rank=self._world.rank,
            world_size=self._world.world_size,
        )
        place = (step_in_epoch * self._world.world_size + self._world.rank) * self._batch_size
        return epoch, place, positions

    def _read_batch(self, number: int) -> Samples:
        epoch, place, positions = self._select(self._first_step + number)
        self._handed_over.append(positions)
        _, crops, shifts = self._read_draws(epoch)
        draws = positions
        if self._config.images_per_crop > 1:
            draws = (place + np.arange(len(positions))) // self._config.images_per_crop
        off = not has_color_shift(self._config, epoch)
        divisor = self._config.pixel_scale * (1.0 if off else self._config.color_divisor)
        return [self._split.read(int(position)) for position in positions], Draws(
            starts=crops.starts[draws],
            mirrors=crops.mirrors[draws],
            shifts=shifts[positions] * np.float32(not off),
            divisors=np.full((len(positions), 3), divisor, np.float32),
        )

    def run(self, first_step: int, last_step: int) -> Iterator[Batch]:
        """Yield the batches of steps `first_step` to `last_step` - 1, counted from the start of training."""
        self._first_step = first_step
        with naming_damage(self._split, self._handed_over):
            for number, images in enumerate(self._stream.run(last_step - first_step)):
                positions = self._select(first_step + number)[2]
                yield _join(images, self._split.labels, positions)


class EvaluationLoader:
    """Every picture of a split exactly once over all ranks; the last batch may be short."""

    def __init__(
        self,
        shard_set: ShardSet,
        config: AugmentConfig,
        split: Split,
        views: Views,
        *,
        batch_size: int,
        world: World,
        num_threads: int,
    ) -> None:
        """Open the split; `batch_size` counts views, so that ten views take no more memory than one.

        Raises:
            InputError: crops do not fit the pictures, or there is no such split.
        """
        check_crops_fit(shard_set, config)
        self._split = shard_set.open_split(split)
        self._share = select_evaluation(len(self._split), rank=world.rank, world_size=world.world_size)
        fixed = build_views(views, image_pixels=shard_set.info.packing.pixels, crop_pixels=config.crop_pixels)
        self._batch_size = max(1, batch_size // len(fixed))
        self._handed_over: deque[npt.NDArray[np.int64]] = deque(maxlen=MAX_BATCHES_IN_FLIGHT)
        self._stream = BatchStream(
            Graph(
                mean_image=shard_set.read_mean_image(),
                mean=config.mean,
                crop_pixels=config.crop_pixels,
                fixed=FixedViews(views=fixed, divisor=config.pixel_scale),
                raw=shard_set.info.packing.encoding == "raw",
            ),
            self._read_batch,
            batch_size=self._batch_size,
            num_threads=num_threads,
            device=world.device,
        )

    def __len__(self) -> int:
        """Number of this rank's batches."""
        return math.ceil(len(self._share) / self._batch_size)

    def _select(self, number: int) -> npt.NDArray[np.int64]:
        return self._share[number * self._batch_size : (number + 1) * self._batch_size]

    def _read_batch(self, number: int) -> Samples:
        positions = self._select(number)
        self._handed_over.append(positions)
        return [self._split.read(int(position)) for position in positions], None

    def run(self) -> Iterator[Batch]:
        """Yield this rank's batches, with images (N, views, 3, H, W)."""
        with naming_damage(self._split, self._handed_over):
            for number, images in enumerate(self._stream.run(len(self))):
                yield _join(images, self._split.labels, self._select(number))


@contextmanager
def naming_damage(split: ShardSplit, handed_over: Iterable[npt.NDArray[np.int64]]) -> Iterator[None]:
    """Turn DALI's word on a picture that it cannot decode into one that names shard, offset and key.

    Args:
        split: where the pictures lie.
        handed_over: positions of the batches that DALI got last; the damaged picture is one of them.

    Raises:
        RunError: a picture cannot be decoded.
    """
    try:
        yield
    except RuntimeError as error:
        if "decode" not in str(error):
            raise
        for position in (int(position) for positions in handed_over for position in positions):
            try:
                Image.open(io.BytesIO(split.read(position).tobytes())).load()
            except (OSError, SyntaxError) as reason:
                raise RunError(
                    f"{split.locate(position)} cannot be decoded ({reason}), so the shard was damaged after it was "
                    "written: see `alexnet preprocess verify` and `repair`"
                ) from error
        raise


def has_color_shift(config: AugmentConfig, epoch: int) -> bool:
    """Whether colours shift in an epoch; without a shift the source's divisor has nothing to make up for."""
    wanted = config.color_scale != "none" and config.color_coefficient_std > 0
    return wanted and (config.color_off_epoch is None or epoch < config.color_off_epoch)


def check_crops_fit(shard_set: ShardSet, config: AugmentConfig) -> None:
    """Refuse patches that leave the stored pictures.

    Raises:
        InputError: they do.
    """
    side = shard_set.info.packing.pixels
    check(
        config.crop_pixels + config.num_offsets - 1 <= side,
        f"--augment.crop-pixels {config.crop_pixels} at {config.num_offsets} offsets leaves the stored {side}x{side} "
        "pictures: choose a smaller patch or fewer offsets",
    )


def _join(images: Tensor, labels: npt.NDArray[np.int64], positions: npt.NDArray[np.int64]) -> Batch:
    chosen = torch.from_numpy(labels[positions]).to(images.device, non_blocking=True)
    return Batch(images=images, labels=chosen, positions=positions)
