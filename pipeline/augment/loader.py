"""Batches for training and evaluation: order, draws and labels joined with what DALI makes of the pictures."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipeline.artifacts import ShardSet, ShardSplit, Split
from pipeline.augment.color import build_color_statistics
from pipeline.augment.dali import BatchStream, FixedViews, Graph, Samples
from pipeline.augment.damage import Damage
from pipeline.augment.draws import TrainSampler, compute_normalization
from pipeline.augment.geometry import Views, build_views
from pipeline.augment.order import select_evaluation
from pipeline.config import AugmentConfig
from pipeline.distributed import World
from pipeline.errors import RunError, check
from pipeline.options import LoadingConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """One rank's batch on its device.

    `images` (N, C, H, W) or (N, views, C, H, W), floating point; `labels` (N,) int64; `positions` (N,) int64, the
    identity of each picture: its position in the split, on the CPU; `num_skipped` damaged pictures that it lacks.
    """

    images: Tensor
    labels: Tensor
    positions: npt.NDArray[np.int64]
    num_skipped: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchFormat:
    """How the network wants its batches: float32, float16 or bfloat16, and which memory format."""

    dtype: torch.dtype = torch.float32
    channels_last: bool = False


class TrainLoader:
    """Endless training batches from any step on; epoch after epoch without a pause between them."""

    def __init__(
        self,
        shard_set: ShardSet,
        config: AugmentConfig,
        *,
        global_batch_size: int,
        seed: int,
        world: World,
        loading: LoadingConfig,
        batch_format: BatchFormat = BatchFormat(),
    ) -> None:
        """Open the training split.

        Raises:
            InputError: crops do not fit the pictures, there are fewer pictures than one global batch, or the decoder
                cannot be had.
        """
        check_crops_fit(shard_set, config)
        self.split = shard_set.open_split("train")
        check(
            len(self.split) >= global_batch_size,
            f"{shard_set.path} has {len(self.split)} training pictures, fewer than one batch of --global-batch-size "
            f"{global_batch_size}: choose a smaller batch",
        )
        self.sampler = TrainSampler(
            config,
            build_color_statistics(shard_set.info.color, config),
            num_images=len(self.split),
            image_pixels=shard_set.info.packing.pixels,
            global_batch_size=global_batch_size,
            seed=seed,
            world=world,
        )
        graph = build_graph(shard_set, config, loading, world, batch_format)
        self.damage = Damage(split=self.split, graph=graph)
        self._left_out: dict[int, npt.NDArray[np.int64]] = {}  # by step, indices into this rank's part of the batch
        self._stream = BatchStream(graph, self._read_batch, batch_size=self.sampler.batch_size)

    @property
    def steps_per_epoch(self) -> int:
        """Global batches of an epoch."""
        return self.sampler.steps_per_epoch

    def _find_sound(self, step: int) -> npt.NDArray[np.int64]:
        """Indices into the batch of a step of the pictures that are not left out."""
        return np.setdiff1d(np.arange(self.sampler.batch_size), self._left_out.get(step, np.empty(0, np.int64)))

    def _read_batch(self, step: int) -> Samples:
        sound = self._find_sound(step)
        positions, draws = self.sampler.select(step)[sound], self.sampler.draw(step).take(sound)
        return [self.split.read(int(position)) for position in positions], draws

    def run(self, first_step: int, last_step: int) -> Iterator[Batch]:
        """Yield the batches of steps `first_step` to `last_step` - 1, counted from the start of training.

        Raises:
            RunError: a picture cannot be decoded, and such are not to be left out.
        """
        step = first_step
        self._left_out.clear()
        while step < last_step:
            if len(self._find_sound(step)) == 0:
                yield self._join(step, self._stream.graph.build_empty_batch())
                step += 1
                continue
            try:
                for images in self._stream.run(step, last_step):
                    yield self._join(step, images)
                    step += 1
            except RunError:
                raise
            except RuntimeError as error:
                positions, draws = self.sampler.select(step), self.sampler.draw(step)
                self._left_out[step] = self.damage.search(positions, draws.starts, draws.shapes, error)

    def _join(self, step: int, images: Tensor) -> Batch:
        sound = self._find_sound(step)
        positions = self.sampler.select(step)[sound]
        return join_batch(images, self.split, positions, num_skipped=self.sampler.batch_size - len(sound))


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
        loading: LoadingConfig,
        batch_format: BatchFormat = BatchFormat(),
        positions: npt.NDArray[np.int64] | None = None,
    ) -> None:
        """Open the split; `batch_size` counts views, so that ten views take no more memory than one.

        Of the split only the pictures at `positions` (N,) are yielded, where these are given.

        Raises:
            InputError: crops do not fit the pictures, there is no such split, or the decoder cannot be had.
        """
        check_crops_fit(shard_set, config)
        self.split = shard_set.open_split(split)
        wanted = np.arange(len(self.split)) if positions is None else positions
        self._share = wanted[select_evaluation(len(wanted), rank=world.rank, world_size=world.world_size)]
        self._config = config
        self._batch_size = max(1, batch_size // (10 if views == "ten" else 1))
        graph = build_graph(shard_set, config, loading, world, batch_format, views=views)
        self.damage = Damage(split=self.split, graph=graph)
        self._stream = BatchStream(graph, self._read_batch, batch_size=self._batch_size)

    def __len__(self) -> int:
        """Number of this rank's batches."""
        return math.ceil(len(self._share) / self._batch_size)

    def _select(self, number: int) -> npt.NDArray[np.int64]:
        return self._share[number * self._batch_size : (number + 1) * self._batch_size]

    def _read_batch(self, number: int) -> Samples:
        return [self.split.read(int(position)) for position in self._select(number)], None

    def run(self) -> Iterator[Batch]:
        """Yield this rank's batches, with images (N, views, C, H, W).

        Raises:
            RunError: a picture cannot be decoded, and such are not to be left out.
        """
        number = 0
        while number < len(self):
            try:
                for images in self._stream.run(number, len(self)):
                    yield join_batch(images, self.split, self._select(number))
                    number += 1
            except RunError:
                raise
            except RuntimeError as error:
                positions = self._select(number)
                starts, shapes = (np.tile(value, (len(positions), 1)) for value in self._find_decoded_part())
                damaged = positions[self.damage.search(positions, starts, shapes, error)]
                self._share = np.setdiff1d(self._share, damaged)  # later pictures move up

    def _find_decoded_part(self) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """Start (2,) and shape (2,) of what is decoded of each picture: the only view, or all of it."""
        graph = self._stream.graph
        assert graph.fixed is not None
        if len(graph.fixed.views) > 1:
            return np.zeros(2, np.int32), np.array(graph.mean_image.shape[:2], np.int32)
        (view,) = graph.fixed.views
        return np.array([view.top, view.left], np.int32), np.full(2, graph.config.crop_pixels, np.int32)


def build_graph(
    shard_set: ShardSet,
    config: AugmentConfig,
    loading: LoadingConfig,
    world: World,
    batch_format: BatchFormat,
    views: Views | None = None,
) -> Graph:
    """The graph of a training batch, or of fixed views.

    Raises:
        InputError: pictures are to be decoded on a GPU, and the batches are wanted on a CPU.
    """
    check(
        loading.decoder != "mixed" or world.device.type == "cuda",
        f"--decoder mixed decodes on a GPU, and the network runs on {world.device.type}: take auto or cpu",
    )
    fixed = None
    if views is not None:
        mean, scale = compute_normalization(config, build_color_statistics(shard_set.info.color, config))
        patches = build_views(views, image_pixels=shard_set.info.packing.pixels, crop_pixels=config.crop_pixels)
        fixed = FixedViews(views=patches, offset=-mean, divisor=scale)
    return Graph(
        config=config,
        mean_image=shard_set.read_mean_image(),
        raw=shard_set.info.packing.encoding == "raw",
        loading=loading,
        device=world.device,
        fixed=fixed,
        dtype=batch_format.dtype,
        channels_last=batch_format.channels_last,
    )


def check_crops_fit(shard_set: ShardSet, config: AugmentConfig) -> None:
    """Refuse patches that leave the stored pictures.

    Raises:
        InputError: they do.
    """
    side = shard_set.info.packing.pixels
    num_offsets = config.num_offsets if config.crop == "random" else 1
    check(
        config.crop_pixels <= side,
        f"--augment.crop-pixels {config.crop_pixels} is more than the stored {side}x{side} pictures have: choose a "
        "smaller patch, and --augment.resize-pixels where the network needs more",
    )
    check(
        config.crop_pixels + num_offsets - 1 <= side,
        f"--augment.crop-pixels {config.crop_pixels} at {num_offsets} offsets leaves the stored {side}x{side} "
        "pictures: choose a smaller patch or fewer offsets",
    )


def join_batch(images: Tensor, split: ShardSplit, positions: npt.NDArray[np.int64], *, num_skipped: int = 0) -> Batch:
    """A batch with its labels, on the device of its images."""
    labels = torch.from_numpy(split.labels[positions]).to(images.device, non_blocking=True)
    return Batch(images=images, labels=labels, positions=positions, num_skipped=num_skipped)
