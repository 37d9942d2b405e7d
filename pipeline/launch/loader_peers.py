"""How others would load the same training patches with torch's DataLoader, in as few passes as we know how.

Reading by offset from the same shards, order, draws and batches are those of our own loader, which gives them to the
peers for nothing. The recipe is the source's: a random patch, mirrored or not, less the mean image's centre.
"""

import io
import itertools
import multiprocessing
from collections.abc import Callable, Iterator
from multiprocessing import forkserver
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.io import ImageReadMode, decode_jpeg

from pipeline.artifacts import ShardSet, ShardSplit
from pipeline.augment.draws import Draws, TrainSampler
from pipeline.config import AugmentConfig
from pipeline.distributed import World

PREFETCHED_PER_WORKER = 2

Cut = Callable[[npt.NDArray[np.uint8], int, int, int], Tensor]
"""From what a shard holds, top, left and side to a patch, (side, side, 3) uint8."""


def cut_with_pillow(content: npt.NDArray[np.uint8], top: int, left: int, side: int) -> Tensor:
    """Decode with Pillow, here Pillow-SIMD; only the patch is copied out of it."""
    image = Image.open(io.BytesIO(content.tobytes())).crop((left, top, left + side, top + side))
    return torch.from_numpy(np.array(image))


def cut_with_torchvision(content: npt.NDArray[np.uint8], top: int, left: int, side: int) -> Tensor:
    """Decode with `decode_jpeg`, whose result has its channels last in memory already."""
    pixels: Tensor = decode_jpeg(torch.from_numpy(content.copy()), ImageReadMode.RGB)
    return pixels[:, top : top + side, left : left + side].permute(1, 2, 0)


def cut_pixels(pixels: npt.NDArray[np.uint8], top: int, left: int, side: int) -> Tensor:
    """Copy the patch out of stored pixels, which are read-only."""
    return torch.from_numpy(pixels[top : top + side, left : left + side].copy())


class Pick(NamedTuple):
    """One picture of a batch on its way to a worker: position in the split, patch in pixels, mirrored or not."""

    position: int
    top: int
    left: int
    mirror: int


class TrainPatches(Dataset[tuple[Tensor, int]]):
    """Patches (side, side, 3) uint8 with their labels; the shards are opened by the worker that reads them."""

    def __init__(self, shard_set: ShardSet, side: int, cut: Cut) -> None:
        self._shard_set, self._side, self._cut = shard_set, side, cut
        self._split: ShardSplit | None = None

    def __getitem__(self, pick: Pick) -> tuple[Tensor, int]:
        """Read, decode, cut and mirror one picture."""
        if self._split is None:
            self._split = self._shard_set.open_split("train")
        patch = self._cut(self._split.read(pick.position), pick.top, pick.left, self._side)
        return patch.flip(1) if pick.mirror else patch, int(self._split.labels[pick.position])


def start_server() -> None:
    """Start the process that workers are forked from, which imports all that they need once.

    Whoever starts it first decides what it imports, so call this before anything else starts workers.
    """
    multiprocessing.set_forkserver_preload([__name__])
    forkserver.ensure_running()


def run_data_loader(
    shard_set: ShardSet, config: AugmentConfig, cut: Cut, *, sampler: TrainSampler, num_workers: int, world: World
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batch after batch from step 0 on, without end.

    The workers hand over uint8, a quarter of the bytes; this process does the float work, on the device.

    Args:
        shard_set: where the pictures lie.
        config: the source's augmentation.
        cut: decodes and cuts a picture.
        sampler: order and draws.
        num_workers: processes that read, decode, cut and mirror; each computes on one thread.
        world: holds the device.

    Yields:
        Images (N, 3, side, side) float32 and labels (N,) int64, both on the device.
    """
    assert (config.crop, config.mean, config.resize_pixels, config.gray) == ("random", "centered", None, False)
    on_gpu = world.device.type == "cuda"
    loader = DataLoader(
        TrainPatches(shard_set, config.crop_pixels, cut),
        batch_sampler=PickSampler(sampler),
        num_workers=num_workers,
        prefetch_factor=PREFETCHED_PER_WORKER,
        multiprocessing_context="forkserver",  # a fork beside DALI's threads hangs
        pin_memory=on_gpu,
    )
    mean_image = shard_set.read_mean_image()
    middle = (mean_image.shape[0] - config.crop_pixels) // 2
    part = slice(middle, middle + config.crop_pixels)
    mean = torch.from_numpy(mean_image[part, part]).permute(2, 0, 1).contiguous().to(world.device)
    normalize = normalize_batch if on_gpu else normalize_in_turn
    for step, (patches, labels) in enumerate(loader):
        moved = patches.to(world.device, non_blocking=True)
        yield normalize(moved, mean, sampler.draw(step)), labels.to(world.device, non_blocking=True)


class PickSampler:
    """The order and the crops of `TrainSampler`, batch after batch, as DataLoader wants them."""

    def __init__(self, sampler: TrainSampler) -> None:
        self._sampler = sampler

    def __iter__(self) -> Iterator[list[Pick]]:
        for step in itertools.count():
            draws = self._sampler.draw(step)
            columns = (self._sampler.select(step), *draws.starts.T, draws.mirrors)
            yield [Pick(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def normalize_batch(patches: Tensor, mean: Tensor, draws: Draws) -> Tensor:
    """Subtract the mean image, shift the colours and divide, for the whole batch at once.

    Args:
        patches: (N, side, side, 3) uint8, mirrored already.
        mean: (3, side, side) float32.
        draws: `mirrors`, `offsets` and `divisors` of the N pictures.

    Returns:
        (N, 3, side, side) float32.
    """
    mirrors, offsets, divisors = (
        torch.from_numpy(values).to(patches.device, non_blocking=True)
        for values in (draws.mirrors, draws.offsets, draws.divisors)
    )
    means = torch.stack([mean, mean.flip(-1)])[mirrors]
    images = patches.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    return images.sub_(means).add_(offsets[:, :, None, None]).div_(divisors[:, :, None, None])


def normalize_in_turn(patches: Tensor, mean: Tensor, draws: Draws) -> Tensor:
    """The same picture by picture, which stay in the processor's cache from one pass to the next."""
    num_images, side, _, num_channels = patches.shape
    images = torch.empty(num_images, num_channels, side, side)
    means = (mean, mean.flip(-1))
    offsets = torch.from_numpy(draws.offsets)[:, :, None, None]
    divisors = torch.from_numpy(draws.divisors)[:, :, None, None]
    for image, patch, mirror, offset, divisor in zip(
        images, patches.permute(0, 3, 1, 2), draws.mirrors, offsets, divisors, strict=True
    ):
        image.copy_(patch).sub_(means[mirror]).add_(offset).div_(divisor)
    return images
